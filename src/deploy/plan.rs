//! The plan of a deployment: what is done to each target, why, and in which batch. Made before anything is sent;
//! `--plan` prints it, and the deployment carries out the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::ledger::Rehearsed;
use crate::release::decide::{self, Allowed, Candidate, Decision, Strategy, Wish};
use crate::release::installed::{Installed, Snapshot};

use super::error::Error;
use super::file::{Batches, Policy, Way};
use super::packages::{Built, NoUpgrade, Pair, Source};
use super::query::Asked;
use super::settings::Settings;
use super::steps::Steps;
use super::target::{Survey, Target};

/// What will be done. Serialized, it is a part of the document of `--format json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Environment.
    pub environment: String,
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// SHA-256 (hexadecimal) over the names and MD5s of the new version's modules; empty when nothing was built.
    pub content: String,
    /// In the order of the environment.
    pub targets: Vec<TargetPlan>,
}

/// What will be done to one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetPlan {
    /// The host.
    pub destination: String,
    /// The release's directory there.
    pub directory: String,
    /// What was found; `None` when the target was not asked.
    pub found: Option<Installed>,
    /// What is done, and why.
    pub decision: Decision,
    /// Counts from 1; 0 when there is nothing to do.
    pub batch: usize,
}

impl Plan {
    /// SHA-256 (hexadecimal) of the plan: another world, other sources or another policy give another one.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).expect("a plan is a plain document");
        crate::digest::hex(&Sha256::digest(text))
    }
}

/// One target on its way.
pub(crate) struct Aim {
    /// The host.
    pub(crate) destination: String,
    /// The release's directory there.
    pub(crate) directory: String,
    /// The open connection and what the target answered; `None` when it was not asked.
    pub(crate) asked: Option<(Target, Survey)>,
    /// What is done.
    pub(crate) decision: Decision,
    /// The upgrades to other versions on the way; usually none.
    pub(crate) hops: Vec<Arc<Built>>,
    /// What is sent, or sent last.
    pub(crate) built: Option<Arc<Built>>,
    /// Its batch, see [`TargetPlan::batch`].
    pub(crate) batch: usize,
    /// What was done.
    pub(crate) steps: Steps,
}

impl Aim {
    fn new(
        (destination, directory): (String, String),
        asked: Option<(Target, Survey)>,
        decision: Decision,
        steps: Steps,
    ) -> Self {
        Self { destination, directory, asked, decision, hops: Vec::new(), built: None, batch: 0, steps }
    }

    pub(super) fn survey(&self) -> Option<&Survey> {
        self.asked.as_ref().map(|(_, survey)| survey)
    }

    pub(super) fn node(&self) -> Option<&Snapshot> {
        self.survey().and_then(|survey| survey.evidence.snapshot.as_ref())
    }
}

/// What the environment's policy allows.
pub(crate) fn allowed(policy: &Policy) -> Allowed {
    let has = |way| policy.allow.contains(&way);
    Allowed {
        hot: has(Way::Hot),
        restart: has(Way::Restart),
        fresh: has(Way::Fresh),
        prefer_restart: policy.prefer == Way::Restart,
    }
}

