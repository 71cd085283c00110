//! Does a container run, and if not, how did it end?

use super::engine::Engine;
use bollard::errors::Error;
use bollard::models::HealthStatusEnum;
use bollard::query_parameters::WaitContainerOptionsBuilder;
use futures_util::StreamExt;

/// State of a container that was started.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Exit code; none: it runs.
    pub(super) code: Option<i64>,
    /// Was something in it killed for want of memory?
    pub(super) out_of_memory: bool,
    /// Why it could not be started.
    pub(super) error: String,
    /// What its image's own check says.
    pub(super) health: Option<HealthStatusEnum>,
}

/// Asks the engine.
pub(super) async fn state_of(engine: &Engine, container: &str) -> Result<State, Error> {
    let state = match engine.api.inspect_container(container, None).await {
        Ok(found) => found.state.unwrap_or_default(),
        // states that only podman has: it has ended, and is not cleaned up yet; it is about to run or to end
        Err(Error::JsonDataError { message, .. }) if message.contains("unknown variant `stopped`") => {
            return Ok(State { code: Some(waited(engine, container).await?), ..State::default() });
        }
        Err(Error::JsonDataError { message, .. }) if message.contains("unknown variant") => {
            return Ok(State::default());
        }
        Err(error) => return Err(error),
    };
    let code = if state.running == Some(true) { None } else { state.exit_code };
    Ok(State {
        code,
        out_of_memory: state.oom_killed == Some(true),
        error: state.error.unwrap_or_default(),
        health: state.health.and_then(|health| health.status),
    })
}

/// The exit code of a container that has ended.
async fn waited(engine: &Engine, container: &str) -> Result<i64, Error> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    match engine.api.wait_container(container, Some(options)).next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        // a code other than 0 comes as an error
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(error),
        None => Ok(0),
    }
}
