//! The whole way of one deployment, and of a status query.

use std::cmp::Ordering;
use std::path::PathBuf;

use serde::Serialize;

use crate::release::decide::{self, Candidate, Decision, Strategy};
use crate::release::installed::{Installed, Snapshot};
use crate::release::version;

use super::apply::{Apply, Care, Package};
use super::error::{Error, Outcome};
use super::file::DeployFile;
use super::lock;
use super::packages::{self, Built, Source};
use super::settings::Settings;
use super::steps::{Step, Steps};
use super::target::{PATIENCE, Survey, Target};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub settings: Settings,
    /// Directory of the rebar3 project.
    pub project: PathBuf,
    /// Stop before anything is sent.
    pub plan: bool,
}

/// What a deployment did. Serialized, it is the document of `--format json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this document's form.
    pub format: u32,
    /// Environment.
    pub environment: String,
    /// Where it went.
    pub destination: String,
    /// Directory there; empty when the project could not be read.
    pub directory: String,
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// Whether only a plan was asked for.
    pub plan: bool,
    /// What was found; `None` when the target was not asked.
    pub before: Option<Installed>,
    /// The chosen strategy, with its reasons.
    pub decision: Option<Decision>,
    /// What is worth knowing though it did not stop the deployment.
    pub warnings: Vec<String>,
    /// What was done.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it did not succeed.
    pub error: Option<Error>,
    /// Process id of the node before.
    pub pid_before: Option<u32>,
    /// Process id of the node that serves the new version.
    pub pid: Option<u32>,
}

/// What a status query found. Serialized, it is the document of `--format json`.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Version of this document's form.
    pub format: u32,
    /// Environment.
    pub environment: String,
    /// Where was asked.
    pub destination: String,
    /// Directory there.
    pub directory: String,
    /// Release name.
    pub release: String,
    /// The verdict.
    pub installed: Installed,
    /// What the node says of itself, if it answers.
    pub node: Option<Snapshot>,
}

/// Asks what runs at the target of `settings`. `project` tells the release's name.
///
/// # Errors
/// The project can't be read or the target not be asked.
pub async fn status(settings: &Settings, project: &std::path::Path) -> Result<Verdict, Error> {
    let source = packages::open(project, &settings.profile)?;
    let directory = settings.target_directory(source.name());
    let target = Target::connect(&settings.destination, &directory, source.name()).await?;
    let survey = target.survey(PATIENCE).await;
    target.close().await;
    let survey = survey?;
    Ok(Verdict {
        format: 1,
        environment: settings.environment.clone(),
        destination: settings.destination.clone(),
        directory,
        release: source.name().to_owned(),
        installed: survey.installed,
        node: survey.evidence.snapshot,
    })
}

/// Deploys the project's release. Whatever happens is in the report.
pub async fn deploy(request: &Request, steps: &mut Steps) -> Report {
    let settings = &request.settings;
    let mut report = Report {
        format: 1,
        environment: settings.environment.clone(),
        destination: settings.destination.clone(),
        directory: settings.directory.clone().unwrap_or_default(),
        release: String::new(),
        version: String::new(),
        plan: request.plan,
        before: None,
        decision: None,
        warnings: Vec::new(),
        steps: Vec::new(),
        outcome: Outcome::Done,
        error: None,
        pid_before: None,
        pid: None,
    };
    if let Err(error) = run(request, steps, &mut report).await {
        report.outcome = error.outcome;
        report.error = Some(error);
    }
    report.steps = steps.taken().to_vec();
    report
}

async fn run(request: &Request, steps: &mut Steps, report: &mut Report) -> Result<(), Error> {
    let source = packages::open(&request.project, &request.settings.profile)?;
    report.release = source.name().to_owned();
    report.version = source.version().to_owned();
    report.directory = request.settings.target_directory(source.name());
    let mut deployment = Deployment { request, source, steps, report };
    let (decision, asked) = deployment.choose().await?;
    deployment.steps.note(&format!("plan: {decision}"));
    deployment.report.decision = Some(decision.clone());
    let result = deployment.carry_out(decision, asked).await;
    if let (Err(error), Some(Decision { strategy, .. })) = (&result, &mut report.decision)
        && error.outcome == Outcome::Refused
    {
        *strategy = Strategy::Refuse;
    }
    result
}

