//! `ci notify`: tells people, and never changes how the command around it ends.

use super::print_raw;
use crate::deploy::DeployFile;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::notify::{Channels, Event, Failure, Notifier};
use crate::project::Project;
use crate::settings::{Settings, VariablesFile, closest, load_variables};
use anstream::eprintln;
use pipelines::request::ProjectVariable;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Tells people: whom `notify` in .ci/settings.yml and .ci/deploy.yml names, and the webhook in NOTIFY_URL. With a
/// command: runs it, tells only if it fails, and ends with the command's own exit code, so that
/// `ci notify "Build failed" -- make compile` still fails the job.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(disable_help_subcommand = true, after_long_help = VARIABLES)]
pub(super) struct NotifyArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// What to say
    #[arg(value_name = "MESSAGE", required = true)]
    message: Option<String>,
    /// Only these notifiers
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,
    /// Command to run and watch
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Send a trial message to every notifier, or to one, and say what came of it
    Test {
        /// A notifier's name [default: all]
        name: Option<String>,
    },
}

const VARIABLES: &str = "\
Variables, of the environment or of .ci/variables.yml:
  NOTIFY_URL     a webhook that needs no settings file
  NOTIFY_KIND    what it is: slack, mattermost, dingtalk, wecom, feishu or webhook [default: slack]
  NOTIFY_SECRET  signs what it is sent (dingtalk, feishu, webhook)
and those that `url` and `secret` of the notifiers name.";

