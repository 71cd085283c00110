//! An environment's targets, one after the other: the first that fails ends it.

use std::path::Path;

use super::artifact::Artifact;
use super::one::{Delivered, Order, deploy};
use crate::deploy::deployment::{Kept, Report, Request, TargetReport, agreed, facts};
use crate::deploy::error::{Error, Outcome};
use crate::deploy::file::{Kind, ReleaseSettings};
use crate::deploy::hooks;
use crate::deploy::plan::{Plan, TargetPlan};
use crate::deploy::settings::Settings;
use crate::deploy::steps::Steps;
use crate::deploy::target::Target;
use crate::release::decide::Strategy;

/// How a project is built.
pub fn kind(project: &Path, release: &ReleaseSettings) -> Kind {
    match release.kind {
        Some(kind) => kind,
        None if project.join("rebar.config").exists() => Kind::Erlang,
        None if project.join("mix.exs").exists() => Kind::Elixir,
        None => Kind::Erlang,
    }
}

/// The kind of a release that is deployed here; `None`: it is a node that release_handler upgrades.
pub fn of(project: &Path, settings: &Settings) -> Option<Kind> {
    match kind(project, &settings.release) {
        Kind::Erlang => None,
        Kind::Elixir => settings.rules.service.is_some().then_some(Kind::Elixir),
        Kind::Archive => Some(Kind::Archive),
    }
}

/// Builds the release, plans for every target, and carries the plan out.
pub(in crate::deploy) async fn run(
    request: &Request,
    kind: Kind,
    steps: &mut Steps,
    report: &mut Report,
) -> Result<(), Error> {
    let settings = &request.settings;
    let artifact = match &request.artifact {
        Some(Kept::Plain(artifact)) => artifact.clone(),
        _ => {
            let (name, version) = Artifact::identity(&request.project, &settings.release, kind)?;
            (report.release, report.version) = (name.clone(), version.clone());
            let build = Artifact::build(&request.project, &settings.release, kind, &settings.profile);
            steps.take(format!("build {name} {version}"), build).await?
        }
    };
    let (name, version) = (artifact.name.clone(), artifact.version.clone());
    (report.release, report.version) = (name.clone(), version.clone());
    report.packages = vec![artifact.whole()];
    let order = |plan| Order { artifact: &artifact, environment: &settings.rules, plan };
    let mut targets = Vec::new();
    for address in &settings.targets {
        let directory = settings.directory_of(address, &name);
        let mut target = connect(&address.destination, &directory, &name, steps).await?;
        let planned = deploy(&mut target, &order(true), steps).await;
        target.close().await;
        report.targets.push(told(address.destination.clone(), directory.clone(), planned?));
    }
    for told in &report.targets {
        let (found, decision) = (told.before.clone(), told.decision.clone());
        let (destination, directory) = (told.destination.clone(), told.directory.clone());
        targets.push(TargetPlan { destination, directory, found, decision, batch: told.batch });
    }
    let environment = settings.environment.clone();
    let plan = Plan { environment, release: name.clone(), version, content: artifact.tree.clone(), targets };
    report.digest = Some(plan.digest());
    agreed(&plan, request.expect.as_deref())?;
    let changes = plan.targets.iter().any(|target| target.decision.strategy != Strategy::Nothing);
    if request.plan || !changes {
        return Ok(());
    }
    let facts = facts(settings, &plan);
    let rules = &settings.rules.hooks;
    hooks::run(&rules.before, "before", &facts, &request.project, steps).await?;
    let result = carry_out(&order(false), &name, steps, &mut report.targets).await;
    let (commands, when, facts) = match &result {
        Ok(()) => (&rules.after, "after", facts.with("OUTCOME", "done")),
        Err(error) => {
            let facts = facts.with("OUTCOME", error.outcome.name()).with("ERROR", error.message.clone());
            (&rules.failed, "failed", facts)
        }
    };
    if let Err(error) = hooks::run(commands, when, &facts, &request.project, steps).await {
        steps.note(&format!("warning: {error}"));
        report.warnings.push(error.to_string());
    }
    result
}

async fn carry_out(
    order: &Order<'_>,
    name: &str,
    steps: &mut Steps,
    targets: &mut [TargetReport],
) -> Result<(), Error> {
    let mut done: Vec<String> = Vec::new();
    for told in targets.iter_mut().filter(|told| told.decision.strategy != Strategy::Nothing) {
        let mut target = connect(&told.destination, &told.directory, name, steps).await?;
        let result = deploy(&mut target, order, steps).await;
        target.close().await;
        match result {
            Ok(delivered) => {
                told.outcome = Some(Outcome::Done);
                told.pid = delivered.pid;
                done.push(format!("`{}`", told.destination));
            }
            Err(error) => {
                told.outcome = Some(error.outcome);
                told.error = Some(error.clone());
                if done.is_empty() {
                    return Err(error);
                }
                let state = format!("{} keep the new version, later targets the old one", done.join(", "));
                return Err(Error::restarted(error.message.clone())
                    .and(&state)
                    .help("mend the cause and deploy again: targets that have it are left alone"));
            }
        }
    }
    Ok(())
}

async fn connect(destination: &str, directory: &str, name: &str, steps: &mut Steps) -> Result<Target, Error> {
    steps.take(format!("connect to {destination}"), Target::connect(destination, directory, name)).await
}

fn told(destination: String, directory: String, delivered: Delivered) -> TargetReport {
    let nothing = delivered.decision.strategy == Strategy::Nothing;
    TargetReport {
        destination,
        directory,
        batch: usize::from(!nothing),
        before: Some(delivered.before),
        decision: delivered.decision,
        steps: Vec::new(),
        warnings: Vec::new(),
        outcome: nothing.then_some(Outcome::Done),
        error: None,
        pid_before: delivered.pid_before,
        pid: delivered.pid,
    }
}
