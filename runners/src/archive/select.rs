//! Which files of a project directory go into an archive.

use super::State;
use crate::glob::Pattern;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What to take; texts are expanded already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Globs relative to the project directory, or absolute below it.
    pub paths: Vec<String>,
    /// Globs of files to leave out. A pattern has to match the file itself.
    pub exclude: Vec<String>,
    /// Some: also every file that is not in this list of tracked paths.
    pub tracked: Option<Vec<String>>,
    /// Is [`Packed::digest`](super::Packed::digest) wanted?
    pub digest: bool,
    /// Nothing is packed if the files still are as they were unpacked then.
    pub unless: Option<State>,
}

/// What a selection found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Relative paths, sorted: a directory comes before what is in it.
    pub paths: BTreeSet<PathBuf>,
    /// Each pattern and how many paths it brought.
    pub matches: Vec<(String, usize)>,
    /// Sentences for the job's log.
    pub warnings: Vec<String>,
}

/// Finds the files below `root`. Symbolic links are taken as links and not walked through, but a pattern may
/// name a link as one of its leading directories as long as that stays inside `root`.
pub fn select(root: &Path, selection: &Selection) -> Selected {
    let mut selected = Selected::default();
    for text in &selection.paths {
        match relative_pattern(root, text) {
            Some(relative) => {
                let mut found = BTreeSet::new();
                find(root, &Pattern::new(&relative), &mut found, &mut selected.warnings);
                selected.matches.push((text.clone(), found.len()));
                selected.paths.extend(found);
            }
            None => selected.warnings.push(format!("`{text}` is outside of the project directory: ignored")),
        }
    }
    if let Some(tracked) = &selection.tracked {
        let tracked: HashSet<&[u8]> = tracked.iter().map(String::as_bytes).collect();
        let mut all = BTreeSet::new();
        walk(root, Found::top(), &mut selected.warnings, |found| {
            let (path, directory) = (&found.path, found.directory);
            let git = path.as_os_str() == ".git";
            if !git && !directory && !tracked.contains(path.as_os_str().as_bytes()) {
                all.insert(path.clone());
            }
            !git
        });
        selected.matches.push(("untracked".to_owned(), all.len()));
        selected.paths.extend(all);
    }
    let exclude: Vec<Pattern> = selection
        .exclude
        .iter()
        .filter_map(|text| relative_pattern(root, text))
        .map(|text| Pattern::new(&text))
        .collect();
    selected.paths.retain(|path| !exclude.iter().any(|pattern| pattern.matches(path.as_os_str().as_bytes())));
    selected
}

/// The pattern relative to `root`, without `.` and `..`; none when it leads outside.
fn relative_pattern(root: &Path, text: &str) -> Option<String> {
    let path = Path::new(text);
    let relative = if path.is_absolute() { path.strip_prefix(root).ok()? } else { path };
    let mut parts: Vec<&str> = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn find(root: &Path, pattern: &Pattern, found: &mut BTreeSet<PathBuf>, warnings: &mut Vec<String>) {
    for (literal, depth) in pattern.starts() {
        let start: PathBuf = literal.iter().map(|part| OsStr::from_bytes(part)).collect();
        let Ok(there) = fs::symlink_metadata(root.join(&start)) else { continue };
        if inside(root, &start) {
            let directory = there.is_dir() || start.as_os_str().is_empty();
            find_below(root, Found { path: start, directory }, depth, &mut Find { pattern, found, warnings });
        }
    }
}

struct Find<'a> {
    pattern: &'a Pattern,
    found: &'a mut BTreeSet<PathBuf>,
    warnings: &'a mut Vec<String>,
}

/// A path below the root.
struct Found {
    path: PathBuf,
    directory: bool,
}

impl Found {
    fn top() -> Found {
        Found { path: PathBuf::new(), directory: true }
    }
}

/// Takes `start` with everything in it when it matches; else looks further down, `depth` levels.
fn find_below(root: &Path, start: Found, depth: Option<usize>, find: &mut Find<'_>) {
    if find.pattern.matches(start.path.as_os_str().as_bytes()) {
        walk(root, start, find.warnings, |found| {
            if !found.path.as_os_str().is_empty() {
                find.found.insert(found.path.clone());
            }
            true
        });
    } else if depth != Some(0) {
        for child in children(root, &start, find.warnings) {
            find_below(root, child, depth.map(|levels| levels - 1), find);
        }
    }
}

