//! The application upgrade file: read, and printed. Source: appup(4) of SASL.

use std::fmt::Write;

use regex::Regex;

use super::{
    Error,
    erlang::{Term, text},
};

/// A whole `.appup` file. Instructions stay terms: systools understands them, we only make some.
#[derive(Debug, Clone, PartialEq)]
pub struct Appup {
    /// The application version that it belongs to.
    pub version: String,
    /// From which versions, a string or a binary with a regular expression, by which instructions.
    pub up: Vec<(Term, Vec<Term>)>,
    /// Back to which versions.
    pub down: Vec<(Term, Vec<Term>)>,
}

impl Appup {
    /// Parses an appup; `file` names it in errors.
    ///
    /// # Errors
    /// The text doesn't parse, or is no appup.
    pub fn parse(file: &str, source: &str) -> Result<Appup, Error> {
        let term = text::parse_one(source).map_err(|e| Error::text(file, &e))?;
        Appup::from_term(&term).ok_or_else(|| {
            Error::document(file, "it is not `{Vsn, [{UpFrom, Instructions}], [{DownTo, Instructions}]}`")
        })
    }

    fn from_term(term: &Term) -> Option<Appup> {
        let [version, up, down] = term.as_tuple()? else { return None };
        let entry = |term: &Term| match term.as_tuple()? {
            [version, instructions] => Some((version.clone(), instructions.as_list()?.to_vec())),
            _ => None,
        };
        let entries = |term: &Term| term.as_list()?.iter().map(entry).collect::<Option<Vec<_>>>();
        Some(Appup { version: version.text()?, up: entries(up)?, down: entries(down)? })
    }

    /// Whether there is an entry to upgrade from `version`.
    #[must_use]
    pub fn has_up(&self, version: &str) -> bool {
        self.up.iter().any(|(pattern, _)| matches(pattern, version))
    }

    /// Whether there is an entry to go back to `version`.
    #[must_use]
    pub fn has_down(&self, version: &str) -> bool {
        self.down.iter().any(|(pattern, _)| matches(pattern, version))
    }

    /// Prints the file, an instruction a line.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = format!("%% coding: utf-8\n{{{},\n", Term::string(&self.version));
        for (i, entries) in [&self.up, &self.down].into_iter().enumerate() {
            out.push_str(" [");
            for (j, (version, instructions)) in entries.iter().enumerate() {
                let lines: Vec<String> = instructions.iter().map(Term::to_string).collect();
                let separator = if j == 0 { "" } else { ",\n  " };
                let _infallible = write!(out, "{separator}{{{version},\n   [{}]}}", lines.join(",\n    "));
            }
            out.push_str(if i == 0 { "],\n" } else { "]}.\n" });
        }
        out
    }
}

/// A string stands for itself; a binary is a regular expression that must match all of the version.
pub(super) fn matches(pattern: &Term, version: &str) -> bool {
    match pattern {
        Term::Binary(source) => std::str::from_utf8(source)
            .ok()
            .and_then(|source| Regex::new(&format!("^(?:{source})$")).ok())
            .is_some_and(|regex| regex.is_match(version)),
        other => other.text().as_deref() == Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_appup_reads_back_as_printed() {
        let source = r#"{"0.3.0",[{"0.2.0",[{add_module,a},{update,b,{advanced,[]},[a]}]},{<<"0\\.1\\..*">>,[]}],[{"0.2.0",[]}]}."#;
        let appup = Appup::parse("a.appup", source).unwrap();
        assert_eq!(Appup::parse("again", &appup.print()).unwrap(), appup);
        let up = ["0.2.0", "0.1.7", "0.1", "10.1.7"].map(|version| appup.has_up(version));
        assert_eq!(up, [true, true, false, false]);
        assert!(appup.has_down("0.2.0") && !appup.has_down("0.1.7"));
        assert!(Appup::parse("a.appup", "{\"1\",[]}.").unwrap_err().to_string().contains("it is not `{Vsn"));
    }
}
