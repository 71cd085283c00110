//! The course of one attempt.

use super::courier::Brought;
use super::environment::{Moment, compose};
use super::outcome::End;
use super::spec::{Cancel, JobSpec};
use crate::archive::State;
use crate::executor::{Execution, Executor, ExecutorError, Said, Voice};
use crate::log::{JobLog, JobLogOptions, Tone, coverage};
use crate::variables::Variables;
use pipelines::event::{EventKind, Phase};
use pipelines::schedule::Outcome;
use pipelines::status::{FailureReason, Status};
use std::time::SystemTime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// Runs one attempt of a job to its end. Phases, log growth and notices go to `events`; the log and the
/// artifacts to [`JobSpec::dir`]. Never panics, never leaves anything running.
pub async fn run(
    spec: JobSpec,
    executor: &Executor,
    events: UnboundedSender<EventKind>,
    cancel: watch::Receiver<Cancel>,
) -> Outcome {
    let path = spec.log();
    let limit = spec.run.output_limit;
    let options =
        JobLogOptions { job: spec.job.name.clone(), path: path.clone(), limit, events: events.clone() };
    let failed = |error: std::io::Error| Outcome::Failed {
        reason: FailureReason::RunnerSystemFailure,
        exit_code: None,
        message: Some(format!("writing the log `{}`: {error}", path.display())),
    };
    let log = match JobLog::open(options) {
        Ok(log) => log,
        Err(error) => return failed(error),
    };
    let mut attempt = Attempt::new(&spec, executor, log, events, cancel);
    let outcome = attempt.whole().await;
    let outcome = attempt.close(outcome);
    match attempt.log.finish() {
        Err(error) if outcome == Outcome::Success => failed(error),
        _ => outcome,
    }
}

/// One attempt under way.
pub(super) struct Attempt<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) executor: &'a Executor,
    pub(super) log: JobLog,
    pub(super) events: UnboundedSender<EventKind>,
    pub(super) cancel: watch::Receiver<Cancel>,
    pub(super) started: SystemTime,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// What the job's processes see; complete after `prepare`.
    pub(super) variables: Variables,
    pub(super) dotenv: Vec<(String, String)>,
    /// The caches that were restored, and how their files stood.
    pub(super) restored: Vec<(String, State)>,
    /// The sources, once they are known.
    pub(super) brought: Brought,
    /// What the executor says, and with which voice.
    pub(super) said: UnboundedReceiver<Said>,
    pub(super) voice: Voice,
}

