//! `lint:` in `.ci/settings.yml`:
//!
//! ```yaml
//! lint:
//!   allow: [unused-hidden-job]      # warnings that are not to be shown
//! ```

use crate::report::explain;
use serde::Deserialize;

/// What a project wants to hear about its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LintSettings {
    /// Codes of warnings that are not shown. Errors are always shown.
    #[serde(deserialize_with = "codes")]
    pub allow: Vec<String>,
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
