//! The engine executor against a real dockerd and a real podman service, both started here with directories of their
//! own, and images from `scripts/test-images.sh`. Needs root; says so and passes for others.
#![cfg(target_os = "linux")]
// clippy takes the functions that the tests share for production code
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test's panic is its report")]

#[path = "../../tests/support/engine.rs"]
mod engine;
#[path = "../../tests/support/registry.rs"]
mod registry;
#[path = "docker/scenarios.rs"]
mod scenarios;

use engine::Daemon;
use registry::Registry;
use runners::conformance::suite;
use runners::docker::{Docker, Engine};
use runners::executor::Executor;

fn may_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can start an engine");
    }
    root
}

async fn conforms(daemon: &Daemon, registry: &Registry) {
    let builds = tempfile::tempdir().unwrap();
    let engine = Engine::connect(&daemon.address).await.unwrap();
    let mut docker = Docker::new(engine.clone(), builds.path().join("b"));
    docker.image = Some(registry.image("base"));
    // the smallest image is there long before the others
    let mut tiny = docker.clone();
    tiny.image = Some(registry.image("tiny"));
    let executor = Executor::Docker(tiny);
    let (mut broken, (tried, rules)) = tokio::join!(scenarios::run(&docker, registry), suite(&executor));
    assert!(tried > 25, "{tried}");
    broken.extend(rules.into_iter().map(|rule| format!("{}: {}", rule.rule, rule.seen)));
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    // jobs that were dropped are cleaned up in the background
    scenarios::until(async || daemon.left().is_empty()).await;
    let left = daemon.left();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_conforms() {
    if may_run() {
        let registry = Registry::with(&["base", "tiny", "noshell", "many", "redis"]);
        conforms(&Daemon::docker(), &registry).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_conforms() {
    if may_run() {
        let registry = Registry::with(&["base", "tiny", "noshell", "many", "redis"]);
        conforms(&Daemon::podman(), &registry).await;
    }
}
