//! Rules that one job shows.

use super::bench::{Bench, Report};
use crate::executor::Executor;
use crate::job::{Cancel, Outcome};
use pipelines::plan::JobVariable;
use pipelines::status::FailureReason;
use std::time::Duration;

/// Where a rule can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Where scripts run.
    Scripts,
    /// Everywhere: what the script does, `FAKE_*` variables say.
    Everywhere,
}

/// How a job is expected to end.
#[derive(Clone, Copy)]
enum Expected {
    Success,
    Exit(i32),
    Fails(FailureReason),
    Canceled,
}

/// One rule and the job that shows it.
pub(super) struct Case {
    pub(super) rule: &'static str,
    place: Where,
    script: &'static [&'static str],
    after_script: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    masked: &'static [(&'static str, &'static str)],
    timeout: Option<f64>,
    grace: Duration,
    output_limit: Option<u64>,
    cancel: Option<(Cancel, &'static str)>,
    expected: Expected,
    log: &'static [&'static str],
    not_log: &'static [&'static str],
}

const PLAIN: Case = Case {
    rule: "",
    place: Where::Scripts,
    script: &[],
    after_script: &[],
    variables: &[],
    masked: &[],
    timeout: None,
    grace: Duration::from_secs(60),
    output_limit: None,
    cancel: None,
    expected: Expected::Success,
    log: &[],
    not_log: &[],
};

/// A script that goes on until it is stopped, everywhere.
const ENDLESS: Case = Case {
    place: Where::Everywhere,
    script: &["echo read''y", "sleep 1000"],
    variables: &[("FAKE_OUTPUT", "ready\n"), ("FAKE_SLEEP_MS", "1000000")],
    ..PLAIN
};

/// A script that does not listen to SIGTERM.
const STUBBORN: Case = Case {
    script: &["trap '' TERM", "echo read''y", "while :; do sleep 1000; done"],
    variables: &[("FAKE_OUTPUT", "ready\n"), ("FAKE_SLEEP_MS", "1000000"), ("FAKE_IGNORE_TERM", "true")],
    ..ENDLESS
};

