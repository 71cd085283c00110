//! What follows from the ledger's entries. Pure.

use std::collections::BTreeMap;

use super::entry::{Approval, Arrival, BundleMade, Ended, Entry, Fact, Mark, Rehearsed, Released};
use crate::release::Package;

/// Every arrival at an environment, oldest first, whoever carried it.
pub fn arrivals<'a>(
    entries: &'a [Entry],
    environment: &str,
) -> impl Iterator<Item = (&'a Entry, &'a Arrival)> {
    entries.iter().filter_map(move |entry| match &entry.fact {
        Fact::Deployment(arrival) | Fact::Receipt(arrival) if arrival.environment == environment => {
            Some((entry, arrival))
        }
        _ => None,
    })
}

/// The content of `version` if its last arrival at the environment succeeded.
pub fn arrived<'a>(entries: &'a [Entry], environment: &str, version: &str) -> Option<&'a str> {
    let of_version = arrivals(entries, environment).filter(|(_, arrival)| arrival.version == version);
    // an attempt that changed nothing takes nothing back
    let told = of_version.filter(|(_, arrival)| !matches!(arrival.outcome, Ended::Refused | Ended::Failed));
    let (_, last) = told.last()?;
    if !last.outcome.succeeded() {
        return None;
    }
    let with_content = arrivals(entries, environment)
        .filter(|(_, arrival)| arrival.version == version && !arrival.content.is_empty())
        .last();
    with_content.map(|(_, arrival)| arrival.content.as_str())
}

/// The versions that run in an environment, by what was last said of each target.
pub fn running(entries: &[Entry], environment: &str) -> Vec<String> {
    let mut by_target: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, arrival) in arrivals(entries, environment) {
        let runs = match arrival.outcome {
            Ended::Done | Ended::Nothing => &arrival.version,
            Ended::RolledBack => match &arrival.from {
                Some(from) => from,
                None => continue,
            },
            Ended::Failed | Ended::Refused => continue,
        };
        for target in &arrival.targets {
            by_target.insert(target, runs);
        }
    }
    let mut versions: Vec<String> = by_target.into_values().map(str::to_owned).collect();
    versions.sort_by(|a, b| crate::release::version::compare(a, b));
    versions.dedup();
    versions
}

/// Why a version must not go to an environment, unless that was cleared.
pub fn bad<'a>(entries: &'a [Entry], environment: &str, version: &str) -> Option<&'a Mark> {
    let is_it = |mark: &&Mark| mark.environment == environment && mark.version == version;
    entries.iter().rev().find_map(|entry| match &entry.fact {
        Fact::Bad(mark) => is_it(&mark).then_some(Some(mark)),
        Fact::Cleared(mark) => is_it(&mark).then_some(None),
        _ => None,
    })?
}

/// The kept packages of a version, newest first.
pub fn releases<'a>(entries: &'a [Entry], version: &str) -> impl Iterator<Item = &'a Released> {
    entries.iter().rev().filter_map(move |entry| match &entry.fact {
        Fact::Release(released) if released.version == version => Some(released),
        _ => None,
    })
}

/// The last rehearsal of this very upgrade, if it was fit, and when that was.
pub fn rehearsed<'a>(entries: &'a [Entry], from: &str, new: &Package) -> Option<(&'a Entry, &'a Rehearsed)> {
    let last = entries.iter().rev().find_map(|entry| match &entry.fact {
        Fact::Rehearsal(rehearsed) if rehearsed.is_of(from, new) => Some((entry, rehearsed)),
        _ => None,
    });
    last.filter(|(_, rehearsed)| rehearsed.fit)
}

/// The agreements to put this content into an environment.
pub fn approvals<'a>(
    entries: &'a [Entry],
    environment: &str,
    content: &str,
) -> impl Iterator<Item = &'a Approval> {
    entries.iter().filter_map(move |entry| match &entry.fact {
        Fact::Approval(approval) if approval.environment == environment && approval.content == content => {
            Some(approval)
        }
        _ => None,
    })
}

/// The bundle of this digest.
pub fn bundle<'a>(entries: &'a [Entry], digest: &str) -> Option<&'a BundleMade> {
    entries.iter().rev().find_map(|entry| match &entry.fact {
        Fact::Bundle(made) if made.bundle == digest => Some(made),
        _ => None,
    })
}

/// Everything about an environment, oldest first.
pub fn history<'a>(entries: &'a [Entry], environment: &str) -> impl Iterator<Item = &'a Entry> {
    entries.iter().filter(move |entry| match &entry.fact {
        Fact::Release(_) | Fact::Rehearsal(_) => false,
        Fact::Deployment(arrival) | Fact::Receipt(arrival) => arrival.environment == environment,
        Fact::Bundle(made) => made.environment == environment,
        Fact::Approval(approval) => approval.environment == environment,
        Fact::Override(set_aside) => set_aside.environment == environment,
        Fact::Bad(mark) | Fact::Cleared(mark) => mark.environment == environment,
    })
}

#[cfg(test)]
mod tests {
    use super::super::entry::entries;
    use super::*;

    fn arrival(version: &str, target: &str, outcome: Ended) -> Fact {
        Fact::Deployment(Arrival {
            environment: "dev".into(),
            version: version.into(),
            content: format!("content of {version}"),
            targets: vec![target.into()],
            outcome,
            ..Arrival::default()
        })
    }

    #[test]
    fn a_version_has_arrived_until_it_is_rolled_back() {
        let mut facts = vec![arrival("2", "a", Ended::Failed)];
        assert_eq!(arrived(&entries(facts.clone()), "dev", "2"), None);
        facts.push(arrival("2", "a", Ended::Done));
        assert_eq!(arrived(&entries(facts.clone()), "dev", "2"), Some("content of 2"));
        assert_eq!(arrived(&entries(facts.clone()), "sit", "2"), None);
        facts.push(arrival("2", "a", Ended::Refused));
        assert_eq!(arrived(&entries(facts.clone()), "dev", "2"), Some("content of 2"));
        facts.push(arrival("2", "a", Ended::RolledBack));
        assert_eq!(arrived(&entries(facts), "dev", "2"), None);
    }

    #[test]
    fn what_runs_is_the_last_success_of_each_target() {
        let facts = vec![
            arrival("1", "a", Ended::Done),
            arrival("1", "b", Ended::Done),
            arrival("10", "a", Ended::Done),
            arrival("11", "a", Ended::RolledBack),
        ];
        assert_eq!(running(&entries(facts), "dev"), ["1", "10"]);
    }

    #[test]
    fn a_bad_version_stays_bad_until_cleared() {
        let mark = Mark { environment: "dev".into(), version: "2".into(), reason: "leaks".into() };
        let mut facts = vec![Fact::Bad(mark.clone())];
        assert_eq!(bad(&entries(facts.clone()), "dev", "2"), Some(&mark));
        assert_eq!(bad(&entries(facts.clone()), "sit", "2"), None);
        facts.push(Fact::Cleared(mark));
        assert_eq!(bad(&entries(facts), "dev", "2"), None);
    }
}
