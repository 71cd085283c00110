//! Findings about a configuration: collected, with places, never printed here.

use crate::source::Span;
use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration works, but somebody will lose time.
    Warning,
    /// GitLab would refuse the configuration.
    Error,
}

/// One finding. `message` is GitLab's own text where GitLab has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable kebab-case name of the rule, for `ci lint --explain CODE`, for example `unknown-key`.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Places; the first is the main one. Empty only where no text is at fault.
    pub labels: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
    /// Is the message one that GitLab itself prints? Only these enter a plan document.
    pub gitlab: bool,
}

impl Diagnostic {
    /// An error with GitLab's own text.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        let message = message.into();
        Diagnostic { code, severity: Severity::Error, message, labels: Vec::new(), help: None, gitlab: true }
    }

    /// A warning of GitLab's own.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// A warning that only we give.
    pub fn hint(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { gitlab: false, ..Diagnostic::warning(code, message) }
    }

    /// Adds a place, with what is to be said there (may be empty).
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push((span, text.into()));
        self
    }

    /// Adds a place if there is one.
    #[must_use]
    pub fn at_opt(self, span: Option<Span>, text: impl Into<String>) -> Diagnostic {
        match span {
            Some(span) => self.at(span, text),
            None => self,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Is it an error?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

const SHORTEST_WORD: usize = 3;

/// The known word nearest to a mistyped one, if one is near enough to be meant. One letter of two is no likeness.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() < SHORTEST_WORD {
        return None;
    }
    let near = |k: &&str| distance(word, k) <= (word.chars().count().max(k.chars().count()) / 3).max(1);
    known.into_iter().filter(near).min_by_key(|k| distance(word, k))
}

/// As [`did_you_mean`], for paths of files: what nearly all have in common (directory, extension) is no likeness. A file
/// of the same name elsewhere is meant, too.
pub fn did_you_mean_file<'a>(path: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let own_length = |path: &str| name(path).split('.').next().unwrap_or_default().chars().count();
    let near = |k: &&str| {
        let length = own_length(path).min(own_length(k));
        name(path) == name(k) || length >= SHORTEST_WORD && distance(path, k) <= (length / 3).max(1)
    };
    known.into_iter().filter(near).min_by_key(|k| distance(path, k))
}

/// Optimal string alignment distance: insert, delete, replace, swap of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word() {
        assert_eq!(did_you_mean("scirpt", ["script", "stage"]), Some("script"));
        assert_eq!(did_you_mean("befor_script", ["script", "before_script"]), Some("before_script"));
        assert_eq!(did_you_mean("zebra", ["script", "stage"]), None);
        assert_eq!(did_you_mean("if", ["is", "in"]), None, "too short to be like anything");
        assert_eq!(did_you_mean("nedes", ["needs"]), Some("needs"));
    }

    #[test]
    fn nearest_file() {
        let table = [
            ("ci/biuld.yml", "ci/build.yml", true),
            ("build.yml", "ci/build.yml", true),
            ("template/build.yml", "templates/build.yml", true),
            ("a.yml", "b.yml", false),
            ("ci/a.yml", "ci/ab.yml", false),
            ("ci/nope.yml", "ci/base.yml", false),
            ("x.yml", "ci/x.yml", true),
        ];
        for (path, known, near) in table {
            assert_eq!(did_you_mean_file(path, [known]).is_some(), near, "{path} {known}");
        }
    }
}
