//! An executor that runs nothing and obeys variables of the job, for tests of everything around jobs:
//!
//! | variable | effect |
//! |---|---|
//! | `FAKE_OUTPUT` | is the output of the script |
//! | `FAKE_EXIT_CODE` | how it ends; 0 when absent |
//! | `FAKE_SIGNAL` | this signal ends it |
//! | `FAKE_SLEEP_MS` | so long it runs, by tokio's clock |
//! | `FAKE_FAILS` | only so many first attempts end badly (exit code 1 unless given), later ones well |
//! | `FAKE_IGNORE_TERM` | `true`: only a kill ends it early |
//! | `FAKE_PREPARE_ERROR` | there is no place: a runner system failure with this text |
//!
//! `after_script` always ends well, at once. Nothing is packed or unpacked.

use crate::executor::{ExecutorError, Exit, Place, Running, Site, Step, Stop};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Runs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fake;

/// No place.
#[derive(Debug)]
pub struct FakeExecution {
    site: Site,
    attempt: u32,
}

impl Fake {
    pub(crate) fn prepare(&self, place: &Place) -> Result<FakeExecution, ExecutorError> {
        if let Some(text) = find(&place.variables, "FAKE_PREPARE_ERROR") {
            return Err(ExecutorError::system("preparing a fake place", text));
        }
        let builds = PathBuf::from("/builds");
        let project = builds.join(&place.project);
        let temporary = builds.join(format!("{}.tmp", place.project));
        let site = Site { builds, project, temporary, slot: 0, disposable: true };
        Ok(FakeExecution { site, attempt: place.attempt })
    }
}

impl FakeExecution {
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn start(&mut self, step: &Step) -> Running {
        let number = |name: &str| find(&step.environment, name).and_then(|text| text.parse::<i32>().ok());
        // only the script itself runs while the job's status is not known yet
        let main = find(&step.environment, "CI_JOB_STATUS").is_none_or(|status| status == "running");
        let fails = number("FAKE_FAILS").and_then(|first| u32::try_from(first).ok());
        let end = match (main, fails) {
            (false, _) => Exit::Code(0),
            (true, Some(first)) if self.attempt > first => Exit::Code(0),
            (true, Some(_)) => Exit::Code(number("FAKE_EXIT_CODE").unwrap_or(1)),
            (true, None) => Exit::Code(number("FAKE_EXIT_CODE").unwrap_or(0)),
        };
        let end = number("FAKE_SIGNAL").filter(|_| main).map_or(end, Exit::Signal);
        let sleep =
            number("FAKE_SLEEP_MS").filter(|_| main).and_then(|text| u64::try_from(text).ok()).unwrap_or(0);
        let patient = find(&step.environment, "FAKE_IGNORE_TERM") == Some("true");
        let output = find(&step.environment, "FAKE_OUTPUT").filter(|_| main).unwrap_or_default().to_owned();
        let (stop, stops) = mpsc::unbounded_channel();
        let (exited, exit) = oneshot::channel();
        tokio::spawn(async move {
            let end = pretend(Duration::from_millis(sleep), end, patient, stops).await;
            // the job may have gone; there is nobody to tell then
            let _ = exited.send(Ok(end));
        });
        Running { output: Box::new(io::Cursor::new(output.into_bytes())), exit, stop }
    }
}

async fn pretend(
    sleep: Duration,
    end: Exit,
    patient: bool,
    mut stops: mpsc::UnboundedReceiver<Stop>,
) -> Exit {
    let sleep = tokio::time::sleep(sleep);
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = &mut sleep => return end,
            stop = stops.recv() => match stop {
                Some(Stop::Terminate) if patient => {}
                Some(Stop::Terminate) => return Exit::Signal(15),
                Some(Stop::Kill) | None => return Exit::Signal(9),
            },
        }
    }
}

fn find<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
