//! `workflow`.

use super::auto_cancel::auto_cancel;
use super::check::{Entry, Findings, ROOT};
use super::rules;
use super::types::Workflow;
use crate::yaml::{self, Node};

/// `workflow`.
pub(super) fn workflow(node: &Node, findings: &mut Findings<'_>) -> Workflow {
    let path = ROOT.child("workflow");
    let mark = findings.mark();
    let mut entry = Entry::new(node, &path, findings);
    entry.hash();
    entry.allowed_keys(&["rules", "name", "auto_cancel"]);
    entry.at_most("name", 255, "is too long (maximum is 255 characters)");
    let mut workflow = Workflow { name: entry.field("name").map(yaml::text), ..Workflow::default() };
    if entry.has("rules") {
        workflow.rules = Some(Vec::new());
    }
    let before = entry.findings.look_on(entry.valid, node.span, mark);
    if let Some(node) = entry.field("rules") {
        workflow.rules = Some(rules::rules(node, &path.child("rules"), entry.findings, &rules::WORKFLOW));
    }
    workflow.auto_cancel =
        entry.field("auto_cancel").map(|n| auto_cancel(n, &path.child("auto_cancel"), entry.findings));
    entry.findings.look_back(&before);
    workflow
}