pub(super) fn run(args: &NotifyArgs) -> CliResult {
    if let Some(Action::Test { name }) = &args.action {
        return test(name.as_ref());
    }
    let message = args.message.as_deref().unwrap_or_default();
    let Some((program, rest)) = args.command.split_first() else {
        return send(&text(message, None), &args.to);
    };
    let status = Command::new(program).args(rest).status();
    let status =
        status.map_err(|e| CliError::new(ErrorKind::Code(127), format!("starting `{program}`: {e}")));
    if status.as_ref().is_ok_and(ExitStatus::success) {
        return Ok(());
    }
    // a notifier that fails must not hide the failure that it is about
    if let Err(error) = send(&text(message, status.as_ref().ok()), &args.to) {
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
    let place = ["CI_PROJECT_PATH", "CI_COMMIT_REF_NAME", "CI_COMMIT_SHORT_SHA", "CI_JOB_NAME"];
    let place: Vec<String> = place.into_iter().filter_map(environment).collect();
    let mut text = message.to_owned();
    if let Some(status) = status {
        text += &format!(": {status}");
    }
    if !place.is_empty() {
        text += &format!(" ({})", place.join(" "));
    }
    text
}

fn send(text: &str, to: &[String]) -> CliResult {
    let channels = channels(to)?;
    if channels.is_empty() {
        eprintln!("notice: {text}");
        eprintln!("ci notify: NOTIFY_URL is not set, so the notice went nowhere else");
        return Ok(());
    }
    let failures = channels.tell(&Event::message(text));
    if failures.is_empty() {
        return Ok(());
    }
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(CliError::failed(format!("sending the notice: {}", failures.join("; "))))
}

fn test(name: Option<&String>) -> CliResult {
    let channels = channels(name.map_or(&[], std::slice::from_ref))?;
    if channels.is_empty() {
        return Err(CliError::usage("there is nobody to tell: no notifier is set up").hint(
            "name one under `notify:` in `.ci/deploy.yml` or `.ci/settings.yml`, or set `NOTIFY_URL`",
        ));
    }
    let event = Event::message("A trial message of `ci notify test`: nothing happened");
    let failures = channels.tell(&event);
    let mut failed: Vec<&Failure> = failures.iter().collect();
    let mut report = String::new();
    for name in channels.names() {
        // several may have one name; failures come in the order of the notifiers
        match failed.iter().position(|failure| failure.notifier == name) {
            Some(at) => report += &format!("FAIL  {name}: {}\n", failed.remove(at).what),
            None => report += &format!("ok    {name}\n"),
        }
    }
    print_raw(report.as_bytes())?;
    match failures.len() {
        0 => Ok(()),
        count => Err(CliError::failed(format!("{count} of {} could not be told", channels.names().count()))),
    }
}

/// All notifiers of the project and of `NOTIFY_URL`, or those of these names.
fn channels(names: &[String]) -> CliResult<Channels> {
    let root = root();
    let mut notifiers: Vec<Notifier> = from_variables()?.into_iter().collect();
    notifiers.extend(Settings::load(&root)?.notify);
    let file = DeployFile::load(&root).map_err(super::deploy::cli_error)?;
    notifiers.extend(file.unwrap_or_default().notify);
    if let Some(unknown) = names.iter().find(|name| !notifiers.iter().any(|n| n.name() == name.as_str())) {
        let known: Vec<String> = notifiers.iter().map(|n| format!("`{}`", n.name())).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        return Err(CliError::usage(format!("no notifier is named `{unknown}`"))
            .hint(format!("notifiers of `.ci/deploy.yml` and `.ci/settings.yml`: {known}")));
    }
    let channels = open(&root, &notifiers, None)?;
    Ok(if names.is_empty() { channels } else { channels.only(names) })
}

/// `NOTIFY_URL` and its companions, as a notifier named after its kind.
fn from_variables() -> CliResult<Option<Notifier>> {
    if environment("NOTIFY_URL").is_none() {
        return Ok(None);
    }
    let kind = environment("NOTIFY_KIND").unwrap_or_else(|| "slack".to_owned());
    let mut written = format!("{{kind: {kind:?}, url: NOTIFY_URL");
    if environment("NOTIFY_SECRET").is_some() {
        written += ", secret: NOTIFY_SECRET";
    }
    serde_yaml::from_str(&(written + "}"))
        .map(Some)
        .map_err(|e| CliError::usage(format!("reading `NOTIFY_KIND`: {e}")))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Top of the work tree; the current directory outside of git, as in a job whose image has no `.git`.
fn root() -> PathBuf {
    Project::discover(Path::new(".")).map_or_else(|_| PathBuf::from("."), |project| project.root().to_owned())
}

/// Notifiers with the values of their variables, from the environment or else `.ci/variables.yml`.
fn open(root: &Path, notifiers: &[Notifier], deployed_to: Option<&str>) -> CliResult<Channels> {
    let names = notifiers.iter().flat_map(|n| [Some(&n.url), n.secret.as_ref()]).flatten();
    // the file may run commands: it is only read for what the environment does not have
    let missing = names.into_iter().any(|name| environment(name).is_none());
    let file = VariablesFile { path: root.join(".ci/variables.yml"), required: false };
    let variables = if missing { load_variables(&file, &reference(root))? } else { Vec::new() };
    Ok(with_variables(notifiers, &variables, deployed_to))
}

fn reference(root: &Path) -> String {
    let facts = || Project::discover(root)?.facts(None, false);
    facts().map(|facts| facts.reference).unwrap_or_default()
}

/// Notifiers with the values of their variables: the environment's, else the project's.
pub(super) fn with_variables(
    notifiers: &[Notifier],
    variables: &[ProjectVariable],
    deployed_to: Option<&str>,
) -> Channels {
    Channels::new(notifiers, |name| {
        environment(name).or_else(|| closest(variables, name, deployed_to).map(|v| v.value.clone()))
    })
}

/// Whom a deployment to an environment is told to; nobody when the settings can't be read, which is said.
pub(super) fn of_deployment(project: &Path, environment: &str) -> Channels {
    let notifiers = match DeployFile::load(project) {
        Ok(file) => file.unwrap_or_default().notify,
        // the deployment itself refuses for it
        Err(_) => return Channels::default(),
    };
    if notifiers.is_empty() {
        return Channels::default();
    }
    open(project, &notifiers, Some(environment)).unwrap_or_else(|error| {
        eprintln!("warning: nobody is told of this deployment: {error}");
        Channels::default()
    })
}

/// Says who could not be told; that changes nothing else.
pub(super) fn warn(failures: &[Failure]) {
    for failure in failures {
        eprintln!("warning: {failure}");
    }
}