/// A target that was asked, and its answer.
type Asked = Option<(Target, Survey)>;

struct Deployment<'a> {
    request: &'a Request,
    source: Source,
    steps: &'a mut Steps,
    report: &'a mut Report,
}

impl Deployment<'_> {
    async fn choose(&mut self) -> Result<(Decision, Asked), Error> {
        let version = self.source.version().to_owned();
        if let Some(old) = &self.request.settings.old_version {
            return Ok((believe(old, &version), None));
        }
        let target = self.connect().await?;
        let directory = &self.report.directory;
        let survey = self.steps.take(format!("query {directory}"), target.survey(PATIENCE)).await?;
        self.steps.note(&format!("found: {}", survey.installed));
        self.report.before = Some(survey.installed.clone());
        self.report.pid_before = survey.evidence.snapshot.as_ref().map(|node| node.pid);
        let decision = decide::decide(&survey.installed, &version, order);
        Ok((decision, Some((target, survey))))
    }

    async fn connect(&mut self) -> Result<Target, Error> {
        let destination = &self.request.settings.destination;
        let connect = Target::connect(destination, &self.report.directory, self.source.name());
        self.steps.take(format!("connect to {destination}"), connect).await
    }

    async fn carry_out(&mut self, decision: Decision, asked: Asked) -> Result<(), Error> {
        let node = asked.as_ref().and_then(|(_, survey)| survey.evidence.snapshot.as_ref());
        let strategy = decision.strategy.clone();
        match strategy {
            Strategy::Nothing => {
                self.report.pid = node.map(|node| node.pid);
                return Ok(());
            }
            Strategy::Refuse => return Err(refusal(decision)),
            Strategy::Commit | Strategy::Fresh | Strategy::Restart { .. } | Strategy::Hot { .. } => {}
        }
        let built = self.build(&strategy, node).await?;
        if self.request.plan {
            return Ok(());
        }
        let mut target = match asked {
            Some((target, _)) => target,
            None => self.connect().await?,
        };
        target.revive().await?;
        lock::take(&target, self.source.version()).await?;
        let result = tokio::select! {
            result = self.apply(&mut target, &strategy, &built) => result,
            () = interrupted() => Err(Error::failed("interrupted; an upgrade that had begun goes on on the target")
                .help("ask with `ci release status ENV` what runs there now")),
        };
        let unlocked = lock::release(&target).await;
        target.close().await;
        if let Err(error) = unlocked {
            self.warn(error.to_string());
        }
        self.report.pid = result?.evidence.snapshot.map(|node| node.pid);
        Ok(())
    }

    async fn build(&mut self, strategy: &Strategy, node: Option<&Snapshot>) -> Result<Built, Error> {
        let Self { source, steps, .. } = self;
        let (name, version) = (source.name(), source.version());
        let built = match strategy {
            Strategy::Hot { from } => {
                let step = format!("build {name} {version} and its upgrade from {from}");
                steps.take(step, source.upgrade(from, node)).await?
            }
            Strategy::Fresh | Strategy::Restart { .. } => steps.take(format!("build {name} {version}"), source.fresh()).await?,
            _ => Built::committed(source),
        };
        for warning in &built.warnings {
            self.warn(warning.clone());
        }
        if let (Strategy::Hot { .. }, Some(node)) = (strategy, node) {
            let check = async { check(node, &built.candidate) };
            self.steps.take("check the upgrade against the running node", check).await?;
        }
        Ok(built)
    }

    /// What is done under the lock. The target is asked again: somebody may have been faster.
    async fn apply(
        &mut self,
        target: &mut Target,
        strategy: &Strategy,
        built: &Built,
    ) -> Result<Survey, Error> {
        let before = self.steps.take("query again, under the lock", target.survey(PATIENCE)).await?;
        self.report.pid_before = before.evidence.snapshot.as_ref().map(|node| node.pid);
        needs_tools(&before, target, strategy)?;
        let Built { candidate, package, .. } = built;
        let care = self.care()?;
        let apply = Apply { target, steps: self.steps, candidate, package };
        match strategy {
            Strategy::Hot { from } => {
                if let Some(node) = &before.evidence.snapshot {
                    check(node, candidate)?;
                }
                apply.hot(from, &before, &care).await
            }
            Strategy::Commit => apply.commit(&before, &care).await,
            Strategy::Restart { .. } => apply.restart(&before, &care).await,
            _ => apply.fresh(&before, &care).await,
        }
    }

    fn care(&self) -> Result<Care, Error> {
        let file = DeployFile::load(&self.request.project)?.unwrap_or_default();
        let environment = file.environments.get(&self.request.settings.environment);
        Ok(environment.map(Care::from).unwrap_or_default())
    }

    fn warn(&mut self, warning: String) {
        self.steps.note(&format!("warning: {warning}"));
        self.report.warnings.push(warning);
    }
}

