//! Rules that can't be meant as they are written.

use super::{Subject, keyword, once};
use crate::config::Rule;
use crate::diagnostic::Diagnostic;
use crate::expression;
use crate::plan::When;
use crate::yaml::{Mapping, Node};

/// Jobs with rules of which none can bring them into a pipeline.
pub(super) fn never_run(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let jobs = subject.jobs().filter(|job| !job.rules.is_empty() && !can_run(&job.rules));
    once(jobs.map(|job| {
        let all_never = job.rules.iter().all(|rule| rule.when == Some(When::Never));
        let why =
            if all_never { "every rule says `when: never`" } else { "no rule can match and let it run" };
        let text = format!("job `{}` is never part of a pipeline", job.base_name);
        let diagnostic = Diagnostic::hint("job-never-runs", text).at(keyword(job, "rules"), why);
        let impossible = job.rules.iter().filter(|rule| !is_possible(rule));
        impossible
            .fold(diagnostic, |d, rule| d.at(rule.span, "this condition contradicts itself"))
            .help("a job that is switched off for now can be hidden: start its name with a dot")
    }))
}

fn can_run(rules: &[Rule]) -> bool {
    for rule in rules.iter().filter(|rule| is_possible(rule)) {
        if rule.when != Some(When::Never) {
            return true;
        }
        if rule.condition.is_none() && rule.changes.is_none() && rule.exists.is_none() {
            return false;
        }
    }
    false
}

fn is_possible(rule: &Rule) -> bool {
    let condition = rule.condition.as_deref().map(expression::parse);
    !matches!(condition, Some(Ok(expression)) if !expression.can_hold())
}

/// Patterns such as `src/**`, where `**` means `*` for GitLab.
pub(super) fn direct_children(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let mut patterns = Vec::new();
    for (_, node) in subject.visible() {
        let Some(map) = node.as_mapping() else { continue };
        if let Some(rules) = map.get("rules") {
            collect_rules(rules, &mut patterns);
        }
        for keyword in ["only", "except"] {
            if let Some(policy) = map.get(keyword).and_then(Node::as_mapping) {
                collect(policy, "changes", &mut patterns);
            }
        }
    }
    once(patterns.into_iter().filter_map(|node| {
        let pattern = node.as_str()?;
        let directory = pattern.strip_suffix("**").filter(|d| d.is_empty() || d.ends_with('/'))?;
        let text = format!("`{pattern}` matches only what stands directly in the directory");
        let hint = Diagnostic::hint("glob-direct-children", text).at(node.span, "`**` at the end means `*`");
        Some(
            hint.help(format!("write `{directory}**/*` for everything below it, or `{directory}*` for this")),
        )
    }))
}

fn collect_rules<'n>(rules: &'n Node, into: &mut Vec<&'n Node>) {
    for rule in rules.as_sequence().unwrap_or_default() {
        match rule.as_mapping() {
            Some(map) => ["changes", "exists"].into_iter().for_each(|keyword| collect(map, keyword, into)),
            None => collect_rules(rule, into),
        }
    }
}

/// The patterns of a keyword: a list, a map with `paths`, or one text.
fn collect<'n>(map: &'n Mapping, keyword: &str, into: &mut Vec<&'n Node>) {
    let Some(node) = map.get(keyword) else { return };
    let paths = node.as_mapping().map_or(Some(node), |long| long.get("paths"));
    match paths.map(|paths| (paths, paths.as_sequence())) {
        Some((_, Some(items))) => into.extend(items),
        Some((one, None)) => into.push(one),
        None => {}
    }
}
