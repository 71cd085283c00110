//! `only` and `except`: the conditions from before `rules`.

use crate::config::Policy;
use crate::expression::Regexp;
use crate::request::Request;

/// Does any entry of `refs` describe the request? Entries are ref names, `/patterns/`, `branches`, `tags`, or
/// pipeline sources in singular or plural, each with an optional `@group/project`.
pub fn matches_refs(refs: &[String], request: &Request) -> bool {
    refs.iter().any(|entry| {
        let (pattern, project) = match entry.split_once('@') {
            Some((pattern, project)) => (pattern, Some(project)),
            None => (entry.as_str(), None),
        };
        project.is_none_or(|project| project == request.project) && matches_pattern(pattern, request)
    })
}

fn matches_pattern(pattern: &str, request: &Request) -> bool {
    let source = request.source.strip_suffix("_event").unwrap_or(&request.source);
    if pattern == source || pattern == plural(source) {
        return true;
    }
    // refs say nothing about merge requests
    if request.is_merge_request() {
        return false;
    }
    if pattern == if request.tag { "tags" } else { "branches" } {
        return true;
    }
    match Regexp::literal(pattern) {
        Ok(regexp) => regexp.is_match(&request.reference),
        Err(_) => pattern == request.reference,
    }
}

fn plural(word: &str) -> String {
    if word.ends_with("sh") {
        return format!("{word}es");
    }
    match word.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{word}s"),
    }
}

/// The `only` that holds for a job without `rules` of its own, where the workflow has none either.
pub fn default_only() -> Policy {
    Policy { refs: Some(vec!["branches".into(), "tags".into()]), ..Policy::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(reference: &str, source: &str, tag: bool) -> Request {
        Request {
            project: "group/project".into(),
            reference: reference.into(),
            source: source.into(),
            tag,
            ..Request::default()
        }
    }

    #[test]
    fn refs_are_names_patterns_kinds_and_sources() {
        let push = request("feature/x", "push", false);
        let tag = request("v1.0", "push", true);
        let merge = request("feature/x", "merge_request_event", false);
        let schedule = request("main", "schedule", false);
        let table = [
            ("branches", &push, true),
            ("branches", &tag, false),
            ("branches", &merge, false),
            ("tags", &tag, true),
            ("tags", &push, false),
            ("feature/x", &push, true),
            ("feature/x", &merge, false),
            ("feature", &push, false),
            ("/^feature/", &push, true),
            ("/^FEATURE/i", &push, true),
            ("/^feature/", &merge, false),
            ("/^v\\d/", &tag, true),
            ("pushes", &push, true),
            ("push", &tag, true),
            ("merge_requests", &merge, true),
            ("merge_request", &merge, true),
            ("schedules", &schedule, true),
            ("branches", &schedule, true),
            ("branches@group/project", &push, true),
            ("branches@other/project", &push, false),
        ];
        for (pattern, request, holds) in table {
            assert_eq!(matches_refs(&[pattern.to_owned()], request), holds, "{pattern} {request:?}");
        }
        assert!(!matches_refs(&[], &push));
    }
}
