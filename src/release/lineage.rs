//! Which version served before the one that runs, and which of the older ones stay.

use std::collections::BTreeSet;

use super::installed::{Evidence, Snapshot};

/// What a version was put in place of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// That version.
    pub version: String,
    /// Whether the new one was only on the way to another.
    pub passing: bool,
}

/// The versions that served before `version`, the last one first, with those that were only passed.
fn ancestors<'a>(evidence: &'a Evidence, version: &'a str) -> Vec<&'a str> {
    let (mut seen, mut all, mut here) = (BTreeSet::from([version]), Vec::new(), version);
    while let Some(was) = evidence.replaced.get(here) {
        if !seen.insert(&was.version) {
            break;
        }
        all.push(was.version.as_str());
        here = &was.version;
    }
    all
}

fn passed(evidence: &Evidence, version: &str) -> bool {
    evidence.replaced.get(version).is_some_and(|was| was.passing)
}

/// The version to go back to from `version`: what served before the deployment that brought it, else, where nothing tells,
/// the newest older one that neither failed there nor was only passed.
#[must_use]
pub fn before<'a>(evidence: &'a Evidence, node: &'a Snapshot, version: &'a str) -> Option<&'a str> {
    let old = || node.releases.iter().filter(|release| release.status == "old").map(|r| r.version.as_str());
    let known = ancestors(evidence, version).into_iter().find(|version| !passed(evidence, version));
    known
        .filter(|known| old().any(|old| old == *known))
        .or_else(|| old().find(|version| !evidence.bad.contains_key(*version) && !passed(evidence, version)))
}

/// Old versions beyond those that stay: the `keep` that served last, and what the way back to them goes over.
#[must_use]
pub fn surplus(evidence: &Evidence, node: &Snapshot, keep: u32) -> Vec<String> {
    let mut order = ancestors(evidence, node.running().unwrap_or_default());
    let all: Vec<&str> =
        node.releases.iter().filter(|release| release.status == "old").map(|r| r.version.as_str()).collect();
    order.retain(|version| all.contains(version));
    let rest: Vec<&str> = all.into_iter().filter(|version| !order.contains(version)).collect();
    let mut kept = 0;
    let goes = order.into_iter().chain(rest).filter(|version| {
        let goes = kept >= keep;
        kept += u32::from(!goes && !passed(evidence, version));
        goes
    });
    // they become words of a shell
    let safe = |version: &&str| version.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    goes.filter(safe).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::installed::InstalledRelease;

    /// A version, what it replaced, and whether it was only passed.
    type Was = (&'static str, &'static str, bool);

    /// Releases, what replaced what, how many are kept, and which go.
    type Kept<'a> = (&'a [&'a str], &'a [Was], u32, &'a [&'a str]);

    /// What is there, as the node tells it, the first one running; and what replaced what.
    fn target(releases: &[&str], replaced: &[Was]) -> (Evidence, Snapshot) {
        let release = |(place, version): (usize, &&str)| InstalledRelease {
            version: (*version).to_owned(),
            status: if place == 0 { "permanent" } else { "old" }.to_owned(),
            ..InstalledRelease::default()
        };
        let node =
            Snapshot { releases: releases.iter().enumerate().map(release).collect(), ..Snapshot::default() };
        let was = |(version, was, passing): &Was| {
            ((*version).to_owned(), Replaced { version: (*was).to_owned(), passing: *passing })
        };
        let replaced = replaced.iter().map(was).collect();
        (Evidence { replaced, ..Evidence::default() }, node)
    }

    #[test]
    fn the_version_before_is_what_served_before_the_deployment() {
        let hops: &[_] = &[("2", "1", true), ("3", "2", false)];
        let cases: &[(&[&str], &[Was], Option<&str>)] = &[
            (&["3", "2", "1"], hops, Some("1")),
            (&["3", "2", "1"], &[("2", "1", false), ("3", "2", false)], Some("2")),
            // came back from 3: what was before 2 counts, not what the node lists first
            (&["2", "3", "1"], &[("2", "1", false), ("3", "2", false)], Some("1")),
            // installed by others
            (&["3", "2", "1"], &[], Some("2")),
            (&["4", "3", "2", "1"], &hops[..1], Some("3")),
            (&["3", "2"], hops, None),
            (&["1"], &[], None),
            (&["2", "1"], &[("2", "1", false), ("1", "2", false)], Some("1")),
        ];
        for (releases, replaced, expected) in cases {
            let (evidence, node) = target(releases, replaced);
            assert_eq!(before(&evidence, &node, releases[0]), *expected, "{releases:?} {replaced:?}");
        }
        let (mut evidence, node) = target(&["3", "2", "1"], &[]);
        evidence.bad.insert("2".to_owned(), "it failed".to_owned());
        assert_eq!(before(&evidence, &node, "3"), Some("1"));
    }

    #[test]
    fn what_served_before_stays_and_so_does_what_the_way_back_goes_over() {
        let hops: &[_] = &[("2", "1", true), ("3", "2", false), ("4", "3", false)];
        let cases: &[Kept<'_>] = &[
            (&["3", "2", "1"], &hops[..2], 1, &[]),
            (&["4", "3", "2", "1"], hops, 1, &["2", "1"]),
            (&["4", "3", "2", "1"], hops, 2, &[]),
            (&["3", "2", "1"], &hops[..2], 0, &["2", "1"]),
            (&["3", "2", "1"], &[], 1, &["1"]),
            // 3 failed and was left
            (&["4", "3", "2", "1"], &[("3", "2", false), ("4", "2", false)], 1, &["3", "1"]),
            (&["2", "1; rm -rf /"], &[], 0, &[]),
        ];
        for (releases, replaced, keep, expected) in cases {
            let (evidence, node) = target(releases, replaced);
            assert_eq!(surplus(&evidence, &node, *keep), *expected, "{releases:?} {replaced:?} {keep}");
        }
    }
}
