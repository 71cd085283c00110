//! Release notes out of commit messages: conventional commits grouped, the others as they are.
//!
//! Source: Conventional Commits 1.0.0 (`type(scope)!: description`, footer `BREAKING CHANGE:`).

use std::fmt::Write as _;

use serde::Serialize;

/// What changed between two versions. Serialized, it is the document of `ci release notes --format json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// Version of this document's form.
    pub format: u32,
    /// The older version.
    pub from: String,
    /// The newer version.
    pub to: String,
    /// The changes, newest first.
    pub changes: Vec<Change>,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The commit's name in hex, in full.
    pub commit: String,
    /// Its author.
    pub author: String,
    /// The type of a conventional commit, in lower case; none for a plain one.
    pub kind: Option<String>,
    /// What it is about.
    pub scope: Option<String>,
    /// What it says, in one line.
    pub summary: String,
    /// What one has to do about it; empty but present when the commit only says that it breaks something.
    pub breaking: Option<String>,
}

impl Change {
    /// Reads a commit's message.
    #[must_use]
    pub fn parse(commit: &str, author: &str, message: &str) -> Change {
        let subject = message.lines().next().unwrap_or_default().trim();
        let footer = message.lines().skip(1).find_map(|line| {
            let line = line.trim();
            line.strip_prefix("BREAKING CHANGE:").or_else(|| line.strip_prefix("BREAKING-CHANGE:"))
        });
        let head = conventional(subject);
        let marked = head.as_ref().is_some_and(|(_, _, breaks, _)| *breaks);
        let breaking = footer.map(|text| text.trim().to_owned()).or_else(|| marked.then(String::new));
        let (kind, scope, summary) = match head {
            Some((kind, scope, _, summary)) => (Some(kind.to_lowercase()), scope.map(str::to_owned), summary),
            None => (None, None, subject),
        };
        Change {
            commit: commit.to_owned(),
            author: author.to_owned(),
            kind,
            scope,
            summary: summary.to_owned(),
            breaking,
        }
    }
}

/// Type, scope, `!` and description of `type(scope)!: description`.
fn conventional(subject: &str) -> Option<(&str, Option<&str>, bool, &str)> {
    let (head, summary) = subject.split_once(": ")?;
    let (head, breaks) = match head.strip_suffix('!') {
        Some(head) => (head, true),
        None => (head, false),
    };
    let (kind, scope) = match head.split_once('(') {
        Some((kind, rest)) => (kind, Some(rest.strip_suffix(')')?)),
        None => (head, None),
    };
    let known = GROUPS.iter().any(|(types, _)| types.iter().any(|known| known.eq_ignore_ascii_case(kind)));
    (known && !summary.trim().is_empty()).then(|| (kind, scope, breaks, summary.trim()))
}

/// Types and the heading that they stand under, in this order.
const GROUPS: &[(&[&str], &str)] = &[
    (&["feat", "feature"], "Features"),
    (&["fix", "bugfix"], "Fixes"),
    (&["perf"], "Performance"),
    (&["revert"], "Reverts"),
    (&["docs", "doc"], "Documentation"),
    (&["refactor", "style", "test", "tests", "build", "ci", "chore"], "Maintenance"),
];

impl Notes {
    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("## {}\n", self.to);
        let breaking: Vec<&Change> = self.changes.iter().filter(|change| change.breaking.is_some()).collect();
        section(&mut out, "Breaking changes", &breaking, |change| match change.breaking.as_deref() {
            Some("") | None => line(change),
            Some(text) => format!("{} ({})", escape(text), short(change)),
        });
        for (types, heading) in GROUPS {
            let of = |change: &&Change| change.kind.as_deref().is_some_and(|kind| types.contains(&kind));
            section(&mut out, heading, &self.changes.iter().filter(of).collect::<Vec<_>>(), line);
        }
        let plain: Vec<&Change> = self.changes.iter().filter(|change| change.kind.is_none()).collect();
        if plain.len() == self.changes.len() && !plain.is_empty() {
            out.push('\n');
            for change in plain {
                let _ = writeln!(out, "- {}", line(change));
            }
        } else {
            section(&mut out, "Other changes", &plain, line);
        }
        if self.changes.is_empty() {
            let _ = writeln!(out, "\nNo changes since {}.", self.from);
        }
        out
    }
}

fn section(out: &mut String, heading: &str, changes: &[&Change], line: impl Fn(&Change) -> String) {
    if changes.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n### {heading}\n");
    for change in changes {
        let _ = writeln!(out, "- {}", line(change));
    }
}

fn line(change: &Change) -> String {
    let scope = change.scope.as_ref().map_or_else(String::new, |scope| format!("**{}**: ", escape(scope)));
    format!("{scope}{} ({})", escape(&change.summary), short(change))
}

fn short(change: &Change) -> &str {
    change.commit.get(..8).unwrap_or(&change.commit)
}

/// A message is text, not HTML: pages that show Markdown would otherwise run what stands in it.
fn escape(text: &str) -> String {
    text.replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventional_commits_are_read_and_plain_ones_stay_plain() {
        type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, &'a str, Option<&'a str>);
        let cases: &[Row] = &[
            ("feat: more", Some("feat"), None, "more", None),
            ("Fix(store)!: less", Some("fix"), Some("store"), "less", Some("")),
            ("feat: a\n\nbody\n\nBREAKING CHANGE: do b", Some("feat"), None, "a", Some("do b")),
            ("Add a thing: well", None, None, "Add a thing: well", None),
            ("feat:nothing", None, None, "feat:nothing", None),
            ("feat(x: y", None, None, "feat(x: y", None),
            ("", None, None, "", None),
        ];
        for (message, kind, scope, summary, breaking) in cases {
            let change = Change::parse("0123456789", "ann", message);
            let seen = (
                change.kind.as_deref(),
                change.scope.as_deref(),
                &*change.summary,
                change.breaking.as_deref(),
            );
            assert_eq!(seen, (*kind, *scope, *summary, *breaking), "{message}");
        }
    }

    #[test]
    fn changes_stand_under_their_headings() {
        let change = |message| Change::parse("0123456789", "ann", message);
        let notes = |messages: &[&'static str]| Notes {
            format: 1,
            from: "1".into(),
            to: "2".into(),
            changes: messages.iter().map(|message| change(message)).collect(),
        };
        let text = notes(&["fix(db)!: no <b>", "feat: x", "words", "chore: y"]).markdown();
        assert_eq!(
            text,
            "## 2\n\n### Breaking changes\n\n- **db**: no &lt;b> (01234567)\n\n### Features\n\n- x (01234567)\n\n\
             ### Fixes\n\n- **db**: no &lt;b> (01234567)\n\n### Maintenance\n\n- y (01234567)\n\n### Other changes\n\n- words (01234567)\n"
        );
        assert_eq!(notes(&["a", "b"]).markdown(), "## 2\n\n- a (01234567)\n- b (01234567)\n");
        assert_eq!(notes(&[]).markdown(), "## 2\n\nNo changes since 1.\n");
    }
}