/// `OLD_VSN` is somebody's word for what runs; the steps on the target check it before they change anything.
fn believe(old: &str, version: &str) -> Decision {
    let strategy = if old == version { Strategy::Nothing } else { Strategy::Hot { from: old.to_owned() } };
    let reason = format!("`OLD_VSN` says that `{old}` runs there; the target was not asked");
    Decision { strategy, reasons: vec![reason], help: None }
}

/// Versions that aren't numbers (a commit, say) have no order worth refusing for.
fn order(a: &str, b: &str) -> Option<Ordering> {
    let numeric = |version: &str| {
        version.split('.').count() > 1
            && version.split('.').take(2).all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    };
    (numeric(a) && numeric(b)).then(|| version::compare(a, b))
}

/// Ctrl-C, or the end of the job that runs us: the lock has to be given back.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn check(node: &Snapshot, candidate: &Candidate) -> Result<(), Error> {
    let reasons = decide::check_live(node, candidate);
    if reasons.is_empty() {
        return Ok(());
    }
    let help = "a hot upgrade is not possible; deploying by a restart is not built yet. Stop the release on the target \
                (`bin/NAME stop`) and deploy again to install the new version afresh, if an outage is acceptable";
    Err(refusal(Decision::refuse(reasons, help)))
}

fn refusal(decision: Decision) -> Error {
    let error = Error::refused(decision.reasons.join("; "));
    match decision.help {
        Some(help) => error.help(help),
        None => error,
    }
}

fn needs_tools(survey: &Survey, target: &Target, strategy: &Strategy) -> Result<(), Error> {
    let has = |tool: &str| survey.evidence.tools.contains(tool);
    let mut missing = Vec::new();
    if !["sha256sum", "shasum", "openssl"].into_iter().any(has) {
        missing.push("`sha256sum`");
    }
    if !["setsid", "nohup"].into_iter().any(has) {
        missing.push("`setsid`");
    }
    if matches!(strategy, Strategy::Fresh | Strategy::Restart { .. }) {
        missing.extend(
            ["tar", "gzip"]
                .into_iter()
                .filter(|tool| !has(tool))
                .map(|tool| if tool == "tar" { "`tar`" } else { "`gzip`" }),
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("`{}` lacks {}", target.destination(), missing.join(", ")))
        .help("install coreutils, util-linux, tar and gzip there"))
}

impl Built {
    /// Nothing is built or sent when the version runs already and only has to be made permanent.
    fn committed(source: &Source) -> Self {
        let candidate = Candidate {
            name: source.name().to_owned(),
            version: source.version().to_owned(),
            ..Candidate::default()
        };
        let package = Package { path: PathBuf::new(), sha256: String::new(), size: 0 };
        Self { candidate, package, warnings: Vec::new(), _directory: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_versions_have_an_order() {
        assert_eq!(order("0.1.0", "0.2.0"), Some(Ordering::Less));
        assert_eq!(order("0.10.0-rc1", "0.9.0"), Some(Ordering::Greater));
        assert_eq!(order("3f2a", "0.9.0"), None);
        assert_eq!(order("4f2a", "3f2a"), None);
    }

    #[test]
    fn old_vsn_is_believed_without_a_query() {
        assert_eq!(believe("0.1.0", "0.1.0").strategy, Strategy::Nothing);
        assert_eq!(believe("0.1.0", "0.2.0").strategy, Strategy::Hot { from: "0.1.0".into() });
    }
}
