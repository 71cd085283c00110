//! The whole way of one deployment: ask, plan, hooks, roll out, report.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::ledger::Rehearsed;
use crate::ledger::packages::Whole;
use crate::promotion::Artifact;
use crate::release::decide::{Decision, Strategy};
use crate::release::installed::Installed;

use super::apply::Care;
use super::error::{Error, Outcome};
use super::file::Delivery;
use super::hooks::{self, Facts};
use super::packages;
use super::plan::{Aim, Plan, Planner};
use super::query::{self, Wait};
use super::rollout::{Member, Rollout};
use super::service;
use super::settings::Settings;
use super::steps::{Step, Steps};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub settings: Settings,
    /// Directory of the project.
    pub project: PathBuf,
    /// Stop before anything is sent.
    pub plan: bool,
    /// The digest that the plan must have, or its first digits.
    pub expect: Option<String>,
    /// The kept package that is promoted; `None`: what the project builds.
    pub artifact: Option<Kept>,
}

/// A kept package.
#[derive(Clone, Debug)]
pub enum Kept {
    /// Of an Erlang release.
    Release(Arc<Artifact>),
    /// Of any other program.
    Plain(service::Artifact),
}

/// What a deployment did. Serialized, it is the document of `--format json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this document's form.
    pub format: u32,
    /// Environment.
    pub environment: String,
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// Whether only a plan was asked for.
    pub plan: bool,
    /// Digest of the plan; `None` when it did not come so far.
    pub digest: Option<String>,
    /// What was planned and done, target by target, in the order of the environment.
    pub targets: Vec<TargetReport>,
    /// What is worth knowing though it did not stop the deployment.
    pub warnings: Vec<String>,
    /// What was done for all targets together: builds, hooks, pauses.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not succeed.
    pub error: Option<Error>,
    /// The whole packages that were built for it.
    #[serde(skip)]
    pub packages: Vec<Whole>,
    /// What was rehearsed before.
    #[serde(skip)]
    pub rehearsals: Vec<Rehearsed>,
}

/// What a deployment did to one target.
#[derive(Clone, Debug, Serialize)]
pub struct TargetReport {
    /// The host.
    pub destination: String,
    /// The release's directory there.
    pub directory: String,
    /// Counts from 1; 0 when there was nothing to do.
    pub batch: usize,
    /// What was found; `None` when the target was not asked.
    pub before: Option<Installed>,
    /// The chosen strategy, with its reasons.
    pub decision: Decision,
    /// What was done.
    pub steps: Vec<Step>,
    /// What is worth knowing though it did not stop the deployment.
    pub warnings: Vec<String>,
    /// How it ended; `None` when nothing was begun there.
    pub outcome: Option<Outcome>,
    /// Why it did not succeed.
    pub error: Option<Error>,
    /// Process id of the node before.
    pub pid_before: Option<u32>,
    /// Process id of the node that serves now.
    pub pid: Option<u32>,
}

impl TargetReport {
    pub(super) fn of(aim: &Aim) -> Self {
        let survey = aim.asked.as_ref().map(|(_, survey)| survey);
        let node = survey.and_then(|survey| survey.evidence.snapshot.as_ref());
        let pid = node.map(|node| node.pid);
        let nothing = aim.decision.strategy == Strategy::Nothing;
        Self {
            destination: aim.destination.clone(),
            directory: aim.directory.clone(),
            batch: aim.batch,
            before: survey.map(|survey| survey.installed.clone()),
            decision: aim.decision.clone(),
            steps: Vec::new(),
            warnings: Vec::new(),
            outcome: nothing.then_some(Outcome::Done),
            error: None,
            pid_before: pid,
            pid,
        }
    }
}

/// Deploys the project's release. Whatever happens is in the report.
pub async fn deploy(request: &Request, steps: &mut Steps) -> Report {
    let mut report = Report {
        format: 2,
        environment: request.settings.environment.clone(),
        release: String::new(),
        version: String::new(),
        plan: request.plan,
        digest: None,
        targets: Vec::new(),
        warnings: Vec::new(),
        steps: Vec::new(),
        outcome: Outcome::Done,
        error: None,
        packages: Vec::new(),
        rehearsals: Vec::new(),
    };
    if let Err(error) = run(request, steps, &mut report).await {
        report.outcome = error.outcome;
        report.error = Some(error);
    }
    report.steps = steps.taken().to_vec();
    // the one place where a deployment that was tried is told of: the ledger (`crate::ledger::record(&report)`)
    // and the notifiers (`crate::notify::tell`) belong here
    report
}

