//! One thing found wrong with an upgrade.

use std::fmt;

use serde::Serialize;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the upgrade may go on.
    Warning,
    /// The upgrade would fail, or end in old code or lost state: it is not started.
    Error,
}

/// One thing found wrong, with its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `R001` and on for packages and relups, `A001` and on for appups.
    pub code: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// What was found, where.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn error(code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { code, severity: Severity::Error, text: text.into(), remedy: remedy.into() }
    }

    pub(crate) fn warning(code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(code, text, remedy) }
    }

    /// True for a finding that forbids the upgrade.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.is_error() { "error" } else { "warning" };
        write!(f, "{severity}[{}]: {}; {}", self.code, self.text, self.remedy)
    }
}
