//! The variables of one attempt: what GitLab calls persisted and runner variables around those of the plan.

use super::spec::JobSpec;
use crate::executor::Site;
use crate::script::ENVIRONMENT_FILE;
use crate::variables::Variables;
use pipelines::plan::JobVariable;
use std::time::{Duration, SystemTime};

/// Facts that are known when the job runs, and not before.
pub(super) struct Moment<'a> {
    pub(super) started: SystemTime,
    pub(super) timeout: Duration,
    pub(super) dotenv: &'a [(String, String)],
    /// None: there is no place yet; its variables are absent.
    pub(super) site: Option<&'a Site>,
}

/// All variables, by precedence: runner and persisted, the plan's, dotenv where the plan's come from the YAML or
/// below, the runner's last word.
pub(super) fn compose(spec: &JobSpec, moment: &Moment<'_>) -> Variables {
    let mut variables = Variables::default();
    persisted(spec, moment, &mut variables);
    for variable in spec.run.variables.iter().chain(&spec.job.environment_variables) {
        variables.set(variable.clone());
    }
    for (key, value) in moment.dotenv {
        if !spec.run.fixed.contains(key) {
            let (key, value) = (key.clone(), value.clone());
            variables.set(JobVariable { key, value, file: false, masked: false, raw: true });
        }
    }
    last(spec, moment, &mut variables);
    variables
}

fn persisted(spec: &JobSpec, moment: &Moment<'_>, variables: &mut Variables) {
    let started = iso8601(moment.started);
    let runner = &spec.run.runner;
    let url = format!("http://localhost/{}", spec.run.project);
    let tags = serde_json::Value::from(runner.tags.clone()).to_string();
    let facts = [
        ("CI_JOB_ID", spec.id.to_string()),
        ("CI_PIPELINE_ID", spec.run.id.to_string()),
        ("CI_JOB_NAME", spec.job.name.clone()),
        ("CI_JOB_STAGE", spec.job.stage.clone()),
        ("CI_JOB_STARTED_AT", started.clone()),
        ("CI_JOB_STARTED_AT_SLUG", slug(&started)),
        ("CI_JOB_TIMEOUT", moment.timeout.as_secs().to_string()),
        ("CI_RUNNER_ID", runner.id.to_string()),
        ("CI_RUNNER_DESCRIPTION", runner.description.clone()),
        ("CI_RUNNER_TAGS", tags),
        ("CI_RUNNER_SHORT_TOKEN", "local".to_owned()),
        ("CI_SERVER", "yes".to_owned()),
        ("CI_JOB_URL", format!("{url}/-/jobs/{}", spec.id)),
        ("CI_PIPELINE_URL", format!("{url}/-/pipelines/{}", spec.run.id)),
        ("CI_REPOSITORY_URL", format!("{url}.git")),
    ];
    for (key, value) in facts {
        variables.put(key, value);
    }
}

fn last(spec: &JobSpec, moment: &Moment<'_>, variables: &mut Variables) {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    variables.put("CI_RUNNER_VERSION", spec.run.runner.version.clone());
    variables.put("CI_RUNNER_REVISION", spec.run.runner.version.clone());
    variables.put("CI_RUNNER_EXECUTABLE_ARCH", format!("{}/{arch}", std::env::consts::OS));
    variables.put("CI_JOB_STATUS", "running");
    if let Some(image) = &spec.job.work.image {
        let name = variables.expand(&image.name);
        variables.put("CI_JOB_IMAGE", name);
    }
    if let Some(site) = moment.site {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        variables.put("CI_BUILDS_DIR", text(&site.builds));
        variables.put("CI_PROJECT_DIR", text(&site.project));
        variables.put("RUNNER_TEMP_PROJECT_DIR", text(&site.temporary));
        variables.put("GITLAB_ENV", text(&site.temporary.join(ENVIRONMENT_FILE)));
        variables.put("CI_CONCURRENT_ID", site.slot.to_string());
        variables.put("CI_CONCURRENT_PROJECT_ID", site.slot.to_string());
        let kind = if site.disposable { "CI_DISPOSABLE_ENVIRONMENT" } else { "CI_SHARED_ENVIRONMENT" };
        variables.put(kind, "true");
    }
}

/// GitLab's slug of a timestamp.
fn slug(text: &str) -> String {
    text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// UTC to the second: `2026-11-21T22:40:00Z`.
fn iso8601(time: SystemTime) -> String {
    // a clock before year -9999 or after 9999 is no clock
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A duration as Go writes it (`1h30m`, `90s`, `500ms`); a bare number is not one.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let units = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, scale) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number * scale;
        rest = &after[unit.len()..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_in_utc_to_the_second() {
        let time = std::time::UNIX_EPOCH + Duration::from_millis(951_782_399_999);
        assert_eq!(iso8601(time), "2000-02-28T23:59:59Z");
        assert_eq!(slug("2026-11-21T22:40:00Z"), "2026-11-21t22-40-00z");
    }

    #[test]
    fn durations_are_those_of_go() {
        let table = [("5m", Some(300.0)), ("1h30m", Some(5400.0)), ("1.5s", Some(1.5)), ("200ms", Some(0.2))];
        for (text, seconds) in table {
            assert_eq!(go_duration(text).map(|got| got.as_secs_f64()), seconds, "{text}");
        }
        for text in ["", "5", "m", "5 minutes", "-1s", "1..s"] {
            assert_eq!(go_duration(text), None, "{text}");
        }
    }
}