async fn run(request: &Request, steps: &mut Steps, report: &mut Report) -> Result<(), Error> {
    let settings = &request.settings;
    admit(settings)?;
    if let Some(kind) = service::of(&request.project, settings) {
        return service::run(request, kind, steps, report).await;
    }
    let source = match &request.artifact {
        Some(Kept::Release(artifact)) => packages::kept(artifact, &request.project),
        _ => packages::open(&request.project, &settings.profile, &settings.release)?,
    };
    report.release = source.name().to_owned();
    report.version = source.version().to_owned();
    let asked = match settings.old_version {
        Some(_) => Vec::new(),
        None => tokio::join!(query::all(settings, source.name(), Wait::ForPlan, steps), source.look_up()).0,
    };
    let mut planner = Planner::new(settings, &source, steps);
    let planned = match &settings.old_version {
        Some(old) => planner.believe(old).await,
        None => planner.plan(asked).await,
    };
    report.warnings = std::mem::take(&mut planner.warnings);
    report.rehearsals = planner.rehearsals();
    report.packages = source.taken();
    let (plan, aims) = planned?;
    report.digest = Some(plan.digest());
    let mut members: Vec<Member> = aims.into_iter().map(Member::new).collect();
    let result = async {
        agreed(&plan, request.expect.as_deref())?;
        let changes = plan.targets.iter().any(|target| target.decision.strategy != Strategy::Nothing);
        if request.plan || !changes {
            return Ok(());
        }
        let facts = facts(settings, &plan);
        let hooks = &settings.rules.hooks;
        hooks::run(&hooks.before, "before", &facts, &request.project, steps).await?;
        let rollout = Rollout {
            name: plan.release.clone(),
            version: plan.version.clone(),
            care: Care::from(&settings.rules),
            pause: settings.rules.batches.pause,
        };
        let (after, result) = rollout.run(std::mem::take(&mut members), steps).await;
        members = after;
        let (commands, when, facts) = match &result {
            Ok(()) => (&hooks.after, "after", facts.with("OUTCOME", "done")),
            Err(error) => {
                let facts = facts.with("OUTCOME", error.outcome.name()).with("ERROR", error.message.clone());
                (&hooks.failed, "failed", facts)
            }
        };
        if let Err(error) = hooks::run(commands, when, &facts, &request.project, steps).await {
            steps.note(&format!("warning: {error}"));
            report.warnings.push(error.to_string());
        }
        result
    }
    .await;
    for member in members {
        report.targets.push(member.close().await);
    }
    result
}

/// Whether this environment is one that we deploy to at all, now. Approvals and freeze windows belong here too.
fn admit(settings: &Settings) -> Result<(), Error> {
    let environment = &settings.environment;
    match settings.rules.delivery {
        Delivery::Ssh => Ok(()),
        Delivery::Bundle => Err(Error::refused(format!(
            "`{environment}` is not reached from here: its releases are delivered as bundles"
        ))
        .help(format!("`ci bundle {environment}` makes the bundle that operations apply"))),
    }
}

/// No target refuses, and the plan is the one that was agreed to.
pub(super) fn agreed(plan: &Plan, expected: Option<&str>) -> Result<(), Error> {
    let refused: Vec<_> =
        plan.targets.iter().filter(|target| target.decision.strategy == Strategy::Refuse).collect();
    if let Some(first) = refused.first() {
        let of = |target: &&super::plan::TargetPlan| {
            let reasons = target.decision.reasons.join("; ");
            if plan.targets.len() == 1 { reasons } else { format!("`{}`: {reasons}", target.destination) }
        };
        let message: Vec<String> = refused.iter().map(of).collect();
        return Err(Error { help: first.decision.help.clone(), ..Error::refused(message.join("\n  ")) });
    }
    let digest = plan.digest();
    match expected {
        Some(expected) if !digest.starts_with(&expected.to_lowercase()) => Err(Error::refused(format!(
            "the plan is not the one that was agreed to: it has the digest `{digest}`, not `{expected}`"
        ))
        .help("what runs on the targets, the sources or the settings changed; look at `ci deploy ENV --plan` again")),
        _ => Ok(()),
    }
}

pub(super) fn facts(settings: &Settings, plan: &Plan) -> Facts {
    let targets: Vec<&str> = plan.targets.iter().map(|target| target.destination.as_str()).collect();
    Facts::default()
        .with("ENVIRONMENT", &settings.environment)
        .with("TIER", settings.rules.tier.name())
        .with("RELEASE", &plan.release)
        .with("VERSION", &plan.version)
        .with("TARGETS", targets.join(" "))
        .with("PLAN", plan.digest())
}
