//! A plan carried out: batch after batch, the targets of one at the same time. When one fails, what was changed
//! is taken back.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::release::decide::{self, Strategy};

use super::apply::{Apply, Care, Package, state_in_words};
use super::bad;
use super::deployment::TargetReport;
use super::error::{Error, Outcome};
use super::hops::Hops;
use super::lock;
use super::packages::Built;
use super::plan::Aim;
use super::rollback;
use super::steps::Steps;
use super::target::{PATIENCE, Survey, Target};

/// What all targets have in common.
#[derive(Clone)]
pub(crate) struct Rollout {
    /// Release name.
    pub(crate) name: String,
    /// Release version.
    pub(crate) version: String,
    /// What must hold afterwards.
    pub(crate) care: Care,
    /// Between two batches.
    pub(crate) pause: Duration,
}

/// One target, after or before its turn.
pub(crate) struct Member {
    aim: Aim,
    /// What is reported of it.
    pub(crate) report: TargetReport,
}

impl Member {
    pub(crate) fn new(aim: Aim) -> Self {
        let report = TargetReport::of(&aim);
        Self { aim, report }
    }

    /// Ends the connection; what was done is in the report.
    pub(crate) async fn close(self) -> TargetReport {
        let Self { aim, mut report } = self;
        if let Some((target, _)) = aim.asked {
            target.close().await;
        }
        report.steps = aim.steps.taken().to_vec();
        report
    }

    /// The version that was there, if this deployment has replaced it.
    fn replaced(&self) -> Option<String> {
        if self.report.outcome != Some(Outcome::Done) {
            return None;
        }
        match &self.aim.decision.strategy {
            Strategy::Hot { from, .. } | Strategy::Restart { from } | Strategy::Back { from } => {
                Some(from.clone())
            }
            _ => None,
        }
    }
}

impl Rollout {
    /// Carries the plan out. The error is the first target's that failed, and says what became of the others.
    pub(crate) async fn run(
        &self,
        members: Vec<Member>,
        steps: &mut Steps,
    ) -> (Vec<Member>, Result<(), Error>) {
        let mut members = members;
        let last = members.iter().map(|member| member.report.batch).max().unwrap_or(0);
        for batch in 1..=last {
            if batch > 1 && !self.pause.is_zero() {
                let seconds = self.pause.as_secs();
                let pause = async {
                    tokio::select! {
                        () = tokio::time::sleep(self.pause) => Ok(()),
                        () = interrupted() => Err(Error::failed(format!("interrupted before batch {batch}; the batches before it stay as they are"))),
                    }
                };
                if let Err(error) =
                    steps.take(format!("pause for {seconds} s before batch {batch}"), pause).await
                {
                    return (members, Err(error));
                }
            }
            members = self.batch(members, batch).await;
            let failed = members.iter().filter_map(|member| member.report.error.clone()).reduce(graver);
            if let Some(error) = failed {
                return self.take_back(members, error, steps).await;
            }
        }
        (members, Ok(()))
    }

