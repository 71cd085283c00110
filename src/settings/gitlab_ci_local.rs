//! `.gitlab-ci-local-variables.yml`, for those who come from gitlab-ci-local.
//!
//! ```yaml
//! TOKEN: abc                # plain
//! KNOWN_HOSTS: ~/.ssh/known_hosts   # a path that begins with `~/` or `/`, of a file that exists: a file variable
//! HOST:
//!   type: variable          # or `file`
//!   values: {"*": dev.example.org, production: example.org}   # by environment
//! ```

use super::variables::{read_file, scalar};
use crate::error::{CliError, CliResult};
use pipelines::request::ProjectVariable;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Its name in a project.
pub const GITLAB_CI_LOCAL: &str = ".gitlab-ci-local-variables.yml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scoped {
    #[serde(default, rename = "type")]
    kind: Kind,
    values: BTreeMap<String, serde_yaml::Value>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Variable,
    File,
}

/// Reads the file of the project at `root`, if there is one.
///
/// # Errors
/// The file can't be read or is not as described above; names the variable, never a value.
pub fn load_gitlab_ci_local(root: &Path) -> CliResult<Vec<ProjectVariable>> {
    let path = root.join(GITLAB_CI_LOCAL);
    let doing = format!("reading variables from `{}`", path.display());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(CliError::usage(format!("{doing}: {e}"))),
    };
    let wrong = |what: String| {
        CliError::usage(format!("{doing}: {what}"))
            .hint("each entry is `NAME: value` or `NAME: {type: variable, values: {\"*\": value}}`")
    };
    let entries: Option<BTreeMap<String, serde_yaml::Value>> =
        serde_yaml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let mut variables = Vec::new();
    for (key, entry) in entries.unwrap_or_default() {
        let read = read(&key, entry, root).map_err(|what| wrong(format!("`{key}`: {what}")))?;
        variables.extend(read);
    }
    Ok(variables)
}

fn read(key: &str, entry: serde_yaml::Value, root: &Path) -> Result<Vec<ProjectVariable>, String> {
    if !entry.is_mapping() {
        let text = scalar(&entry)?;
        let (value, file) = match content(&text, root) {
            Some(content) => (content?, true),
            None => (text, false),
        };
        return Ok(vec![variable(key, value, file, "*")]);
    }
    let scoped: Scoped = serde_yaml::from_value(entry)
        .map_err(|_| "the entry must have `values`, and may have `type: variable` or `type: file`")?;
    let file = scoped.kind == Kind::File;
    let one = |(scope, value): (&String, &serde_yaml::Value)| {
        let text = scalar(value)?;
        let value = match content(&text, root).filter(|_| file) {
            Some(content) => content?,
            None => text,
        };
        Ok(variable(key, value, file, scope))
    };
    scoped.values.iter().map(one).collect()
}

/// Text of the file, if `text` is the path of one.
fn content(text: &str, root: &Path) -> Option<Result<String, String>> {
    let is_path = text.starts_with("~/") || text.starts_with('/');
    let path = super::variables::at_home(Path::new(text), root);
    (is_path && !text.contains('\n') && path.is_file()).then(|| read_file(Path::new(text), root))
}

fn variable(key: &str, value: String, file: bool, scope: &str) -> ProjectVariable {
    ProjectVariable {
        key: key.to_owned(),
        value,
        masked: false,
        file,
        raw: false,
        environment_scope: scope.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> CliResult<Vec<ProjectVariable>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("hosts"), "one\n").expect("a file");
        let text = text.replace("DIR", &dir.path().to_string_lossy());
        std::fs::write(dir.path().join(GITLAB_CI_LOCAL), text).expect("a file");
        load_gitlab_ci_local(dir.path())
    }

    #[test]
    fn plain_values_files_and_values_by_environment() {
        let text = "A: x\nB: DIR/hosts\nC: /no/such/file\nD:\n  type: file\n  values: {'*': text, prod: DIR/hosts}\n\
                    E: {values: {'*': 1}}\n";
        let got = load(text).expect("valid");
        let got: Vec<_> = got
            .iter()
            .map(|v| (v.key.as_str(), v.value.as_str(), v.file, v.environment_scope.as_str()))
            .collect();
        let want = [
            ("A", "x", false, "*"),
            ("B", "one\n", true, "*"),
            ("C", "/no/such/file", false, "*"),
            ("D", "text", true, "*"),
            ("D", "one\n", true, "prod"),
            ("E", "1", false, "*"),
        ];
        assert_eq!(got, want);
        assert!(load("---\n").expect("empty").is_empty());
    }

    #[test]
    fn mistakes_name_the_variable_and_never_its_value() {
        for text in ["A: {valu: hunter2}\n", "A: [hunter2]\n", "A: {type: hunter2, values: {}}\n"] {
            let error = load(text).expect_err("wrong");
            assert!(error.message.contains("`A`"), "{error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
    }
}