impl<'a> Attempt<'a> {
    fn new(
        spec: &'a JobSpec,
        executor: &'a Executor,
        log: JobLog,
        events: UnboundedSender<EventKind>,
        cancel: watch::Receiver<Cancel>,
    ) -> Attempt<'a> {
        let asked = spec.job.work.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let timeout = asked.unwrap_or(spec.run.timeout);
        let now = Instant::now();
        let (voice, said) = Voice::new();
        Attempt {
            spec,
            executor,
            log,
            events,
            cancel,
            started: SystemTime::now(),
            timeout,
            // a timeout beyond what the clock can count is none
            deadline: now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365)),
            variables: Variables::default(),
            dotenv: Vec::new(),
            restored: Vec::new(),
            brought: Brought {
                checkout: spec.run.checkout.clone(),
                sources: spec.sources.clone(),
                tracked: spec.run.tracked.clone(),
            },
            said,
            voice,
        }
    }

    async fn whole(&mut self) -> Result<(), End> {
        self.phase(Phase::Prepare, "Preparing the place to run");
        let mut execution = self.prepare().await?;
        let result = self.inside(&mut execution).await;
        self.phase(Phase::Cleanup, "Cleaning up");
        self.pass_on_all();
        if let Err(error) = execution.cleanup().await {
            // the outcome of the job stands; the place is swept by the next one
            self.warn(&error.message);
        }
        // services have ended with it
        self.pass_on_all();
        result
    }

    /// Everything between preparing and cleaning up.
    async fn inside(&mut self, execution: &mut Execution) -> Result<(), End> {
        self.settle(execution).await?;
        self.get_sources(execution).await?;
        self.restore_caches(execution).await?;
        self.download_artifacts(execution).await?;
        self.check()?;
        let mut result = self.script(execution).await;
        if result.is_ok() {
            result = self.release(execution).await;
        }
        if *self.cancel.borrow() == Cancel::Kill {
            return Err(End::Canceled);
        }
        // a script that its own, shorter timeout ended leaves time for the rest
        if result.is_err() && Instant::now() >= self.deadline {
            return result;
        }
        // the place can't be trusted with another script
        let broken = FailureReason::RunnerSystemFailure;
        if matches!(&result, Err(End::Failed { reason, .. }) if *reason == broken) {
            return result;
        }
        if matches!(&result, Err(End::Failed { .. }))
            && self.spec.run.debug.as_ref() == Some(&self.spec.job.name)
        {
            self.debug(execution).await;
        }
        let after = self.after_script(execution, status_of(&result)).await;
        result = result.and(after);
        self.archive_caches(execution, status_of(&result)).await;
        let uploaded = self.upload_artifacts(execution, status_of(&result)).await;
        result = result.and(uploaded);
        if result.is_ok() && *self.cancel.borrow() != Cancel::No {
            return Err(End::Canceled);
        }
        result
    }

    /// Puts the variables together, now that the place is known, and writes the file variables.
    async fn settle(&mut self, execution: &mut Execution) -> Result<(), End> {
        self.dotenv = self.dotenv_of_sources()?;
        let site = execution.site().clone();
        let composed = self.compose(Some(&site));
        let resolved = composed.resolve(&site.temporary);
        let contents = resolved.files.iter().filter(|file| file.masked).map(|file| file.content.as_str());
        for value in resolved.variables.masked().chain(contents) {
            self.log.hide(value);
        }
        self.variables = resolved.variables;
        self.write_files(execution, &resolved.files).await
    }

    pub(super) fn compose(&self, site: Option<&crate::executor::Site>) -> Variables {
        let moment = Moment { started: self.started, timeout: self.timeout, dotenv: &self.dotenv, site };
        compose(self.spec, &moment)
    }

    /// Ends the attempt between phases when it was cancelled or its time is up.
    pub(super) fn check(&self) -> Result<(), End> {
        if *self.cancel.borrow() != Cancel::No {
            return Err(End::Canceled);
        }
        if Instant::now() >= self.deadline { Err(self.timed_out()) } else { Ok(()) }
    }

    /// Waits for work that is not a step of the job, and passes on what is said meanwhile. Being cancelled as urgently
    /// as `obeys`, or the end of the job's time, does not wait for it.
    pub(super) async fn unless_ended<T>(
        &mut self,
        work: impl Future<Output = Result<T, ExecutorError>>,
        obeys: Cancel,
    ) -> Result<T, End> {
        let (deadline, mut cancel) = (self.deadline, self.cancel.clone());
        let canceled = async move {
            // a sender that is gone can't cancel any more
            if cancel.wait_for(|level| *level >= obeys).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(canceled);
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break Ok(done?),
                Some(said) = self.said.recv() => self.pass_on(said),
                () = &mut canceled => break Err(End::Canceled),
                () = tokio::time::sleep_until(deadline) => break Err(self.timed_out()),
            }
        };
        self.pass_on_all();
        done
    }

    pub(super) fn timed_out(&self) -> End {
        End::timeout(self.timeout, "the job's `timeout`")
    }

    /// Announces a phase and opens its section in the log.
    pub(super) fn phase(&mut self, phase: Phase, title: &str) {
        let section = match phase {
            Phase::Prepare => "prepare_executor",
            Phase::GetSources => "get_sources",
            Phase::RestoreCache => "restore_cache",
            Phase::DownloadArtifacts => "download_artifacts",
            Phase::Script => "step_script",
            Phase::AfterScript => "after_script",
            Phase::ArchiveCache => "archive_cache",
            Phase::UploadArtifacts => "upload_artifacts",
            Phase::Cleanup => "cleanup_file_variables",
        };
        self.log.section(section, title);
        // nobody listening is no reason to stop a job
        let _ = self.events.send(EventKind::JobPhase { job: self.spec.job.name.clone(), phase });
    }

    /// Passes on what the executor says.
    pub(super) fn pass_on(&mut self, said: Said) {
        match said {
            Said::Line(text) => self.say(&text),
            Said::Warning(text) => self.warn(&text),
            Said::Beside(text) => self.log.beside(text),
        }
    }

    /// Passes on what the executor has said so far.
    pub(super) fn pass_on_all(&mut self) {
        while let Ok(said) = self.said.try_recv() {
            self.pass_on(said);
        }
    }

    /// A sentence for the log only.
    pub(super) fn say(&mut self, text: &str) {
        self.log.line(Tone::Plain, text);
    }

    /// A sentence for the log and for whoever watches the run.
    pub(super) fn warn(&mut self, text: &str) {
        self.log.line(Tone::Warning, &format!("WARNING: {text}"));
        self.log.notice(text);
    }

    /// The last line of the log, and the outcome with secrets masked.
    fn close(&mut self, result: Result<(), End>) -> Outcome {
        self.log.end_section();
        match result {
            Ok(()) => {
                self.tell_coverage();
                self.log.line(Tone::Good, "Job succeeded");
                Outcome::Success
            }
            Err(End::Canceled) => {
                self.log.line(Tone::Error, "ERROR: Job canceled");
                Outcome::Canceled
            }
            Err(End::Failed { reason, exit_code, message }) => {
                let message = self.log.masked(&message);
                self.log.line(Tone::Error, &format!("ERROR: Job failed: {message}"));
                Outcome::Failed { reason, exit_code, message: Some(message) }
            }
        }
    }
}

impl Attempt<'_> {
    fn tell_coverage(&mut self) {
        let Some(pattern) = &self.spec.job.work.coverage else { return };
        let job = self.spec.job.name.clone();
        match coverage(self.log.path(), pattern) {
            Ok(Some(percent)) => drop(self.events.send(EventKind::JobCoverage { job, percent })),
            Ok(None) => self.say("No line of the output tells the coverage"),
            Err(error) => self.warn(&format!("the coverage can't be read from the output: {error}")),
        }
    }
}

pub(super) fn status_of(result: &Result<(), End>) -> Status {
    match result {
        Ok(()) => Status::Success,
        Err(End::Canceled) => Status::Canceled,
        Err(End::Failed { .. }) => Status::Failed,
    }
}
