//! `parallel`: a number of copies, or a matrix.

use super::check::{Entry, Findings, Path};
use super::ruby;
use crate::matrix::{self, Combination};
use crate::yaml::{self, Node, Value};

/// `parallel`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parallel {
    /// So many copies.
    Number(u32),
    /// Products of values.
    Matrix(Vec<Combination>),
}

/// `parallel`. A trigger job may only have a matrix.
pub(super) fn parallel(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>, numbers: bool) -> Parallel {
    let mut entry = Entry::new(node, path, findings);
    match &node.value {
        Value::Integer(_) | Value::Float(_) => {
            let number = entry.integer_between("config", 1, 200);
            if !numbers {
                entry.fail("bad-value", "config", "cannot use \"parallel: <number>\".");
            }
            Parallel::Number(number.and_then(|n| u32::try_from(n).ok()).unwrap_or(1))
        }
        Value::Mapping(_) => {
            entry.allowed_keys(&["matrix"]);
            entry.required_keys(&["matrix"]);
            let list = entry.field("matrix").filter(|_| entry.valid);
            Parallel::Matrix(
                list.map(|n| combinations(n, &path.child("matrix"), findings)).unwrap_or_default(),
            )
        }
        _ => {
            entry.unsupported("should be an integer or a hash");
            Parallel::Number(1)
        }
    }
}

fn combinations(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<Combination> {
    let mut entry = Entry::new(node, path, findings);
    let maps = |n: &Node| n.as_sequence().is_some_and(|items| items.iter().all(|i| i.as_mapping().is_some()));
    entry.is("config", maps, "should be an array of hashes");
    if !entry.valid {
        return Vec::new();
    }
    let at = path.child("variables");
    let items = node.as_sequence().unwrap_or_default();
    let entries: Vec<Combination> = items.iter().map(|n| combination(n, &at, entry.findings)).collect();
    if matrix::count(&entries) > matrix::LIMIT {
        entry.fail("too-long", "config", "generates too many jobs (maximum is 200)");
        return Vec::new();
    }
    entries
}

fn combination(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Combination {
    let mut entry = Entry::new(node, path, findings);
    let scalar = |n: &Node| matches!(n.value, Value::String(_) | Value::Integer(_));
    let value = |n: &Node| {
        !ruby::is_blank(n) && n.as_sequence().map_or_else(|| scalar(n), |items| items.iter().all(scalar))
    };
    let all = |n: &Node| n.as_mapping().is_some_and(|m| m.iter().all(|(_, e)| value(&e.node)));
    entry.is("config", all, "should be a hash of key value pairs, value can be an array");
    if ruby::length(node) < 1 {
        entry.fail("blank", "config", "requires at least 1 items");
    }
    let values = |n: &Node| match n.as_sequence() {
        Some(items) => items.iter().map(yaml::text).collect(),
        None => vec![yaml::text(n)],
    };
    let pairs = node.as_mapping().into_iter().flat_map(|m| m.iter());
    pairs.map(|(key, e)| (key.to_string(), values(&e.node))).collect()
}
