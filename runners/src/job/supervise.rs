//! Watches a running step: its output, its end, the clock, and people who want it to end.

use super::spec::Cancel;
use crate::executor::{ExecutorError, Exit, Running, Said, Stop};
use crate::log::JobLog;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, sleep_until};

/// A process that left its group may hold the output open; so long we still listen after the shell's end.
const DRAIN: Duration = Duration::from_secs(2);
/// A killed process that is still there after this waits for a device; nothing we do helps.
const GIVE_UP: Duration = Duration::from_secs(10);

/// When a step is made to end.
pub(super) struct Rules<'a> {
    pub(super) deadline: Instant,
    pub(super) grace: Duration,
    pub(super) cancel: &'a mut watch::Receiver<Cancel>,
    /// Requests below this are not this step's business.
    pub(super) obeys: Cancel,
    /// What is said beside the step's output.
    pub(super) said: &'a mut mpsc::UnboundedReceiver<Said>,
}

/// Why a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Exited(Exit),
    /// At its deadline.
    TimedOut,
    /// Cancelled, gracefully or not.
    Canceled,
}

/// Passes output on until the step has ended, one way or another.
pub(super) async fn supervise(
    mut running: Running,
    log: &mut JobLog,
    rules: Rules<'_>,
) -> Result<Ended, ExecutorError> {
    let mut ending = Ending { forced: None, kill_at: None, give_up_at: None };
    let mut exited = None;
    let mut drain_until = None;
    let (mut open, mut listening) = (true, true);
    let mut buffer = vec![0; 32 * 1024];
    while exited.is_none() || open {
        let now = Instant::now();
        if exited.is_none() {
            ending.decide(now, &rules, &running)?;
        }
        if drain_until.is_some_and(|end| end <= now) {
            break;
        }
        let wake = if exited.is_some() { drain_until } else { ending.next(&rules) };
        tokio::select! {
            read = running.output.read(&mut buffer), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(length) => log.output(&buffer[..length]),
            },
            exit = &mut running.exit, if exited.is_none() => {
                let lost = |_| Err(ExecutorError::system("running a script", "its process got lost"));
                exited = Some(exit.unwrap_or_else(lost)?);
                drain_until = Some(Instant::now() + DRAIN);
            }
            changed = rules.cancel.changed(), if listening => listening = changed.is_ok(),
            Some(said) = rules.said.recv() => match said {
                Said::Line(text) | Said::Beside(text) => log.beside(text),
                Said::Warning(text) => {
                    log.notice(&text);
                    log.beside(format!("WARNING: {text}"));
                }
            },
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            () = sleep_until(log.due().unwrap_or(now)), if log.due().is_some() => log.announce(),
        }
    }
    log.end_output();
    match (ending.forced, exited) {
        (Some(forced), _) => Ok(forced),
        (None, Some(exit)) => Ok(Ended::Exited(exit)),
        (None, None) => Err(ExecutorError::system("running a script", "it ended without an exit code")),
    }
}

/// How far we are with ending the step.
struct Ending {
    forced: Option<Ended>,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
}

impl Ending {
    /// Terminates, kills or gives up, when it is time.
    fn decide(&mut self, now: Instant, rules: &Rules<'_>, running: &Running) -> Result<(), ExecutorError> {
        let cancel = *rules.cancel.borrow();
        if self.forced.is_none() {
            if cancel >= rules.obeys {
                self.forced = Some(Ended::Canceled);
            } else if now >= rules.deadline {
                self.forced = Some(Ended::TimedOut);
            }
            if self.forced.is_some() {
                // a closed channel means that the step has ended meanwhile
                let _ = running.stop.send(Stop::Terminate);
                self.kill_at = Some(now + rules.grace);
            }
        }
        let hurry = self.forced.is_some() && cancel == Cancel::Kill;
        if self.give_up_at.is_none() && (hurry || self.kill_at.is_some_and(|at| at <= now)) {
            let _ = running.stop.send(Stop::Kill);
            self.give_up_at = Some(now + GIVE_UP);
        }
        match self.give_up_at {
            Some(at) if at <= now => {
                Err(ExecutorError::system("killing a script", "its process does not end"))
            }
            _ => Ok(()),
        }
    }

    /// When there is something to decide next.
    fn next(&self, rules: &Rules<'_>) -> Option<Instant> {
        self.give_up_at.or(self.kill_at).or(Some(rules.deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::JobLogOptions;
    use tokio::sync::oneshot;

    fn log(dir: &tempfile::TempDir) -> JobLog {
        let (events, _) = mpsc::unbounded_channel();
        let path = dir.path().join("job.log");
        JobLog::open(JobLogOptions { job: "j".into(), path, limit: u64::MAX, events }).unwrap()
    }

    fn running(output: impl tokio::io::AsyncRead + Send + Unpin + 'static) -> (Running, Ends) {
        let (stop, stops) = mpsc::unbounded_channel();
        let (exited, exit) = oneshot::channel();
        (Running { output: Box::new(output), exit, stop }, Ends { exited, stops })
    }

    /// The executor's side of a step.
    struct Ends {
        exited: oneshot::Sender<Result<Exit, ExecutorError>>,
        stops: mpsc::UnboundedReceiver<Stop>,
    }

    async fn watch_over(running: Running, log: &mut JobLog, grace: u64) -> Result<Ended, ExecutorError> {
        let (_switch, mut cancel) = watch::channel(Cancel::No);
        let deadline = Instant::now() + Duration::from_secs(60);
        let grace = Duration::from_secs(grace);
        let (_nobody, mut said) = mpsc::unbounded_channel();
        let obeys = Cancel::Graceful;
        supervise(running, log, Rules { deadline, grace, cancel: &mut cancel, obeys, said: &mut said }).await
    }

    #[tokio::test]
    async fn output_that_is_there_when_the_shell_has_ended_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir);
        let (running, ends) = running(std::io::Cursor::new(vec![b'x'; 3_000_000]));
        ends.exited.send(Ok(Exit::Code(4))).unwrap();
        assert_eq!(watch_over(running, &mut log, 1).await.unwrap(), Ended::Exited(Exit::Code(4)));
        log.finish().unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("job.log")).unwrap().len(), 3_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn output_that_somebody_else_holds_open_keeps_no_job() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, _held_open) = tokio::io::duplex(16);
        let (running, ends) = running(ours);
        ends.exited.send(Ok(Exit::Code(0))).unwrap();
        assert_eq!(watch_over(running, &mut log(&dir), 1).await.unwrap(), Ended::Exited(Exit::Code(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn at_its_deadline_a_step_is_terminated_then_killed_then_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (running, mut ends) = running(tokio::io::empty());
        let begun = Instant::now();
        let error = watch_over(running, &mut log(&dir), 5).await.unwrap_err();
        assert!(error.message.contains("does not end"), "{error}");
        assert_eq!(
            [ends.stops.recv().await, ends.stops.recv().await],
            [Some(Stop::Terminate), Some(Stop::Kill)]
        );
        // tokio's own, stopped clock: nothing here depends on how fast the machine is
        assert_eq!(begun.elapsed().as_secs(), 60 + 5 + GIVE_UP.as_secs());
    }
}
