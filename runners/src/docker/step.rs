//! One step: the job's container is started, reads a script, and ends.

use super::engine::{Engine, told};
use super::job_container::bind;
use super::owner;
use super::state::state_of;
use crate::executor::{ExecutorError, Exit, Running, Step, Stop};
use crate::script::{DETECT_SHELL, quote};
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions};
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

/// Bytes of output that wait for their reader.
const BUFFER: usize = 64 * 1024;
/// How long an engine may need to notice the end of a container whose output has ended.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The command of a job's container. The shell that runs the script is not process 1: that one can't be killed from
/// inside, which scripts may want. One stream for both outputs, so that their order is kept.
pub(super) fn launch() -> Vec<String> {
    let text = format!("exec 2>&1; trap : TERM; ( {DETECT_SHELL} ); exit $?");
    ["sh", "-c", &text].map(str::to_owned).to_vec()
}

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Starts the container with a script on its standard input.
pub(super) async fn start(
    engine: &Engine,
    container: &str,
    image: &str,
    step: Step,
) -> Result<Running, ExecutorError> {
    let attach =
        AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let attached = engine.api.attach_container(container, Some(attach)).await;
    // podman makes the container ready to run here already
    let AttachContainerResults { output, mut input } =
        attached.map_err(|error| not_started(&error, image))?;
    engine.api.start_container(container, None).await.map_err(|error| not_started(&error, image))?;
    let text = with_environment(&step);
    tokio::spawn(async move {
        // a shell that ends early does not read the rest
        if input.write_all(text.as_bytes()).await.is_ok() {
            let _ = input.shutdown().await;
        }
    });
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (stop, stops) = mpsc::unbounded_channel();
    let (exited, exit) = oneshot::channel();
    let watched = Watched { engine: engine.clone(), container: container.to_owned() };
    tokio::spawn(async move {
        let ended = watched.watch(output, theirs, stops).await;
        // the job may have gone; there is nobody to tell then
        let _ = exited.send(ended);
    });
    Ok(Running { output: Box::new(ours), exit, stop })
}

fn not_started(error: &Error, image: &str) -> ExecutorError {
    let why = told(error);
    let no_shell = why.contains("\"sh\"") && (why.contains("not found") || why.contains("no such file"));
    if no_shell {
        let text = format!("the image `{image}` has no `sh`, which every job's script needs ({why})");
        return ExecutorError::system("starting a shell", text);
    }
    ExecutorError::system("starting the container", why)
}

/// Names that belong to the shell itself: setting them is an error in some.
const OF_SHELLS: [&str; 5] = ["UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS"];

/// The script, and before it its variables: here nobody sees them who looks at the container or its processes.
fn with_environment(step: &Step) -> String {
    let mut text = String::new();
    for (name, value) in step.environment.iter().filter(|(name, _)| !OF_SHELLS.contains(&name.as_str())) {
        text.push_str(&format!("export {name}={}\n", quote(value)));
    }
    text + &step.script
}

/// A container that runs.
struct Watched {
    engine: Engine,
    container: String,
}

impl Watched {
    /// Passes on output, and what the step shall do, until the container has ended.
    async fn watch(
        &self,
        output: Output,
        sink: DuplexStream,
        mut stops: mpsc::UnboundedReceiver<Stop>,
    ) -> Result<Exit, ExecutorError> {
        let mut pump = std::pin::pin!(pump(output, sink));
        let mut pause = Duration::from_millis(2);
        let (mut sink, mut listening) = (None, true);
        loop {
            tokio::select! {
                left = &mut pump, if sink.is_none() => sink = Some(left),
                stop = stops.recv(), if listening => {
                    listening = stop.is_some();
                    self.stop(stop.unwrap_or(Stop::Kill)).await;
                }
                () = tokio::time::sleep(pause), if sink.is_some() => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if let Some(exit) = self.ended().await? {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    /// How it ended, if it has.
    async fn ended(&self) -> Result<Option<Exit>, ExecutorError> {
        let asked = state_of(&self.engine, &self.container).await;
        let state =
            asked.map_err(|error| ExecutorError::system("waiting for the container", told(&error)))?;
        let Some(code) = state.code else { return Ok(None) };
        let code = i32::try_from(code).unwrap_or(i32::MAX);
        Ok(Some(if state.out_of_memory && code != 0 { Exit::OutOfMemory(code) } else { Exit::Code(code) }))
    }

    async fn stop(&self, stop: Stop) {
        let done = match stop {
            Stop::Kill => {
                let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
                self.engine.api.kill_container(&self.container, Some(options)).await
            }
            Stop::Terminate => self.terminate().await,
        };
        if let Err(error) = done {
            // it has ended meanwhile, as a rule
            tracing::debug!("stopping a container: {}", told(&error));
        }
    }

    /// SIGTERM to every process but the first, from inside: the engine itself can reach the first only.
    async fn terminate(&self) -> Result<(), Error> {
        let command = CreateExecOptions {
            cmd: Some(vec!["sh", "-c", "kill -TERM -1"]),
            user: Some("0"),
            ..CreateExecOptions::default()
        };
        let made = self.engine.api.create_exec(&self.container, command).await?;
        let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
        self.engine.api.start_exec(&made.id, Some(detached)).await.map(drop)
    }
}

/// Reads to the end even when nobody listens any more: a full pipe would stop the job.
async fn pump(mut output: Output, mut sink: DuplexStream) -> DuplexStream {
    let mut heard = true;
    while let Some(Ok(piece)) = output.next().await {
        if heard {
            heard = sink.write_all(piece.as_ref()).await.is_ok();
        }
    }
    sink
}

/// Deletes what is in a directory of this machine, as the container's root.
pub(super) async fn delete_inside(engine: &Engine, image: &str, directory: &Path) {
    let name = owner::unique_name();
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["sh".to_owned()]),
        cmd: Some(["-c", "rm -rf /trash/* /trash/.[!.]* /trash/..?*"].map(str::to_owned).to_vec()),
        user: Some("0".to_owned()),
        labels: Some(owner::labels()),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(vec![bind(directory, "/trash")]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let run = async {
        engine.api.create_container(Some(options), body).await?;
        engine.api.start_container(&name, None).await?;
        loop {
            if state_of(engine, &name).await?.code.is_some() {
                return Ok::<(), Error>(());
            }
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    };
    if let Err(error) = run.await {
        tracing::debug!("deleting files of a container: {}", told(&error));
    }
    // what is left, the sweep removes
    let _ = owner::remove_container(engine, &name).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_words_for_the_shell_that_reads_the_script() {
        let odd = "a'b\"c `id` \\ *\n$HOME";
        let environment = vec![("ODD".to_owned(), odd.to_owned()), ("UID".to_owned(), "7".to_owned())];
        let text = with_environment(&Step { script: "printf %s \"$ODD\"; id -u".to_owned(), environment });
        for shell in ["sh", "bash"] {
            let mut child = std::process::Command::new(shell)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
            let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            let own = rustix::process::geteuid().as_raw();
            assert_eq!(out, format!("{odd}{own}\n"), "{shell}");
        }
    }
}
