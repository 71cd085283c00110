//! `exists` and `changes`: the questions that rules ask about files.

use crate::glob::Pattern;
use crate::request::{FetchError, Files, Request};

/// Above so many comparisons of a path with a pattern, GitLab takes the rule as fulfilled.
const MOST_COMPARISONS: usize = 50_000;

/// Does any of the patterns (expanded) name a tracked file?
pub fn exists(patterns: &[String], files: &dyn Files) -> bool {
    exists_in(patterns, top_level_only(patterns), files.paths())
}

/// Do the patterns (unexpanded) speak of the top directory only? Then no other file is looked at.
pub fn top_level_only(patterns: &[String]) -> bool {
    patterns.iter().all(|p| !p.contains('/') && !p.contains("**"))
}

/// Why `exists` can't look into another project, in GitLab's words where it has some.
pub(crate) fn unknown_place(project: &str, reference: Option<&str>, error: &FetchError) -> String {
    match error {
        FetchError::NoProject => format!("rules:exists:project `{project}` is not a valid project path"),
        FetchError::NoReference => {
            let reference = reference.unwrap_or("HEAD");
            format!("rules:exists:ref `{reference}` is not a valid ref in project `{project}`")
        }
        error => format!("rules:exists:project `{project}`: {error}"),
    }
}

/// Does any of the expanded patterns name one of the sorted paths?
pub fn exists_in(patterns: &[String], top_level_only: bool, paths: &[String]) -> bool {
    let (globs, names): (Vec<&String>, Vec<&String>) =
        patterns.iter().partition(|p| p.contains(['*', '?', '[', '{']));
    let visible = |path: &String| !top_level_only || !path.contains('/');
    if names.iter().any(|name| names_path(name, paths, top_level_only)) {
        return true;
    }
    if globs.is_empty() {
        return false;
    }
    let (suffixes, globs): (Vec<&String>, Vec<&String>) =
        globs.into_iter().partition(|g| suffix(g).is_some());
    let ends = |path: &&String| suffixes.iter().filter_map(|g| suffix(g)).any(|end| path.ends_with(end));
    if paths.iter().filter(|p| visible(p)).any(|path| ends(&path)) {
        return true;
    }
    matches_any(&globs, paths.iter().filter(|p| visible(p)))
}

/// Is the name a path, or with a slash at its end the beginning of one?
fn names_path(name: &str, paths: &[String], top_level_only: bool) -> bool {
    if top_level_only && name.contains('/') {
        return false;
    }
    let at = paths.partition_point(|path| path.as_str() < name);
    let found = |path: &String| if name.ends_with('/') { path.starts_with(name) } else { path == name };
    paths.get(at).is_some_and(found)
}

/// `.ext` of `**/*.ext`: an end of the path decides, and does not count as a comparison.
fn suffix(glob: &str) -> Option<&str> {
    let end = glob.strip_prefix("**/*")?;
    (end.starts_with('.') && !end.contains(['*', '?', '[', '{', '/', '\\'])).then_some(end)
}

/// Is one of the changed paths matched by any of the patterns (expanded)? Unknown changes count as a match.
pub fn changes(patterns: &[String], request: &Request) -> bool {
    let Some(changed) = request.changes.get() else { return true };
    let mut distinct: Vec<&String> = patterns.iter().collect();
    distinct.sort();
    distinct.dedup();
    matches_any(&distinct, changed.iter())
}

fn matches_any<'p>(globs: &[&String], paths: impl Iterator<Item = &'p String> + Clone) -> bool {
    if globs.len().saturating_mul(paths.clone().count()) > MOST_COMPARISONS {
        return true;
    }
    globs.iter().any(|glob| {
        let pattern = Pattern::new(glob);
        paths.clone().any(|path| pattern.matches(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn exists_looks_at_tracked_paths() {
        let paths = texts(&[".env", "a-b", "a/b/c.txt", "a/z.md", "b.txt"]);
        let table = [
            ("a/b/c.txt", true),
            ("a/b", false),
            ("a/b/", true),
            ("a/", true),
            ("z/", false),
            ("/b.txt", false),
            (".env", true),
            ("*env", true),
            ("*.md", false),
            ("**/*.md", true),
            ("**/*.m", false),
            ("a/*", true),
            ("{b,x}.txt", true),
            ("**/c.*", true),
        ];
        for (pattern, expected) in table {
            let patterns = texts(&[pattern]);
            assert_eq!(exists_in(&patterns, top_level_only(&patterns), &paths), expected, "{pattern}");
        }
        assert!(!exists_in(&[], true, &paths));
        assert!(
            !exists_in(&texts(&["a/z.md"]), true, &paths),
            "a variable's directories are not looked into"
        );
    }

    #[test]
    fn unknown_changes_match_and_empty_ones_do_not() {
        let with =
            |paths: Option<&[&str]>| Request { changes: paths.map(texts).into(), ..Request::default() };
        let globs = texts(&["src/*", "docs/**/*"]);
        assert!(changes(&globs, &with(None)));
        assert!(!changes(&globs, &with(Some(&[]))));
        assert!(changes(&globs, &with(Some(&["x", "docs/a/b"]))));
        assert!(!changes(&globs, &with(Some(&["src/a/b"]))));
        assert!(!changes(&[], &with(Some(&["x"]))));
    }
}
