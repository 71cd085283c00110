//! Configurations that multiply: each job has a copy of what it inherits, each parallel instance one of its job.

use super::check::Findings;
use super::job::Draft;
use super::parallel::Parallel;
use crate::diagnostic::Diagnostic;
use crate::matrix;
use crate::yaml::{Node, Value};

/// Of all instances together. A pipeline takes several times as much memory.
const MOST_BYTES: usize = 256 << 20;
/// Of an instance beside what is written in it.
const INSTANCE_BYTES: usize = 1024;
/// Of a value beside its text.
const VALUE_BYTES: usize = 16;

/// How much the jobs take so far.
pub(super) struct Size {
    /// What every job can inherit.
    common: usize,
    total: usize,
}

impl Size {
    pub(super) fn new<'n>(inherited: impl Iterator<Item = &'n Node>) -> Size {
        Size { common: inherited.map(bytes).sum(), total: 0 }
    }

    /// Adds a job. False, with a finding, when there are too many bytes now.
    pub(super) fn add(&mut self, draft: &Draft, node: &Node, findings: &mut Findings<'_>) -> bool {
        let instances = match &draft.parallel {
            None => 1,
            Some(Parallel::Number(total)) => *total as usize,
            Some(Parallel::Matrix(entries)) => matrix::count(entries),
        };
        let one = INSTANCE_BYTES.saturating_add(self.common).saturating_add(bytes(node));
        self.total = self.total.saturating_add(one.saturating_mul(instances));
        if self.total <= MOST_BYTES {
            return true;
        }
        let text = "The parsed YAML is too big";
        let label = format!("with this job ({instances} times {one} bytes) it is {} bytes", self.total);
        findings.push(Diagnostic::error("yaml-too-big", text).at(draft.config.span, label).help(
            "at most 256 MiB are allowed, with everything that jobs inherit and for each parallel job",
        ));
        false
    }
}

/// Bytes of a tree, shared parts counted wherever they are.
fn bytes(node: &Node) -> usize {
    let inside: usize = match &node.value {
        Value::String(text) => text.text.len(),
        Value::Sequence(items) | Value::Reference(items) => items.iter().map(bytes).sum(),
        Value::Mapping(map) => map.iter().map(|(_, entry)| bytes(&entry.node)).sum(),
        _ => 0,
    };
    VALUE_BYTES + inside
}
