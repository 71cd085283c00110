//! Which upgrades lead from one version to another, when there is no direct one.

use std::collections::{BTreeMap, VecDeque};

use super::{package::Package, version};

/// A release version.
pub type Version = String;

/// One upgrade that a package offers: from the first version to the second, without a restart.
pub type Edge = (Version, Version);

/// The upgrades that a package's relup offers: one edge for each version that it upgrades from. None when it has
/// no relup, or one that can't be read.
#[must_use]
pub fn edges(package: &Package) -> Vec<Edge> {
    let relup = package.relup().ok().flatten();
    let scripts = relup.map(|relup| relup.up).unwrap_or_default();
    scripts.into_iter().map(|script| (script.version, package.rel.version.clone())).collect()
}

/// The versions to install one after the other to come from `from` to `to`, `to` last: as few as possible, and
/// among equally few the newer ones. Empty when the two are the same; `None` when no way leads there.
#[must_use]
pub fn plan(from: &str, to: &str, edges: &[Edge]) -> Option<Vec<Version>> {
    let mut ways: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (before, after) in edges {
        ways.entry(before).or_default().push(after);
    }
    for next in ways.values_mut() {
        next.sort_by(|a, b| version::compare(b, a));
    }
    let mut reached_from: BTreeMap<&str, &str> = BTreeMap::from([(from, from)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(here) = waiting.pop_front() {
        if here == to {
            return Some(way_back(from, to, &reached_from));
        }
        for next in ways.get(here).into_iter().flatten() {
            if !reached_from.contains_key(next) {
                reached_from.insert(next, here);
                waiting.push_back(next);
            }
        }
    }
    None
}

fn way_back(from: &str, to: &str, reached_from: &BTreeMap<&str, &str>) -> Vec<Version> {
    let (mut way, mut here) = (Vec::new(), to);
    while here != from {
        way.push(here.to_owned());
        here = reached_from[here];
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn the_shortest_way_is_taken_and_of_equal_ones_the_newer() {
        let edges =
            [edge("1", "2"), edge("2", "4"), edge("1", "3"), edge("3", "4"), edge("4", "5"), edge("2", "1")];
        let cases: &[(&str, &str, Option<&[&str]>)] = &[
            ("1", "1", Some(&[])),
            ("1", "2", Some(&["2"])),
            ("1", "5", Some(&["3", "4", "5"])),
            ("2", "3", Some(&["1", "3"])),
            ("5", "1", None),
            ("0", "1", None),
            ("0", "0", Some(&[])),
        ];
        for (from, to, expected) in cases {
            let expected = expected.map(|way| way.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
            assert_eq!(plan(from, to, &edges), expected, "{from} -> {to}");
        }
    }

    /// The number of hops by relaxing every edge as often as there are versions: slow and plain.
    fn distance(from: u8, to: u8, edges: &[(u8, u8)]) -> Option<usize> {
        let mut hops: BTreeMap<u8, usize> = BTreeMap::from([(from, 0)]);
        for _ in 0..12 {
            for (a, b) in edges {
                if let Some(n) = hops.get(a).map(|n| n + 1) {
                    let known = hops.entry(*b).or_insert(n);
                    *known = n.min(*known);
                }
            }
        }
        hops.get(&to).copied()
    }

    proptest! {
        #[test]
        fn a_plan_is_a_way_over_the_edges_and_none_is_shorter(
            pairs in prop::collection::vec((0u8..10, 0u8..10), 0..30), from in 0u8..10, to in 0u8..10,
        ) {
            let edges: Vec<Edge> = pairs.iter().map(|(a, b)| edge(&a.to_string(), &b.to_string())).collect();
            let found = plan(&from.to_string(), &to.to_string(), &edges);
            prop_assert_eq!(found.as_ref().map(Vec::len), distance(from, to, &pairs));
            let mut here = from.to_string();
            for next in found.into_iter().flatten() {
                prop_assert!(edges.contains(&(here, next.clone())));
                here = next;
            }
        }
    }
}