    /// The targets of one batch, at the same time. None is stopped half-way because another failed.
    async fn batch(&self, members: Vec<Member>, batch: usize) -> Vec<Member> {
        let mut running = JoinSet::new();
        let mut all = Vec::new();
        for (index, member) in members.into_iter().enumerate() {
            if member.report.batch == batch {
                let rollout = self.clone();
                running.spawn(async move { (index, rollout.change(member).await) });
            } else {
                all.push((index, member));
            }
        }
        all.extend(running.join_all().await);
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, member)| member).collect()
    }

    async fn change(&self, mut member: Member) -> Member {
        let result = self.carry_out(&mut member).await;
        match result {
            Ok(survey) => {
                member.report.outcome = Some(Outcome::Done);
                member.report.pid = survey.evidence.snapshot.map(|node| node.pid);
            }
            Err(error) => {
                member.report.outcome = Some(error.outcome);
                member.report.error = Some(error);
            }
        }
        member
    }

    async fn carry_out(&self, member: &mut Member) -> Result<Survey, Error> {
        let Member { aim, report } = member;
        let planned = aim.asked.as_ref().map(|(_, survey)| survey.clone());
        let mut target = match aim.asked.take() {
            Some((target, _)) => target,
            None => {
                let connect = Target::connect(&aim.destination, &aim.directory, &self.name);
                aim.steps.take(format!("connect to {}", aim.destination), connect).await?
            }
        };
        let mut turn = Turn { rollout: self, aim, report, planned: planned.as_ref() };
        let result = turn.take(&mut target).await;
        let last = match (&result, planned) {
            (Ok(survey), _) => Some(survey.clone()),
            (Err(_), planned) => planned,
        };
        match last {
            Some(survey) => aim.asked = Some((target, survey)),
            None => target.close().await,
        }
        result
    }

    /// Takes back what this deployment has changed: an environment is left with one version, not with two.
    async fn take_back(
        &self,
        mut members: Vec<Member>,
        error: Error,
        steps: &mut Steps,
    ) -> (Vec<Member>, Result<(), Error>) {
        let mut taken_back = Vec::new();
        let mut stuck = Vec::new();
        for member in members.iter_mut().rev() {
            let Some(old) = member.replaced() else { continue };
            let Some((target, _)) = &mut member.aim.asked else { continue };
            let care = Care { soak: Duration::ZERO, ..self.care.clone() };
            let steps = &mut member.aim.steps;
            let aim = rollback::Aim { to: Some(&old), why: "because another target failed" };
            let back = rollback::back_because(target, steps, aim, &care).await;
            match back.and_then(rollback::Return::whole) {
                Ok(survey) => {
                    member.report.pid = survey.evidence.snapshot.map(|node| node.pid);
                    member.report.outcome = Some(Outcome::RolledBack);
                    taken_back.push(format!("`{}` back to `{old}`", member.report.destination));
                }
                Err(error) => {
                    member.report.outcome = Some(Outcome::Restarted);
                    stuck.push(format!("`{}` could not be taken back: {error}", member.report.destination));
                    member.report.error = Some(error);
                }
            }
        }
        let error = if taken_back.is_empty() && stuck.is_empty() {
            error
        } else {
            let mut error = error;
            for part in [taken_back, stuck].into_iter().flatten() {
                error = error.and(&part);
            }
            Error { outcome: Outcome::RolledBack, ..error }
        };
        let waiting: Vec<&Member> = members
            .iter()
            .filter(|member| member.report.batch > 0 && member.report.outcome.is_none())
            .collect();
        if !waiting.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|member| member.report.destination.as_str()).collect();
            steps.note(&format!("stopped: {} keep what they have", names.join(", ")));
        }
        (members, Err(error))
    }
}

/// The error with the graver outcome.
fn graver(a: Error, b: Error) -> Error {
    let grade = |error: &Error| match error.outcome {
        Outcome::Done => 0,
        Outcome::Refused => 1,
        Outcome::Failed => 2,
        Outcome::RolledBack => 3,
        Outcome::Restarted => 4,
    };
    if grade(&b) > grade(&a) { b } else { a }
}

/// One target's turn.
struct Turn<'a> {
    rollout: &'a Rollout,
    aim: &'a mut Aim,
    report: &'a mut TargetReport,
    planned: Option<&'a Survey>,
}

