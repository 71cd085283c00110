//! `workflow:auto_cancel`, also in workflow rules.

use super::check::{Entry, Findings, Path};
use crate::plan::AutoCancel;
use crate::yaml::Node;

/// `auto_cancel`.
pub(super) fn auto_cancel(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> AutoCancel {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&["on_new_commit", "on_job_failure"]);
    entry.string("on_new_commit");
    let words = ["conservative", "interruptible", "none"];
    entry.one_of("on_new_commit", &words, "must be one of: conservative, interruptible, none");
    entry.string("on_job_failure");
    entry.one_of("on_job_failure", &["none", "all"], "must be one of: none, all");
    AutoCancel { on_new_commit: entry.text("on_new_commit"), on_job_failure: entry.text("on_job_failure") }
}
