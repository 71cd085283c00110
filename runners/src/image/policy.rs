//! `pull_policy`.

use std::fmt;
use std::str::FromStr;

/// Whether the registry is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// The registry is always asked for the newest; what is here already is not fetched again.
    Always,
    /// The registry is asked only when the image is not here.
    #[default]
    IfNotPresent,
    /// The image must be here.
    Never,
}

impl FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "if-not-present" => Ok(Self::IfNotPresent),
            "never" => Ok(Self::Never),
            other => Err(format!("`{other}` is no pull policy: `always`, `if-not-present` and `never` are")),
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        })
    }
}