/// Makes the plan: decides for each target, builds what is needed once, and proves each upgrade against the node
/// that runs.
pub(crate) struct Planner<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) source: &'a Source,
    pub(crate) steps: &'a mut Steps,
    /// Findings that don't stop the deployment.
    pub(crate) warnings: Vec<String>,
    fresh: Option<Arc<Built>>,
    upgrades: BTreeMap<String, Result<Arc<Built>, Vec<String>>>,
    /// What was rehearsed, by its packages; or why it could not be.
    pub(super) rehearsed: Vec<(Pair, Result<Rehearsed, String>)>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(settings: &'a Settings, source: &'a Source, steps: &'a mut Steps) -> Self {
        let (fresh, upgrades, rehearsed) = (None, BTreeMap::new(), Vec::new());
        Self { settings, source, steps, warnings: Vec::new(), fresh, upgrades, rehearsed }
    }

    /// Plans for targets that were asked. The first that gave no answer ends it.
    pub(crate) async fn plan(&mut self, asked: Vec<Asked>) -> Result<(Plan, Vec<Aim>), Error> {
        let mut aims = Vec::new();
        let mut failed = Vec::new();
        for Asked { destination, directory, answer, mut steps } in asked {
            match answer {
                Ok((target, survey)) => {
                    steps.note(&format!("found: {}", survey.installed));
                    let decision = self.decide(&survey);
                    aims.push(Aim::new((destination, directory), Some((target, survey)), decision, steps));
                }
                Err(error) => failed.push(error),
            }
        }
        if let Some(error) = unanswered(failed) {
            for (target, _) in aims.into_iter().filter_map(|aim| aim.asked) {
                target.close().await;
            }
            return Err(error);
        }
        // a refusal needs no build to be one
        if aims.iter().all(|aim| aim.decision.strategy != Strategy::Refuse) {
            self.prove(&mut aims).await?;
        }
        Ok(self.finish(aims))
    }

    /// Plans for targets of which `OLD_VSN` says what runs there: they are asked only under the lock.
    pub(crate) async fn believe(&mut self, old: &str) -> Result<(Plan, Vec<Aim>), Error> {
        let decision = believe(old, self.source.version());
        let several = self.settings.targets.len() > 1;
        let mut aims = Vec::new();
        for address in &self.settings.targets {
            let directory = self.settings.directory_of(address, self.source.name());
            let name = super::query::shown(self.settings, &address.destination, &directory);
            let steps = if several { self.steps.of_target(&name) } else { self.steps.of_only_target() };
            let place = (address.destination.clone(), directory);
            aims.push(Aim::new(place, None, decision.clone(), steps));
        }
        self.prove(&mut aims).await?;
        Ok(self.finish(aims))
    }

    fn decide(&self, survey: &Survey) -> Decision {
        let version = self.source.version();
        let node = survey.evidence.snapshot.as_ref();
        let kept = node.is_some_and(|node| {
            node.releases.iter().any(|release| release.version == version && release.status == "old")
        });
        let litter = survey.evidence.litter(self.source.name(), version);
        let wish = Wish {
            version,
            allowed: allowed(&self.settings.rules.strategy),
            bad: survey.evidence.bad.get(version).map(String::as_str),
            kept,
            unfinished: survey.evidence.unfinished,
            litter: &litter,
        };
        decide::decide(&survey.installed, &wish)
    }

    /// One build and one relup where targets run different versions.
    async fn build_together(&mut self, aims: &[Aim]) -> Result<(), Error> {
        let of = |aim: &Aim| match &aim.decision.strategy {
            Strategy::Hot { from, .. } => Some(from.clone()),
            _ => None,
        };
        let from: BTreeSet<String> = aims.iter().filter_map(of).collect();
        if from.len() < 2 {
            return Ok(());
        }
        let from: Vec<&str> = from.iter().map(String::as_str).collect();
        let source = self.source;
        let step =
            format!("build {} {} and its upgrades from {}", source.name(), source.version(), from.join(", "));
        self.steps.take(step, source.upgrade_from_each(from)).await
    }

    async fn prove(&mut self, aims: &mut [Aim]) -> Result<(), Error> {
        self.build_together(aims).await?;
        for aim in aims {
            if let Strategy::Hot { from, .. } = aim.decision.strategy.clone() {
                self.prove_hot(aim, &from).await?;
            }
            match aim.decision.strategy {
                Strategy::Fresh | Strategy::Restart { .. } | Strategy::Back { .. } => {
                    aim.built = Some(self.fresh().await?);
                }
                Strategy::Nothing | Strategy::Tidy if aim.node().is_some() => {
                    let built = self.fresh().await?;
                    let differs = aim.node().and_then(|node| decide::same_version(node, &built.candidate));
                    aim.decision = differs.unwrap_or_else(|| aim.decision.clone());
                    aim.built = Some(built);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The upgrade from `from`, proved against `node`; or every reason against it.
    pub(super) async fn upgrade(
        &mut self,
        from: &str,
        node: Option<&Snapshot>,
    ) -> Result<Result<Arc<Built>, Vec<String>>, Error> {
        let built = match self.upgrades.get(from) {
            Some(built) => built.clone(),
            None => {
                let built = self.build_upgrade(from, node).await?;
                self.upgrades.insert(from.to_owned(), built.clone());
                built
            }
        };
        let (Ok(built), Some(node)) = (&built, node) else { return Ok(built) };
        let reasons = decide::check_live(node, &built.candidate);
        self.steps.record(
            "check the upgrade against the running node".to_owned(),
            std::time::Duration::ZERO,
            reasons.is_empty(),
        );
        Ok(if reasons.is_empty() { Ok(Arc::clone(built)) } else { Err(reasons) })
    }

    async fn build_upgrade(
        &mut self,
        from: &str,
        node: Option<&Snapshot>,
    ) -> Result<Result<Arc<Built>, Vec<String>>, Error> {
        let source = self.source;
        let step = format!("build {} {} and its upgrade from {from}", source.name(), source.version());
        let mut unsound = None;
        let work = async {
            match source.upgrade(from, node).await {
                Ok(built) => Ok(Some(built)),
                Err(NoUpgrade::Failed(error)) => Err(error),
                Err(NoUpgrade::Unsound(reasons)) => {
                    unsound = Some(reasons);
                    Ok(None)
                }
            }
        };
        let built = self.steps.take(step, work).await?;
        let Some(built) = built else { return Ok(Err(unsound.unwrap_or_default())) };
        self.warn(&built);
        Ok(Ok(Arc::new(built)))
    }

    async fn fresh(&mut self) -> Result<Arc<Built>, Error> {
        if let Some(built) = &self.fresh {
            return Ok(Arc::clone(built));
        }
        let source = self.source;
        let step = format!("build {} {}", source.name(), source.version());
        let built = self.steps.take(step, source.fresh()).await?;
        self.warn(&built);
        let built = Arc::new(built);
        self.fresh = Some(Arc::clone(&built));
        Ok(built)
    }

    fn warn(&mut self, built: &Built) {
        for version in &built.reused {
            self.steps.note(&format!(
                "the package of `{version}` is used again: it was built of the very same sources, with the same tools"
            ));
        }
        for warning in built.warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            self.steps.note(&format!("warning: {warning}"));
        }
        self.warnings.extend(built.warnings.iter().cloned());
        self.warnings.sort();
        self.warnings.dedup();
    }

    fn finish(&mut self, mut aims: Vec<Aim>) -> (Plan, Vec<Aim>) {
        let changed = aims.iter_mut().filter(|aim| aim.decision.strategy != Strategy::Nothing);
        for (position, aim) in changed.enumerate() {
            aim.batch = batch_of(position, &self.settings.rules.batches);
        }
        let built = aims.iter().find_map(|aim| aim.built.as_ref());
        let content = built.map_or(String::new(), |built| content(&built.candidate));
        let targets = aims.iter_mut().map(|aim| {
            aim.steps.note(&format!("plan: {}", aim.decision));
            TargetPlan {
                destination: aim.destination.clone(),
                directory: aim.directory.clone(),
                found: aim.asked.as_ref().map(|(_, survey)| survey.installed.clone()),
                decision: aim.decision.clone(),
                batch: aim.batch,
            }
        });
        let plan = Plan {
            environment: self.settings.environment.clone(),
            release: self.source.name().to_owned(),
            version: self.source.version().to_owned(),
            targets: targets.collect(),
            content,
        };
        (plan, aims)
    }
}

/// The batch of the target at `position` among those that are changed; both count on from there.
fn batch_of(position: usize, batches: &Batches) -> usize {
    let (canary, size) = (batches.canary as usize, batches.size as usize);
    if position < canary {
        return 1;
    }
    let first = usize::from(canary > 0) + 1;
    first + (position - canary).checked_div(size).unwrap_or(0)
}

fn content(candidate: &Candidate) -> String {
    let mut hash = Sha256::new();
    for (module, md5) in &candidate.modules {
        hash.update(format!("{module} {md5}\n"));
    }
    crate::digest::hex(&hash.finalize())
}

/// `OLD_VSN` is somebody's word for what runs; the steps on the target check it before they change anything.
fn believe(old: &str, version: &str) -> Decision {
    let strategy = if old == version {
        Strategy::Nothing
    } else {
        Strategy::Hot { from: old.to_owned(), via: Vec::new() }
    };
    let reason = format!("`OLD_VSN` says that `{old}` runs there; the target was not asked");
    Decision { strategy, reasons: vec![reason], help: None }
}

/// All targets that gave no answer, as one error.
fn unanswered(mut failed: Vec<Error>) -> Option<Error> {
    let first = (!failed.is_empty()).then(|| failed.remove(0))?;
    let message =
        failed.iter().fold(first.message.clone(), |all, error| format!("{all}\n  {}", error.message));
    Some(Error { message, ..first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_comes_first_then_batches_of_a_size() {
        let cases: &[((u32, u32), &[usize])] = &[
            ((1, 0), &[1, 2, 2, 2, 2]),
            ((1, 2), &[1, 2, 2, 3, 3]),
            ((2, 1), &[1, 1, 2, 3, 4]),
            ((0, 0), &[1, 1, 1, 1, 1]),
            ((0, 2), &[1, 1, 2, 2, 3]),
            ((9, 1), &[1, 1, 1, 1, 1]),
        ];
        for ((canary, size), expected) in cases {
            let batches = Batches { canary: *canary, size: *size, ..Batches::default() };
            let found: Vec<usize> = (0..5).map(|position| batch_of(position, &batches)).collect();
            assert_eq!(found, *expected, "canary {canary}, size {size}");
        }
    }

    #[test]
    fn old_vsn_is_believed_without_a_query() {
        assert_eq!(believe("0.1.0", "0.1.0").strategy, Strategy::Nothing);
        assert_eq!(believe("0.1.0", "0.2.0").strategy, Strategy::Hot { from: "0.1.0".into(), via: vec![] });
    }

    #[test]
    fn another_world_is_another_plan() {
        let plan = |version: &str, found: Installed| Plan {
            environment: "dev".into(),
            release: "urf".into(),
            version: version.into(),
            content: String::new(),
            targets: vec![TargetPlan {
                destination: "h".into(),
                directory: "/data/urf".into(),
                found: Some(found),
                decision: believe("0.1.0", version),
                batch: 1,
            }],
        };
        let runs = |version: &str| Installed::Running { version: version.into() };
        let one = plan("0.2.0", runs("0.1.0")).digest();
        assert_eq!(one, plan("0.2.0", runs("0.1.0")).digest());
        assert_ne!(one, plan("0.2.0", runs("0.1.1")).digest());
        assert_ne!(one, plan("0.3.0", runs("0.1.0")).digest());
    }
}
