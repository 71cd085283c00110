//! A hot upgrade by way of other versions: each hop is an upgrade of its own, verified and made permanent before the
//! next one begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::release::decide;
use crate::release::hops;
use crate::release::installed::Snapshot;

use super::apply::{Apply, Care};
use super::error::{Error, Outcome};
use super::packages::{Built, NoUpgrade, Source};
use super::rollback;
use super::steps::Steps;
use super::target::{PATIENCE, Survey, Target};

/// Ways that are tried: each costs the build of an upgrade.
const TRIED: usize = 4;

/// The last version before the one that is deployed, with the kept upgrades that lead to it from `from`: the fewest
/// first, and among equally few the newest. None goes over what is `bad`.
pub(crate) fn ways(source: &Source, from: &str, bad: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let mut edges = source.kept_upgrades();
    edges.retain(|(_, to)| !bad.contains_key(to));
    let mut ends: Vec<&String> = edges.iter().map(|(_, to)| to).filter(|to| *to != from).collect();
    ends.sort_by(|a, b| crate::release::version::compare(b, a));
    ends.dedup();
    let mut ways: Vec<Vec<String>> = ends.into_iter().filter_map(|to| hops::plan(from, to, &edges)).collect();
    // stable: newer ones stay in front
    ways.sort_by_key(Vec::len);
    ways.truncate(TRIED);
    ways
}

/// The kept upgrades along `way`, each checked, the first one against the node that runs; or every reason against one.
pub(crate) fn along(
    source: &Source,
    from: &str,
    way: &[String],
    node: Option<&Snapshot>,
) -> Result<Vec<Arc<Built>>, NoUpgrade> {
    let mut built = Vec::new();
    let mut here = from;
    for next in way {
        built.push(Arc::new(source.kept_upgrade((here, next), node)?));
        here = next;
    }
    let reasons = match (node, built.first()) {
        (Some(node), Some(first)) => decide::check_live(node, &first.candidate),
        _ => Vec::new(),
    };
    if reasons.is_empty() { Ok(built) } else { Err(NoUpgrade::Unsound(reasons)) }
}

/// Upgrades that are made one after the other; usually there is one.
pub(crate) struct Hops<'a> {
    pub(crate) target: &'a mut Target,
    pub(crate) steps: &'a mut Steps,
    /// The last is what is deployed.
    pub(crate) way: &'a [Arc<Built>],
    pub(crate) care: &'a Care,
}

impl Hops<'_> {
    /// Upgrades the node from `from`. `before` is a query made under the lock.
    ///
    /// # Errors
    /// Each says what serves now. After a hop that fails all of them are taken back.
    pub(crate) async fn carry_out(&mut self, from: &str, before: Survey) -> Result<Survey, Error> {
        let mut passed = vec![from.to_owned()];
        let mut now = before;
        for (index, built) in self.way.iter().enumerate() {
            let version = &built.candidate.version;
            let here = passed.last().cloned().unwrap_or_default();
            if self.way.len() > 1 {
                let (hop, all) = (index + 1, self.way.len());
                self.steps.note(&format!("hop {hop} of {all}: from `{here}` to `{version}`"));
            }
            let care = match index + 1 == self.way.len() {
                true => self.care.clone(),
                false => self.care.in_passing(),
            };
            match self.one(built, &here, &now, &care).await {
                Ok(after) => now = after,
                Err(error) if index == 0 => return Err(error),
                Err(error) => return Err(self.take_back(&passed, error).await),
            }
            passed.push(version.clone());
        }
        Ok(now)
    }

    async fn one(&mut self, built: &Built, from: &str, now: &Survey, care: &Care) -> Result<Survey, Error> {
        if let Some(node) = &now.evidence.snapshot {
            let reasons = decide::check_live(node, &built.candidate);
            if !reasons.is_empty() {
                return Err(Error::refused(reasons.join("; ")).help(
                    "a hot upgrade is not possible; deploy again without `OLD_VSN`, so that the plan is made of what runs there",
                ));
            }
        }
        let Self { target, steps, .. } = self;
        let apply = Apply { target, steps, candidate: &built.candidate, package: &built.package };
        apply.hot(from, now, care).await
    }

    /// Back to where it began, from the last of the versions that were `passed`.
    async fn take_back(&mut self, passed: &[String], error: Error) -> Error {
        if error.outcome == Outcome::Restarted {
            return error;
        }
        let now = match self.target.survey(PATIENCE).await {
            Ok(now) => now,
            Err(other) => return error.and(&format!("the hops before it could not be taken back: {other}")),
        };
        let node = now.evidence.snapshot.unwrap_or_default();
        let way: Vec<&str> = passed.iter().rev().skip(1).map(String::as_str).collect();
        let from = passed.first().map(String::as_str).unwrap_or_default();
        let taken_back = match rollback::along(self.target, self.steps, &node, &way).await {
            Ok((_, true)) => Error::rolled_back(format!(
                "{}; the hops before it were taken back: `{from}` serves again, with the state of its processes",
                error.message
            )),
            Ok((_, false)) => Error::rolled_back(format!(
                "{}; the hops before it were taken back by a restart: `{from}` serves again, the state of its processes is lost",
                error.message
            )),
            Err(other) => {
                Error::restarted(format!("{}; going back to `{from}` failed too: {other}", error.message))
            }
        };
        Error { help: error.help, ..taken_back }
    }
}