impl Turn<'_> {
    async fn take(&mut self, target: &mut Target) -> Result<Survey, Error> {
        target.revive().await?;
        if let Strategy::Back { .. } = self.aim.decision.strategy {
            return self.back(target).await;
        }
        lock::take(target, &mut self.aim.steps, &self.rollout.version).await?;
        let result = tokio::select! {
            result = self.apply(target) => result,
            () = interrupted() => Err(Error::failed("interrupted; an upgrade that had begun goes on on the target")
                .help("ask with `ci env status ENV` what runs there now")),
        };
        if let Err(error) = lock::release(target).await {
            self.aim.steps.note(&format!("warning: {error}"));
            self.report.warnings.push(error.to_string());
        }
        result
    }

    /// What is done under the lock. The target is asked again: somebody may have been faster.
    async fn apply(&mut self, target: &mut Target) -> Result<Survey, Error> {
        let Aim { steps, decision, built, hops, .. } = &mut *self.aim;
        let before = steps.take("query again, under the lock", target.survey(PATIENCE)).await?;
        self.report.pid_before = before.evidence.snapshot.as_ref().map(|node| node.pid);
        if let Some(planned) = self.planned {
            unchanged(planned, &before)?;
        }
        needs_tools(&before, target, &decision.strategy)?;
        let built = built.clone().unwrap_or_else(|| Arc::new(committed(self.rollout)));
        let care = &self.rollout.care;
        if let Strategy::Hot { from, .. } = &decision.strategy {
            let way: Vec<Arc<Built>> = hops.iter().cloned().chain([built]).collect();
            return Hops { target, steps, way: &way, care }.carry_out(from, before).await;
        }
        let apply = Apply { target, steps, candidate: &built.candidate, package: &built.package };
        match &decision.strategy {
            Strategy::Commit => apply.commit(&before, care).await,
            Strategy::Tidy => apply.tidy(&before, care).await,
            Strategy::Restart { .. } => apply.restart(&before, care).await,
            Strategy::Fresh => apply.fresh(&before, care).await,
            Strategy::Nothing | Strategy::Hot { .. } | Strategy::Back { .. } | Strategy::Refuse => Ok(before),
            // only of programs that are no Erlang nodes: `service`
            Strategy::Exchange { .. } | Strategy::Canary { .. } => Ok(before),
        }
    }

    /// To an older version that is there; its code has to be that of the sources.
    async fn back(&mut self, target: &mut Target) -> Result<Survey, Error> {
        let Aim { steps, built, .. } = &mut *self.aim;
        let version = &self.rollout.version;
        let before = steps.take("query again", target.survey(PATIENCE)).await?;
        self.report.pid_before = before.evidence.snapshot.as_ref().map(|node| node.pid);
        if let Some(planned) = self.planned {
            unchanged(planned, &before)?;
        }
        let survey = rollback::back(target, steps, Some(version), &self.rollout.care).await?.whole()?;
        let left = before.installed.running().unwrap_or_default();
        if !before.evidence.bad.contains_key(left) {
            // going back was asked for by deploying; nothing was said against the version that is left
            bad::clear(target, left, &format!("`{version}` was deployed in its place")).await?;
        }
        let stale = match (&survey.evidence.snapshot, built) {
            (Some(node), Some(built)) => decide::same_version(node, &built.candidate),
            _ => None,
        };
        match stale {
            None => Ok(survey),
            Some(decision) => {
                Err(Error::restarted(decision.reasons.join("; ")).help(decision.help.unwrap_or_default()))
            }
        }
    }
}

/// The target is still as it was when the plan was made.
fn unchanged(planned: &Survey, now: &Survey) -> Result<(), Error> {
    let boot = |survey: &Survey| survey.evidence.snapshot.as_ref().map(|node| node.boot.clone());
    if planned.installed != now.installed {
        return Err(Error::refused(format!(
            "the target changed since the plan was made: then {}, now {}",
            planned.installed,
            state_in_words(&now.installed)
        ))
        .help("deploy again: a new plan is made of what is there now"));
    }
    if boot(planned) != boot(now) {
        return Err(Error::refused("the node restarted since the plan was made")
            .help("find out why (log/ on the target), then deploy again"));
    }
    Ok(())
}

/// Nothing is built or sent when the version runs already and only has to be made permanent.
fn committed(rollout: &Rollout) -> Built {
    let candidate = decide::Candidate {
        name: rollout.name.clone(),
        version: rollout.version.clone(),
        ..decide::Candidate::default()
    };
    let package = Package { path: std::path::PathBuf::new(), sha256: String::new(), size: 0 };
    Built {
        candidate,
        package,
        warnings: Vec::new(),
        reused: Vec::new(),
        pair: Default::default(),
        _directory: None,
    }
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
            [("tar", "`tar`"), ("gzip", "`gzip`")]
                .into_iter()
                .filter(|(tool, _)| !has(tool))
                .map(|(_, shown)| shown),
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("`{}` lacks {}", target.destination(), missing.join(", ")))
        .help("install coreutils, util-linux, tar and gzip there"))
}
