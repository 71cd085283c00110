//! The behavioural suite against the executors that need nothing.

use runners::conformance::suite;
use runners::executor::Executor;
use runners::sandbox::{Limits, Sandbox};
use runners::{embedded::Embedded, fake::Fake, shell::Shell};
use std::path::PathBuf;

fn sandbox() -> Sandbox {
    Sandbox::with_init(PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init")))
}

#[tokio::test(flavor = "multi_thread")]
async fn shell_conforms() {
    let builds = tempfile::tempdir().unwrap();
    let (tried, broken) =
        suite(&Executor::Shell(Shell { builds: builds.path().join("b"), sandbox: sandbox() })).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 25, "{tried}");
    let left: Vec<_> = std::fs::read_dir(builds.path().join("b"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    // the job that is dropped half-way leaves its slot to the next one
    assert!(left.is_empty() || left == ["0"], "{left:?}");
}

#[tokio::test]
async fn fake_conforms() {
    let (tried, broken) = suite(&Executor::Fake(Fake)).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 8, "{tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let states = tempfile::tempdir().unwrap();
    let init = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init"));
    let embedded = Embedded {
        sandbox: sandbox(),
        states: states.path().join("s"),
        ci: init,
        image: String::new(),
        limits: Limits::default(),
    };
    let capability = embedded.sandbox.probe(&embedded.states).await;
    assert!(capability.works.is_ok(), "no sandboxes here: {:?}", capability.works);
    let (tried, broken) = suite(&Executor::Embedded(embedded)).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 25, "{tried}");
}
