//! Docker and Podman for `ci run`.

use crate::error::{CliError, CliResult};
use crate::settings::{Settings, State};
use anstream::eprintln;
use runners::docker::{Docker, Engine, Kind, sweep};
use runners::executor::Executor;

/// The executor of an engine that was asked for.
pub(super) async fn asked(kind: Kind, state: &State, settings: &Settings) -> CliResult<Executor> {
    let engine = Engine::find(Some(kind)).await.map_err(|e| {
        let start = match kind {
            Kind::Docker => "start it (`systemctl start docker`), or set `DOCKER_HOST` to where it listens",
            Kind::Podman => "install `podman`, or set `CONTAINER_HOST` to where its service listens",
        };
        CliError::usage(e.to_string())
            .hint(start)
            .hint("`--executor sandbox` needs no engine at all where Linux allows it")
    })?;
    executor(engine, state, settings).await
}

/// Any engine there is, where our own containers don't work; `why` is what is wrong with them. None: there is none.
pub(super) async fn instead(why: &str, state: &State, settings: &Settings) -> CliResult<Option<Executor>> {
    let Ok(engine) = Engine::find(None).await else { return Ok(None) };
    eprintln!("jobs run in containers of {engine:?}: containers of our own don't work here ({why})");
    executor(engine, state, settings).await.map(Some)
}

/// What dead runs left is removed first.
async fn executor(engine: Engine, state: &State, settings: &Settings) -> CliResult<Executor> {
    if let Err(why) = sweep(&engine).await {
        eprintln!("what earlier runs left in {engine:?} can't be removed: {why}");
    }
    let mut docker = Docker::new(engine, state.engine_builds());
    // `host` is what there is without an engine
    docker.image = settings.image.clone().filter(|name| name != "host");
    docker.limits = settings.limits.limits();
    Ok(Executor::Docker(docker))
}
