//! The proof of a hot upgrade: straight or by way of other versions, against the node that runs, rehearsed where that is
//! demanded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::ledger::Rehearsed;
use crate::release::Package;
use crate::release::decide;

use super::error::Error;
use super::file::Rehearse;
use super::packages::{Built, NoUpgrade};
use super::plan::{self, Aim, Planner};
use super::target::Survey;
use super::{hops, rehearsal};

impl Planner<'_> {
    /// Builds the upgrade from `from` or finds a way round, and rehearses it where that is asked for; else decides anew.
    pub(super) async fn prove_hot(&mut self, aim: &mut Aim, from: &str) -> Result<(), Error> {
        match self.upgrade(from, aim.node()).await? {
            Ok(built) => aim.built = Some(built),
            Err(reasons) => match self.way_round(from, aim.survey()).await? {
                Ok((hops, built)) => {
                    let via = hops.iter().map(|hop| hop.candidate.version.clone()).collect();
                    aim.decision = decide::by_way_of(from, via, reasons);
                    (aim.hops, aim.built) = (hops, Some(built));
                }
                Err(against) => {
                    let reasons = reasons.into_iter().chain(against).collect();
                    let allowed = plan::allowed(&self.settings.rules.strategy);
                    aim.decision = decide::instead_of_hot(from, reasons, allowed);
                    return Ok(());
                }
            },
        }
        if let Some(wanted) = &self.settings.rules.strategy.rehearse {
            let upgrades: Vec<Arc<Built>> = aim.hops.iter().chain(&aim.built).cloned().collect();
            match self.rehearse(&upgrades, wanted).await {
                Ok(said) => aim.decision.reasons.push(said),
                Err(reasons) => {
                    aim.decision = decide::instead_of_unfit(from, reasons);
                    (aim.hops, aim.built) = (Vec::new(), None);
                }
            }
        }
        Ok(())
    }

    /// Kept upgrades to another version, and the upgrade from there; or every reason against the ways that there are.
    async fn way_round(
        &mut self,
        from: &str,
        survey: Option<&Survey>,
    ) -> Result<Result<Round, Vec<String>>, Error> {
        let evidence = survey.map(|survey| survey.evidence.clone()).unwrap_or_default();
        let mut against = Vec::new();
        for way in hops::ways(self.source, from, &evidence.bad) {
            let Some(last) = way.last() else { continue };
            let reasons = match hops::along(self.source, from, &way, evidence.snapshot.as_ref()) {
                Err(NoUpgrade::Failed(error)) => return Err(error),
                Err(NoUpgrade::Unsound(reasons)) => reasons,
                Ok(hops) => match self.upgrade(last, None).await? {
                    // made for what its tag builds; what the hop brings has to be that
                    Ok(built) if fit(&hops, &built) => return Ok(Ok((hops, built))),
                    Ok(_) => vec![format!("the `{last}` that is kept is not what its tag builds")],
                    Err(reasons) => reasons,
                },
            };
            let via = way.join("`, `");
            against.extend(reasons.into_iter().map(|reason| format!("nor by way of `{via}`: {reason}")));
        }
        Ok(Err(against))
    }

    /// Plays the upgrades through on a copy, one after the other; what is said for it, or every reason against it.
    async fn rehearse(&mut self, upgrades: &[Arc<Built>], wanted: &Rehearse) -> Result<String, Vec<String>> {
        let mut problems = Vec::new();
        for built in upgrades {
            let known =
                self.rehearsed.iter().find(|(pair, _)| *pair == built.pair).map(|(_, result)| result.clone());
            let result = match known {
                Some(result) => result,
                None => {
                    let result = rehearsal::play(built, wanted, self.steps).await;
                    self.rehearsed.push((built.pair.clone(), result.clone()));
                    result
                }
            };
            match result {
                Ok(rehearsed) => problems.extend(
                    rehearsed
                        .problems
                        .into_iter()
                        .map(|problem| format!("rehearsed from `{}` on a copy: {problem}", rehearsed.from)),
                ),
                Err(error) => problems.push(error),
            }
        }
        if problems.is_empty() { Ok("rehearsed on a copy".to_owned()) } else { Err(problems) }
    }

    /// What was rehearsed, for the ledger.
    pub(crate) fn rehearsals(&self) -> Vec<Rehearsed> {
        self.rehearsed.iter().filter_map(|(_, result)| result.as_ref().ok().cloned()).collect()
    }
}

/// Kept upgrades one after the other, and the last one.
type Round = (Vec<Arc<Built>>, Arc<Built>);

/// Whether the last upgrade is from what the one before leads to.
fn fit(hops: &[Arc<Built>], last: &Built) -> bool {
    last.pair.0.as_ref().zip(hops.last()).is_none_or(|(old, hop)| same_code(old, &hop.pair.1))
}

/// Whether two packages hold the same modules.
fn same_code(a: &Path, b: &Path) -> bool {
    let modules = |path: &Path| {
        let package = Package::read(path).ok()?;
        let all = package.modules.into_values().flatten();
        Some(all.map(|(name, beam)| (name, beam.md5)).collect::<BTreeMap<_, _>>())
    };
    a == b || modules(a).is_some_and(|of_a| Some(of_a) == modules(b))
}
