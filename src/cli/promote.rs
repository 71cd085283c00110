//! `ci promote`: the very release that succeeded in one environment goes to the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::deploy::{carry_out, cli_error, digest, settings, telling};
use super::on_server::OnServer;
use super::{Format, server_deployments};
use crate::deploy::{self, Delivery, DeployFile, Kept, Request, Settings, service};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::{Approval, Fact, Ledger, standing};
use crate::promotion::{Artifact, Gate};
use crate::release::Project;

/// Puts the very release that succeeded in the environment before into the next one: its kept package, by digest,
/// nothing is built but an upgrade that it lacks. Refuses what skipped an environment, is marked bad, is frozen, or
/// lacks approvals. With `--server` the server does it
#[derive(clap::Args)]
pub(super) struct PromoteArgs {
    /// Version of the release
    version: String,
    /// Environment that it goes to
    #[arg(long, value_name = "ENV")]
    to: String,
    /// Ask, decide and check, but send nothing
    #[arg(long, conflicts_with_all = ["server", "project"])]
    plan: bool,
    /// Stop unless the plan has this digest, as `--plan` shows it (its first 12 digits or more are enough)
    #[arg(long, value_name = "DIGEST", value_parser = digest, conflicts_with_all = ["server", "project"])]
    expect: Option<String>,
    /// Do it though a rule forbids it; the reason is recorded
    #[arg(long = "override", value_name = "REASON")]
    set_aside: Option<String>,
    /// Who agreed on the server that runs this; the server has checked the rules of approvals
    #[arg(long, value_name = "PERSON", hide = true)]
    approved: Vec<String>,
    #[command(flatten)]
    on: OnServer,
    /// How the result is printed; the steps go to standard error
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &PromoteArgs) -> CliResult {
    let PromoteArgs { version, to, .. } = args;
    if args.on.is_asked() {
        let set_aside = args.set_aside.as_deref();
        return server_deployments::promote(&args.on, version, to, set_aside, args.format);
    }
    let root = Path::new(".");
    let file = file(root)?;
    let settings = settings(to)?;
    let ledger = Ledger::of(root)?;
    let entries = ledger.entries()?;
    let gate = Gate { file: &file, root, entries: &entries, now: jiff::Timestamp::now() };
    let verdict = match args.approved.is_empty() {
        true => gate.judge(to, version)?,
        false => gate.judge_agreed(to, version)?,
    };
    if settings.rules.delivery == Delivery::Bundle {
        return Err(CliError::new(ErrorKind::Refused, format!("releases come to `{to}` as bundles")).hint(
            format!("`ci bundle {to} --version {version}` makes it; `ci receipt import` records what it did"),
        ));
    }
    if verdict.missing > 0 && !args.plan && args.set_aside.is_none() {
        let release = standing::releases(&entries, version).next().map_or("", |released| &released.release);
        telling::approval_needed(root, release, version, to);
    }
    if !args.plan {
        verdict.enforce(&ledger, to, version, args.set_aside.as_deref())?;
    }
    let Some(content) = &verdict.content else {
        return Err(CliError::new(ErrorKind::Refused, format!("no package of `{version}` is kept here"))
            .hint("`ci deploy` to the first environment builds and keeps it"));
    };
    for person in args.approved.iter().filter(|_| !args.plan) {
        ledger.append(Fact::Approval(Approval {
            environment: to.clone(),
            version: version.clone(),
            content: content.clone(),
            person: person.clone(),
            signature: "given on the server; see its audit".to_owned(),
        }))?;
    }
    let artifact = match service::of(root, &settings) {
        Some(kind) => Kept::Plain(service::Artifact::kept(&entries, version, content, kind)?),
        None => {
            let project = sources(root, &settings.profile);
            Kept::Release(Arc::new(Artifact::find(&entries, version, content, project)?))
        }
    };
    let request = Request {
        settings,
        project: PathBuf::from("."),
        plan: args.plan,
        expect: args.expect.clone(),
        artifact: Some(artifact),
    };
    carry_out(&request, args.format)
}

/// `.ci/deploy.yml`, which what is done here needs.
pub(super) fn file(root: &Path) -> CliResult<DeployFile> {
    DeployFile::load(root).map_err(cli_error)?.ok_or_else(|| {
        CliError::usage(format!("there is no `{}`", DeployFile::PATH))
            .hint("it names the environments in the order of promotion; schemas/deploy.json describes it")
    })
}

/// The project as its sources stand, if they can be read.
pub(super) fn sources(root: &Path, profile: &str) -> Option<Project> {
    let (_, version) = deploy::identity(root, profile).ok()?;
    Project::open_as(root, profile, &version).ok()
}

/// Whether what the project builds may go to the environment now. Without a file there are no rules.
pub(super) fn admit(settings: &Settings, set_aside: Option<&str>) -> CliResult {
    let root = Path::new(".");
    let environment = &settings.environment;
    let Some(file) = DeployFile::load(root).map_err(cli_error)? else { return Ok(()) };
    // what can't be read is told by the deployment itself, better
    let Ok((_, version)) = deploy::identity(root, &settings.profile) else { return Ok(()) };
    if !file.environments.contains_key(environment) {
        return Ok(());
    }
    let ledger = Ledger::of(root)?;
    let entries = ledger.entries()?;
    let gate = Gate { file: &file, root, entries: &entries, now: jiff::Timestamp::now() };
    gate.admit(environment, &version)?.enforce(&ledger, environment, &version, set_aside)
}
