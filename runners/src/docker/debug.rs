//! A shell for a person in a job's container, on a terminal that the engine makes.

use super::engine::{Engine, told};
use super::step;
use crate::executor::{ExecutorError, Step, Stop};
use crate::script;
use crate::terminal::{self, Terminal};
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;
use std::io::{self, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How often the person's terminal is asked for its size.
const PULSE: Duration = Duration::from_millis(200);

/// Starts the container once more, with nothing to do but to stay, and opens the shell in it. When the person has left
/// it, the container is stopped again.
pub(super) async fn open(
    engine: &Engine,
    container: &str,
    image: &str,
    environment: Vec<(String, String)>,
) -> Result<(), ExecutorError> {
    let terminal = Terminal::take()?;
    let waits = Step { script: "while :; do sleep 60; done".to_owned(), environment: Vec::new() };
    let running = step::start(engine, container, image, waits).await?;
    let left = shell(engine, container, &terminal, environment).await;
    // a container that has ended meanwhile is what we want
    let _ = running.stop.send(Stop::Kill);
    let ended = running.exit.await;
    left.and(
        ended
            .unwrap_or_else(|_| Err(ExecutorError::system("waiting for the container", "it was lost")))
            .map(drop),
    )
}

async fn shell(
    engine: &Engine,
    container: &str,
    terminal: &Terminal,
    environment: Vec<(String, String)>,
) -> Result<(), ExecutorError> {
    let failed = |error: bollard::errors::Error| ExecutorError::system("opening a shell", told(&error));
    let command = CreateExecOptions {
        cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), script::for_a_person("container")]),
        env: Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(true),
        ..CreateExecOptions::default()
    };
    let made = engine.api.create_exec(container, command).await.map_err(failed)?;
    let options = StartExecOptions { tty: true, ..StartExecOptions::default() };
    let StartExecResults::Attached { mut output, mut input } =
        engine.api.start_exec(&made.id, Some(options)).await.map_err(failed)?
    else {
        return Err(ExecutorError::system("opening a shell", "the engine detached it"));
    };
    let mut keys = terminal.keys()?;
    let (mut typing, mut shown, mut buffer) = (true, None, [0; 4096]);
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            piece = output.next() => match piece {
                Some(Ok(piece)) => show(piece.as_ref()).map_err(terminal::failed)?,
                _ => return Ok(()),
            },
            typed = keys.read(&mut buffer), if typing => {
                let length = typed.unwrap_or_default();
                let sent = input.write_all(&buffer[..length]).await.is_ok() && input.flush().await.is_ok();
                typing = length > 0 && sent;
            }
            _ = pulse.tick() => {
                let size = terminal.size().map(|size| (size.ws_row, size.ws_col));
                if let Some((height, width)) = size.filter(|_| size != shown) {
                    shown = size;
                    // a terminal that can't be resized shows long lines oddly, no more
                    let _ = engine.api.resize_exec(&made.id, ResizeExecOptions { height, width }).await;
                }
            }
        }
    }
}

fn show(bytes: &[u8]) -> io::Result<()> {
    let mut screen = io::stdout();
    screen.write_all(bytes)?;
    screen.flush()
}
