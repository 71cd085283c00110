//! Findings of our own: what GitLab accepts and people regret.

use super::check::Findings;
use super::job::Draft;
use crate::diagnostic::Diagnostic;

/// `only` and `except` beside `rules`: the two kinds of job disagree about merge requests.
pub(super) fn mixed_policies(drafts: &[Draft], findings: &mut Findings<'_>) {
    let Some(modern) = drafts.iter().find(|d| !d.config.rules.is_empty()) else { return };
    for draft in drafts {
        let Some(keyword) =
            ["only", "except"].into_iter().find(|k| draft.config.keyword_spans.get(k).is_some())
        else {
            continue;
        };
        let (old, new) = (&draft.config.name, &modern.config.name);
        let text = format!("job `{old}` uses `{keyword}` in a configuration whose jobs use `rules`");
        let hint = Diagnostic::hint("only-with-rules", text)
            .at_opt(draft.config.keyword_spans.get(keyword), "")
            .at_opt(modern.config.keyword_spans.get("rules"), format!("job `{new}` uses `rules`"))
            .help("without `rules` a job is never part of a merge request pipeline unless `only` says so");
        findings.push(hint);
    }
}
