//! `lint:` in `.ci/settings.yml`:
//!
//! ```yaml
//! lint:
//!   allow: [unused-hidden-job]      # warnings that are not to be shown
//! ```

use crate::error::{CliError, CliResult};
use crate::report::explain;
use serde::Deserialize;
use std::path::Path;

/// What a project wants to hear about its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LintSettings {
    /// Codes of warnings that are not shown. Errors are always shown.
    #[serde(deserialize_with = "codes")]
    pub allow: Vec<String>,
}

/// The part of the file that is about lint; other parts have readers of their own.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    lint: LintSettings,
}

impl LintSettings {
    /// The settings of the project at `root`.
    ///
    /// # Errors
    /// The file can't be read, or its `lint` is not as described above; says where.
    pub fn load(root: &Path) -> CliResult<LintSettings> {
        let path = root.join(".ci/settings.yml");
        let wrong =
            |what: String| CliError::usage(format!("reading settings from `{}`: {what}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(LintSettings::default()),
            Err(e) => return Err(wrong(e.to_string())),
        };
        let part: Option<Part> = serde_yaml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        Ok(part.unwrap_or_default().lint)
    }
}

fn codes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let codes = Vec::<String>::deserialize(deserializer)?;
    match codes.iter().find(|code| explain::page(code).is_none()) {
        None => Ok(codes),
        Some(unknown) => {
            let help = match explain::near(unknown) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`ci lint --explain` lists the codes".to_owned(),
            };
            Err(serde::de::Error::custom(format!("`{unknown}` is not the code of a finding: {help}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> CliResult<LintSettings> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join(".ci")).expect("a directory");
        std::fs::write(dir.path().join(".ci/settings.yml"), text).expect("a file");
        LintSettings::load(dir.path())
    }

    #[test]
    fn allowed_codes_are_read_and_other_parts_left_alone() {
        let settings = load("sources: {a/b: ../b}\nlint: {allow: [duplicate-key]}\n").expect("valid");
        assert_eq!(settings.allow, ["duplicate-key"]);
        for text in ["", "# nothing\n", "sources: {}\n", "lint: {}\n"] {
            assert_eq!(load(text).expect(text), LintSettings::default());
        }
    }

    #[test]
    fn mistakes_name_the_line_and_the_code_that_was_meant() {
        let message = load("lint:\n  allow: [duplicate-keys]\n").expect_err("wrong").message;
        assert!(message.contains("did you mean `duplicate-key`?") && message.contains("line 2"), "{message}");
        let message = load("lint:\n  alow: []\n").expect_err("wrong").message;
        assert!(message.contains("unknown field `alow`"), "{message}");
    }
}
