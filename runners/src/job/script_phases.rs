//! The phases that run commands: the hook before the sources, `before_script` with `script`, `after_script`.

use super::attempt::Attempt;
use super::environment::go_duration;
use super::outcome::End;
use super::spec::Cancel;
use super::supervise::{Ended, Rules, supervise};
use crate::executor::{Execution, Step};
use crate::script;
use crate::variables::is_name;
use pipelines::event::Phase;
use pipelines::status::{FailureReason, Status};
use tokio::time::{Duration, Instant};

const SCRIPT_TIMEOUT: &str = "RUNNER_SCRIPT_TIMEOUT";
const AFTER_SCRIPT_TIMEOUT: &str = "RUNNER_AFTER_SCRIPT_TIMEOUT";
/// GitLab's.
const AFTER_SCRIPT_DEFAULT: Duration = Duration::from_secs(300);

/// Commands, and when they have to end.
struct Commands<'a> {
    commands: &'a [String],
    status: &'static str,
    deadline: Instant,
    obeys: Cancel,
}

impl Attempt<'_> {
    /// `hooks:pre_get_sources_script`.
    pub(super) async fn hook(&mut self, execution: &mut Execution, commands: &[String]) -> Result<(), End> {
        let deadline = self.deadline;
        let step = Commands { commands, status: "running", deadline, obeys: Cancel::Graceful };
        let ended = self.step(execution, step).await?;
        self.judge(ended)
    }

    /// `before_script` and `script`, in one shell.
    pub(super) async fn script(&mut self, execution: &mut Execution) -> Result<(), End> {
        self.phase(Phase::Script, "Running the script");
        let work = &self.spec.job.work;
        let commands: Vec<String> = work.before_script.iter().chain(&work.script).cloned().collect();
        let own = self.limit_of(SCRIPT_TIMEOUT);
        let deadline = own.and_then(|limit| Instant::now().checked_add(limit));
        let deadline = deadline.map_or(self.deadline, |own| own.min(self.deadline));
        let step = Commands { commands: &commands, status: "running", deadline, obeys: Cancel::Graceful };
        match (self.step(execution, step).await?, own) {
            (Ended::TimedOut, Some(own)) if deadline < self.deadline => {
                Err(End::timeout(own, &format!("`{SCRIPT_TIMEOUT}`")))
            }
            (ended, _) => self.judge(ended),
        }
    }

    /// `after_script`. Its failure is the job's only when `AFTER_SCRIPT_IGNORE_ERRORS` is false.
    pub(super) async fn after_script(
        &mut self,
        execution: &mut Execution,
        status: Status,
    ) -> Result<(), End> {
        let commands = self.spec.job.work.after_script.as_slice();
        if commands.is_empty() {
            return Ok(());
        }
        self.phase(Phase::AfterScript, "Running after_script");
        let limit = self.limit_of(AFTER_SCRIPT_TIMEOUT).unwrap_or(AFTER_SCRIPT_DEFAULT);
        let deadline = Instant::now().checked_add(limit).map_or(self.deadline, |own| own.min(self.deadline));
        let status = match status {
            Status::Success => "success",
            Status::Canceled => "canceled",
            _ => "failed",
        };
        // who cancels the job wants its after_script to run: only the second, urgent request ends it
        let step = Commands { commands, status, deadline, obeys: Cancel::Kill };
        let end = match self.step(execution, step).await {
            Ok(Ended::Canceled) => return Err(End::Canceled),
            Ok(Ended::Exited(exit)) if exit.code() == 0 => return Ok(()),
            Ok(Ended::Exited(exit)) => End::exit(exit),
            Ok(Ended::TimedOut) if deadline < self.deadline => {
                End::timeout(limit, &format!("`{AFTER_SCRIPT_TIMEOUT}`"))
            }
            Ok(Ended::TimedOut) => self.timed_out(),
            Err(end) => end,
        };
        if self
            .variables
            .get("AFTER_SCRIPT_IGNORE_ERRORS")
            .is_some_and(|value| value == "false" || value == "0")
        {
            return Err(end);
        }
        if let End::Failed { message, .. } = end {
            self.warn(&format!("after_script failed, the job goes on: {message}"));
        }
        Ok(())
    }

    /// Lets a person look around. That takes no time of the job's own.
    pub(super) async fn debug(&mut self, execution: &mut Execution) {
        let begun = Instant::now();
        self.say("Waiting for the shell of `--debug` to be left");
        let opened = match self.environment("failed") {
            Ok(environment) => execution.debug(environment).await.map_err(|error| error.message),
            Err(_) => Err("a variable holds a NUL character".to_owned()),
        };
        if let Err(message) = opened {
            self.warn(&format!("no shell could be opened: {message}"));
        }
        self.deadline += begun.elapsed();
    }

    fn limit_of(&mut self, name: &str) -> Option<Duration> {
        let text = self.variables.get(name)?.to_owned();
        let limit = go_duration(&text);
        if limit.is_none() {
            self.warn(&format!("`{name}` is `{text}`, which is no duration such as `10m`: ignored"));
        }
        limit
    }

    fn judge(&self, ended: Ended) -> Result<(), End> {
        match ended {
            Ended::Exited(exit) if exit.code() == 0 => Ok(()),
            Ended::Exited(exit) => Err(End::exit(exit)),
            Ended::Canceled => Err(End::Canceled),
            Ended::TimedOut => Err(self.timed_out()),
        }
    }

    async fn step(&mut self, execution: &mut Execution, commands: Commands<'_>) -> Result<Ended, End> {
        let trace = self.variables.is_true("CI_DEBUG_TRACE");
        let script = script::generate(commands.commands, trace).map_err(|error| End::Failed {
            reason: FailureReason::DataIntegrityFailure,
            exit_code: None,
            message: error.to_string(),
        })?;
        let environment = self.environment(commands.status)?;
        let running = execution.start(Step { script, environment }).await?;
        let grace = self.spec.run.grace;
        let rules = Rules {
            deadline: commands.deadline,
            grace,
            cancel: &mut self.cancel,
            obeys: commands.obeys,
            said: &mut self.said,
        };
        Ok(supervise(running, &mut self.log, rules).await?)
    }

    /// The variables for a process, with the status of the job as this script may know it.
    fn environment(&mut self, status: &str) -> Result<Vec<(String, String)>, End> {
        self.variables.put("CI_JOB_STATUS", status);
        let mut environment = Vec::new();
        for (name, value) in self.variables.iter().filter(|(name, _)| is_name(name)) {
            if value.contains('\0') {
                return Err(End::Failed {
                    reason: FailureReason::DataIntegrityFailure,
                    exit_code: None,
                    message: format!("variable `{name}` holds a NUL character: no process can have it"),
                });
            }
            environment.push((name.to_owned(), value.to_owned()));
        }
        Ok(environment)
    }
}
