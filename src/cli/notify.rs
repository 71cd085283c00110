//! `ci notify`: tells people, and never changes how the command around it ends.

use crate::error::{CliError, CliResult, ErrorKind};
use anstream::eprintln;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Sends a message to the incoming webhook in NOTIFY_URL (`{"text": ...}`, as Slack and Mattermost take it). With a
/// command: runs it, sends the message only if it fails, and ends with the command's own exit code, so that
/// `ci notify "Build failed" -- make compile` still fails the job.
#[derive(clap::Args)]
pub(super) struct NotifyArgs {
    /// What to say
    #[arg(value_name = "MESSAGE")]
    message: String,
    /// Command to run and watch
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(args: &NotifyArgs) -> CliResult {
    let Some((program, rest)) = args.command.split_first() else {
        return send(&text(&args.message, None));
    };
    let status = Command::new(program).args(rest).status();
    let status =
        status.map_err(|e| CliError::new(ErrorKind::Code(127), format!("starting `{program}`: {e}")));
    if status.as_ref().is_ok_and(ExitStatus::success) {
        return Ok(());
    }
    // a notifier that fails must not hide the failure that it is about
    if let Err(error) = send(&text(&args.message, status.as_ref().ok())) {
        eprintln!("ci notify: {error}");
    }
    Err(CliError::silent(ErrorKind::Code(exit_code(status?))))
}

/// As shells count: the code, or 128 and the signal's number.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// The message with where it comes from, as far as the job's environment says it.
fn text(message: &str, status: Option<&ExitStatus>) -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let place = ["CI_PROJECT_PATH", "CI_COMMIT_REF_NAME", "CI_COMMIT_SHORT_SHA", "CI_JOB_NAME"];
    let place: Vec<String> = place.into_iter().filter_map(set).collect();
    let mut text = message.to_owned();
    if let Some(status) = status {
        text += &format!(": {status}");
    }
    if !place.is_empty() {
        text += &format!(" ({})", place.join(" "));
    }
    text
}

fn send(text: &str) -> CliResult {
    let Some(url) = std::env::var("NOTIFY_URL").ok().filter(|url| !url.is_empty()) else {
        eprintln!("notice: {text}");
        eprintln!("ci notify: NOTIFY_URL is not set, so the notice went nowhere else");
        return Ok(());
    };
    // the URL gives access to the channel: it never enters a message
    let failed = |e: reqwest::Error| CliError::failed(format!("sending the notice: {}", e.without_url()));
    let client =
        reqwest::blocking::Client::builder().timeout(Duration::from_secs(20)).build().map_err(failed)?;
    let response = client.post(url).json(&serde_json::json!({ "text": text })).send().map_err(failed)?;
    response.error_for_status().map_err(failed)?;
    Ok(())
}