/// Shows `start` and everything below it; what is below a path that `visit` refuses is left out.
fn walk(root: &Path, start: Found, warnings: &mut Vec<String>, mut visit: impl FnMut(&Found) -> bool) {
    let mut waiting = vec![start];
    while let Some(found) = waiting.pop() {
        if visit(&found) {
            waiting.extend(children(root, &found, warnings));
        }
    }
}

/// What is in a directory; nothing for all else (a link to a directory included). Asks no file what it is: the
/// directory knows.
fn children(root: &Path, found: &Found, warnings: &mut Vec<String>) -> Vec<Found> {
    if !found.directory {
        return Vec::new();
    }
    let child = |entry: fs::DirEntry| Found {
        directory: entry.file_type().is_ok_and(|kind| kind.is_dir()),
        path: found.path.join(entry.file_name()),
    };
    match fs::read_dir(root.join(&found.path)) {
        Ok(entries) => entries.flatten().map(child).collect(),
        Err(error) => {
            warnings.push(format!("reading directory `{}`: {error}", found.path.display()));
            Vec::new()
        }
    }
}

/// Is the directory of `path` inside `root`, links resolved?
fn inside(root: &Path, path: &Path) -> bool {
    let parent = path.parent().unwrap_or(Path::new(""));
    match (root.canonicalize(), root.join(parent).canonicalize()) {
        (Ok(root), Ok(parent)) => parent.starts_with(root),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.txt", "b.log", ".hidden", "src/x.rs", "src/deep/y.rs", "out/bin/app", "out/tmp/junk"]
        {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc", dir.path().join("escape")).unwrap();
        std::os::unix::fs::symlink("out", dir.path().join("build")).unwrap();
        dir
    }

    fn chosen(root: &Path, paths: &[&str], exclude: &[&str], tracked: Option<&[&str]>) -> Vec<String> {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let selection = Selection {
            paths: texts(paths),
            exclude: texts(exclude),
            tracked: tracked.map(texts),
            ..Selection::default()
        };
        select(root, &selection).paths.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn selects_as_gitlab_does() {
        let dir = tree();
        let root = dir.path();
        let absolute = root.join("a.txt").display().to_string();
        // paths, exclude, tracked, what is found
        type Row<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a [&'a str]>, &'a [&'a str]);
        let table: &[Row<'_>] = &[
            (&["*.txt"], &[], None, &["a.txt"]),
            (&["src"], &[], None, &["src", "src/deep", "src/deep/y.rs", "src/x.rs"]),
            (&["src/"], &["src/deep"], None, &["src", "src/deep/y.rs", "src/x.rs"]),
            (&["src/"], &["src/deep/**"], None, &["src", "src/x.rs"]),
            (&["**/*.rs"], &[], None, &["src/deep/y.rs", "src/x.rs"]),
            (&["out/*/app"], &[], None, &["out/bin/app"]),
            (&["./src/../a.txt", &absolute], &[], None, &["a.txt"]),
            (&["../x", "/etc/passwd", "escape/passwd", "src/../../etc"], &[], None, &[]),
            (&["escape"], &[], None, &["escape"]),
            (&["build/bin"], &[], None, &["build/bin", "build/bin/app"]),
            (&["nothing/here"], &[], None, &[]),
            (
                &[],
                &["out/**"],
                Some(&["a.txt", "src/x.rs"]),
                &[".hidden", "b.log", "build", "escape", "src/deep/y.rs"],
            ),
        ];
        for (paths, exclude, tracked, expected) in table {
            assert_eq!(chosen(root, paths, exclude, *tracked), *expected, "{paths:?} without {exclude:?}");
        }
        assert!(chosen(root, &["."], &[], None).contains(&"src/deep/y.rs".to_owned()));
    }

    #[test]
    fn says_what_a_pattern_brought() {
        let dir = tree();
        let selection =
            Selection { paths: vec!["*.log".into(), "no".into(), "/etc/x".into()], ..Selection::default() };
        let selected = select(dir.path(), &selection);
        assert_eq!(selected.matches, [("*.log".to_owned(), 1), ("no".to_owned(), 0)]);
        assert!(selected.warnings[0].contains("`/etc/x` is outside"));
    }
}