pub(super) const CASES: &[Case] = &[
    Case {
        rule: "a script that ends well is a success",
        place: Where::Everywhere,
        script: &["echo out''put"],
        variables: &[("FAKE_OUTPUT", "output\n")],
        log: &["output\n", "Job succeeded", "section_start:", ":step_script\r"],
        ..PLAIN
    },
    Case {
        rule: "the exit code is that of the command that failed",
        place: Where::Everywhere,
        script: &["(exit 42)", "echo unreach''ed"],
        variables: &[("FAKE_EXIT_CODE", "42")],
        expected: Expected::Exit(42),
        log: &["ERROR: Job failed: exit code 42"],
        not_log: &["unreached"],
        ..PLAIN
    },
    Case {
        rule: "a shell that a signal ends exits with 128 and the signal",
        place: Where::Everywhere,
        script: &["kill -KILL $$; sleep 1000"],
        variables: &[("FAKE_SIGNAL", "9")],
        expected: Expected::Exit(137),
        ..PLAIN
    },
    Case {
        rule: "standard output and standard error keep their order",
        script: &["for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done"],
        log: &["o1\ne1\no2\ne2\no3\ne3\no4\ne4\no5\ne5\no6\ne6\no7\ne7\no8\ne8\no9\ne9\n"],
        ..PLAIN
    },
    Case {
        rule: "the last line needs no line feed, and lots of output is complete",
        script: &["i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done; printf la''st"],
        log: &["line 1\n", "line 5000\n", "last\nsection_end:"],
        ..PLAIN
    },
    Case {
        rule: "what is still in the pipe when the script ends is not lost",
        script: &["burst=$(head -c 50000 /dev/zero | tr '\\0' x)", "printf '%s the e''nd' \"$burst\""],
        log: &["xxx the end\nsection_end:"],
        ..PLAIN
    },
    Case {
        rule: "a line without end is no trouble",
        script: &["head -c 20000000 /dev/zero | tr '\\0' x; echo the e''nd"],
        output_limit: Some(1000),
        log: &["xxx", "exceeded limit of 1000 bytes", "Job succeeded"],
        ..PLAIN
    },
    Case {
        rule: "noise is no trouble",
        script: &["head -c 100000 /dev/urandom | tr '\\200-\\377' '\\000-\\177'", "echo; echo the e''nd"],
        log: &["the end\n", "Job succeeded"],
        ..PLAIN
    },
    Case {
        rule: "a script that closes its output runs on, and its exit code counts",
        script: &["exec >&- 2>&-; sleep 0.1; exit 6"],
        expected: Expected::Exit(6),
        ..PLAIN
    },
    Case {
        rule: "what left its session ends with the script, too",
        script: &["(setsid sleep 1000 >/dev/null 2>&1 &) & echo star''ted"],
        log: &["started", "Job succeeded"],
        ..PLAIN
    },
    Case {
        rule: "masked values are hidden, encoded or cut in pieces",
        script: &[
            "echo $TOKEN",
            "printf %s \"$TOKEN\" | base64",
            "printf hunter; sleep 0.05; echo 2hunter2",
            "echo $PLAIN",
        ],
        variables: &[("PLAIN", "not hidden")],
        masked: &[("TOKEN", "hunter2hunter2")],
        log: &["[MASKED]", "not hidden"],
        not_log: &["hunter2hunter2", "aHVudGVyMmh1bnRlcj"],
        ..PLAIN
    },
    Case {
        rule: "masked values are hidden wherever the output comes from",
        place: Where::Everywhere,
        script: &["echo hunter2''hunter2"],
        variables: &[("FAKE_OUTPUT", "hunter2hunter2\n")],
        masked: &[("TOKEN", "hunter2hunter2")],
        log: &["[MASKED]"],
        not_log: &["hunter2hunter2"],
        ..PLAIN
    },
    Case {
        rule: "output beyond the limit is cut, and the job goes on",
        place: Where::Everywhere,
        script: &["i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo 0123456789; done; echo the e''nd"],
        variables: &[("FAKE_OUTPUT", "0123456789 0123456789 0123456789 0123456789 0123456789 the end")],
        output_limit: Some(40),
        log: &["exceeded limit of 40 bytes", "Job succeeded"],
        not_log: &["the end"],
        ..PLAIN
    },
    Case {
        rule: "cancelling stops the script and runs after_script with the status",
        after_script: &["echo after: $CI_JOB_STATUS"],
        place: Where::Scripts,
        cancel: Some((Cancel::Graceful, "ready\n")),
        expected: Expected::Canceled,
        log: &["after: canceled", "ERROR: Job canceled"],
        ..ENDLESS
    },
    Case {
        rule: "cancelling ends a job anywhere",
        cancel: Some((Cancel::Graceful, "ready\n")),
        expected: Expected::Canceled,
        ..ENDLESS
    },
    Case {
        rule: "a script that ignores SIGTERM is killed after the grace time",
        cancel: Some((Cancel::Graceful, "ready\n")),
        grace: Duration::from_millis(200),
        expected: Expected::Canceled,
        ..STUBBORN
    },
    Case {
        rule: "an urgent cancel kills at once and skips after_script",
        after_script: &["echo aft''er"],
        cancel: Some((Cancel::Kill, "ready\n")),
        expected: Expected::Canceled,
        not_log: &["after\n"],
        ..STUBBORN
    },
    Case {
        rule: "a job beyond its timeout fails, without after_script",
        after_script: &["echo aft''er"],
        timeout: Some(0.5),
        expected: Expected::Fails(FailureReason::JobExecutionTimeout),
        not_log: &["after\n"],
        ..ENDLESS
    },
    Case {
        rule: "RUNNER_SCRIPT_TIMEOUT leaves time for after_script",
        place: Where::Scripts,
        variables: &[("RUNNER_SCRIPT_TIMEOUT", "300ms")],
        after_script: &["echo after: $CI_JOB_STATUS"],
        expected: Expected::Fails(FailureReason::JobExecutionTimeout),
        log: &["after: failed"],
        ..ENDLESS
    },
    Case {
        rule: "after_script runs in a shell of its own and fails nothing",
        script: &["X=1; cd /"],
        after_script: &["echo \"x=$X pwd=$(pwd) status=$CI_JOB_STATUS\"; exit 3"],
        log: &["x= pwd=", "/group/app status=success", "WARNING: after_script failed"],
        ..PLAIN
    },
    Case {
        rule: "after_script fails the job when AFTER_SCRIPT_IGNORE_ERRORS is false",
        script: &["true"],
        after_script: &["exit 3"],
        variables: &[("AFTER_SCRIPT_IGNORE_ERRORS", "false")],
        expected: Expected::Exit(3),
        ..PLAIN
    },
    Case {
        rule: "after_script sees files of the script and GITLAB_ENV, and a failed status",
        script: &["echo made >made; echo \"HANDED=over; here\" >>\"$GITLAB_ENV\"", "false"],
        after_script: &["echo \"$(cat made) $HANDED $CI_JOB_STATUS\""],
        expected: Expected::Exit(1),
        log: &["made over; here failed"],
        ..PLAIN
    },
    Case {
        rule: "what a script leaves running ends with it",
        script: &["sleep 1000 & echo star''ted"],
        log: &["started", "Job succeeded"],
        ..PLAIN
    },
    Case {
        rule: "the sources are there and the directory is CI_PROJECT_DIR",
        script: &[
            "cat README",
            "[ \"$PWD\" = \"$CI_PROJECT_DIR\" ]",
            "[ -d \"$CI_BUILDS_DIR\" ]",
            "echo new >README",
        ],
        log: &["read me\n"],
        ..PLAIN
    },
    Case {
        rule: "GIT_STRATEGY none leaves the project directory empty",
        script: &["[ -z \"$(ls -A)\" ]"],
        variables: &[("GIT_STRATEGY", "none")],
        ..PLAIN
    },
    Case {
        rule: "variables reach the script as they are",
        script: &["printf '<%s>' \"$ODD\" \"$CI_JOB_NAME\" \"$CI_SERVER\" \"$REFERS\"", "[ -z \"$(cat)\" ]"],
        variables: &[("ODD", "a'b\"c `id` \\ *\n$$HOME;#"), ("REFERS", "$CI_JOB_NAME/$UNKNOWN")],
        log: &["<a'b\"c `id` \\ *\n$HOME;#><job><yes><job/>"],
        ..PLAIN
    },
    Case {
        rule: "the environment of this process stays outside",
        script: &["[ -z \"$CARGO_MANIFEST_DIR\" ]", "[ -n \"$PATH\" ]"],
        ..PLAIN
    },
    Case {
        rule: "a place that can't be made is a failure of the runner",
        place: Where::Everywhere,
        script: &["true"],
        variables: &[("FAKE_PREPARE_ERROR", "no place")],
        ..PLAIN
    },
];

impl Case {
    pub(super) fn applies(&self, executor: &Executor) -> bool {
        !matches!(executor, Executor::Fake(_)) || self.place == Where::Everywhere
    }

    pub(super) async fn run(&self, executor: &Executor) -> Result<(), String> {
        let mut bench = Bench::new(executor).map_err(|error| error.to_string())?;
        bench.run.grace = self.grace;
        bench.run.output_limit = self.output_limit.unwrap_or(bench.run.output_limit);
        let mut job = Bench::job("job", self.script);
        job.work.after_script = self.after_script.iter().map(|text| (*text).to_owned()).collect();
        job.work.timeout = self.timeout;
        job.environment_variables = self
            .variables
            .iter()
            .map(|(key, value)| Bench::variable(key, value))
            .chain(
                self.masked
                    .iter()
                    .map(|(key, value)| JobVariable { masked: true, ..Bench::variable(key, value) }),
            )
            .collect();
        let report = bench.attempt(job, 1, self.cancel).await.map_err(|error| error.to_string())?;
        self.judge(executor, &report)?;
        if report.nothing_runs().await { Ok(()) } else { Err("a process of the job still runs".to_owned()) }
    }

    fn judge(&self, executor: &Executor, report: &Report) -> Result<(), String> {
        let fake_failure = self.variables.iter().any(|(key, _)| *key == "FAKE_PREPARE_ERROR");
        let expected = match (executor, self.expected) {
            (Executor::Fake(_), _) if fake_failure => Expected::Fails(FailureReason::RunnerSystemFailure),
            (_, expected) => expected,
        };
        let ended = match (expected, &report.outcome) {
            (Expected::Success, Outcome::Success) | (Expected::Canceled, Outcome::Canceled) => true,
            (
                Expected::Exit(code),
                Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code, .. },
            ) => *exit_code == Some(code),
            (Expected::Fails(wanted), Outcome::Failed { reason, .. }) => *reason == wanted,
            _ => false,
        };
        if !ended {
            return Err(format!("it ended with {:?}\n{}", report.outcome, report.log));
        }
        if report.announced != report.log.len() as u64 {
            return Err(format!(
                "the last event said {} bytes, there are {}",
                report.announced,
                report.log.len()
            ));
        }
        for text in self.log {
            if !report.log.contains(text) {
                return Err(format!("the log lacks {text:?}: {:?}", report.log));
            }
        }
        for text in self.not_log {
            if report.log.contains(text) {
                return Err(format!("the log has {text:?}: {:?}", report.log));
            }
        }
        Ok(())
    }
}
