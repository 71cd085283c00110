//! Local variables: `.ci/variables.yml` of a project and `--variables-file`.
//!
//! ```yaml
//! REGISTRY: registry.example.org          # plain
//! SSH_PRIVATE_KEY: {file: ~/.ssh/deploy}  # the text of a file; masked
//! TOKEN: {env: MY_TOKEN}                  # from our own environment; masked
//! PASSWORD: {cmd: pass show deploy}       # first line and all that a command prints; masked
//! HOST: {value: dev.example.org, environment: dev}
//! ```
//!
//! A list in place of a map gives several values for several environments. A value that is not in the file itself
//! is masked unless `masked: false` says otherwise.

use crate::error::{CliError, CliResult};
use pipelines::request::ProjectVariable;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One file of variables.
#[derive(Clone, Debug)]
pub struct VariablesFile {
    /// The file; relative paths in it are relative to its directory.
    pub path: PathBuf,
    /// Must it exist?
    pub required: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Plain(serde_yaml::Value),
    Whole(Definition),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Definition {
    value: Option<serde_yaml::Value>,
    file: Option<PathBuf>,
    env: Option<String>,
    cmd: Option<String>,
    masked: Option<bool>,
    #[serde(default)]
    raw: bool,
    /// Hand the value over as a file, as GitLab's variables of type file.
    #[serde(default)]
    as_file: bool,
    environment: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// Reads a file of variables; those for other refs than `reference` are left out.
///
/// # Errors
/// The file can't be read or is not as described above; says where.
pub fn load_variables(file: &VariablesFile, reference: &str) -> CliResult<Vec<ProjectVariable>> {
    let shown = file.path.display();
    let text = match std::fs::read_to_string(&file.path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !file.required => return Ok(Vec::new()),
        Err(e) => return Err(CliError::usage(format!("reading variables from `{shown}`: {e}"))),
    };
    let wrong = |what: String| {
        CliError::usage(format!("reading variables from `{shown}`: {what}"))
            .hint("each entry is `NAME: value` or `NAME: {value|file|env|cmd: ..., masked: true, environment: dev}`")
    };
    let parsed: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let map = match parsed {
        serde_yaml::Value::Null => return Ok(Vec::new()),
        serde_yaml::Value::Mapping(map) => map,
        _ => return Err(wrong("the file must be a map of names to values".into())),
    };
    let base = file.path.parent().unwrap_or(Path::new("."));
    let mut variables = Vec::new();
    for (key, value) in map {
        let key = key.as_str().ok_or_else(|| wrong("a variable's name must be text".into()))?.to_owned();
        if !is_name(&key) {
            return Err(wrong(format!("`{key}` is no name: use letters, digits and `_`, at most 255")));
        }
        let several = match value {
            serde_yaml::Value::Sequence(list) if !list.iter().all(serde_yaml::Value::is_mapping) => {
                let what = "a list has a map for each environment, such as `{value: x, environment: dev}`";
                return Err(wrong(format!("`{key}`: {what}")));
            }
            serde_yaml::Value::Sequence(list) => list,
            one => vec![one],
        };
        for one in several {
            let written: Written = if one.is_mapping() {
                Written::Whole(serde_yaml::from_value(one).map_err(|e| wrong(format!("`{key}`: {e}")))?)
            } else {
                Written::Plain(one)
            };
            let variable =
                resolve(&key, written, base, reference).map_err(|what| wrong(format!("`{key}`: {what}")))?;
            variables.extend(variable);
        }
    }
    Ok(variables)
}

/// GitLab's rule for the names of a project's variables.
fn is_name(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn resolve(
    key: &str,
    written: Written,
    base: &Path,
    reference: &str,
) -> Result<Option<ProjectVariable>, String> {
    let definition = match written {
        Written::Plain(value) => Definition { value: Some(value), ..Definition::default() },
        Written::Whole(definition) => definition,
    };
    if definition.reference.as_deref().is_some_and(|pattern| !scope_matches(pattern, reference)) {
        return Ok(None);
    }
    let outside = definition.value.is_none();
    let value = match (&definition.value, &definition.file, &definition.env, &definition.cmd) {
        (Some(value), None, None, None) => scalar(value)?,
        (None, Some(file), None, None) => read_file(file, base)?,
        (None, None, Some(name), None) => {
            std::env::var(name).map_err(|_| format!("the environment variable `{name}` is not set"))?
        }
        (None, None, None, Some(command)) => run_command(command, base)?,
        _ => return Err("say exactly one of `value`, `file`, `env`, `cmd`".into()),
    };
    Ok(Some(ProjectVariable {
        key: key.to_owned(),
        value,
        masked: definition.masked.unwrap_or(outside),
        file: definition.as_file,
        raw: definition.raw,
        environment_scope: definition.environment.unwrap_or_else(|| "*".into()),
    }))
}

pub(super) fn scalar(value: &serde_yaml::Value) -> Result<String, String> {
    match value {
        serde_yaml::Value::Null => Ok(String::new()),
        serde_yaml::Value::String(s) => Ok(s.clone()),
        serde_yaml::Value::Bool(b) => Ok(b.to_string()),
        serde_yaml::Value::Number(n) => Ok(n.to_string()),
        _ => Err("the value must be text, a number or a boolean".into()),
    }
}

/// The path with `~` for the home directory; else relative to `base`.
pub(super) fn at_home(file: &Path, base: &Path) -> PathBuf {
    match (file.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => base.join(file),
    }
}

pub(super) fn read_file(file: &Path, base: &Path) -> Result<String, String> {
    let path = at_home(file, base);
    std::fs::read_to_string(&path).map_err(|e| format!("reading `{}`: {e}", path.display()))
}

/// The standard output of a shell command of the settings' owner, without the last line end.
fn run_command(command: &str, base: &Path) -> Result<String, String> {
    let output = Command::new("sh")
        .arg("-c")
        .arg(command)
        .current_dir(base)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("starting its `cmd`: {e}"))?;
    if !output.status.success() {
        return Err(format!("its `cmd` ended with {}", output.status));
    }
    let text =
        String::from_utf8(output.stdout).map_err(|_| "its `cmd` printed something that is not UTF-8")?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// The variable that holds in an environment, or where there is none. Of several with this name the one with the closest
/// scope: a name before a pattern, a long one before a short one; of equals the last.
pub(crate) fn closest<'a>(
    variables: &'a [ProjectVariable],
    name: &str,
    environment: Option<&str>,
) -> Option<&'a ProjectVariable> {
    let holds = |variable: &&ProjectVariable| {
        let scope = &variable.environment_scope;
        variable.key == name && (scope == "*" || environment.is_some_and(|name| scope_matches(scope, name)))
    };
    let closeness = |variable: &&ProjectVariable| {
        let scope = &variable.environment_scope;
        (!scope.contains('*'), scope.len())
    };
    variables.iter().filter(holds).max_by_key(closeness)
}

/// GitLab's scopes: a name, or a name with `*` for any run of characters.
fn scope_matches(scope: &str, name: &str) -> bool {
    let pattern = scope.split('*').map(regex::escape).collect::<Vec<_>>().join(".*");
    regex::Regex::new(&format!("(?s)^{pattern}$")).is_ok_and(|r| r.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, reference: &str) -> CliResult<Vec<ProjectVariable>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("key"), "secret key\n").expect("a file");
        let path = dir.path().join("variables.yml");
        std::fs::write(&path, text).expect("a file");
        load_variables(&VariablesFile { path, required: true }, reference)
    }

    #[test]
    fn values_come_from_where_the_file_says() {
        let text =
            "A: x\nB: 1\nC: {file: key}\nD: {cmd: 'printf two; printf \" words\"', masked: false}\nE:\n";
        let got: Vec<_> =
            load(text, "main").expect("valid").into_iter().map(|v| (v.key, v.value, v.masked)).collect();
        let row = |k: &str, v: &str, m| (k.to_owned(), v.to_owned(), m);
        let want = [
            row("A", "x", false),
            row("B", "1", false),
            row("C", "secret key\n", true),
            row("D", "two words", false),
            row("E", "", false),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn scopes_select_by_ref_and_keep_environments() {
        let text = "A: [{value: one, ref: 'release/*'}, {value: two, environment: dev}]\n";
        let got = load(text, "main").expect("valid");
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].value.as_str(), got[0].environment_scope.as_str()), ("two", "dev"));
        assert_eq!(load(text, "release/1").expect("valid").len(), 2);
    }

    #[test]
    fn the_closest_scope_wins_and_of_equals_the_last() {
        let text = "A: [{value: all}, {value: others, environment: '*'}, {value: some, environment: 'review/*'}, \
                    {value: one, environment: review/a}]\n";
        let got = load(text, "main").expect("valid");
        let value = |environment| closest(&got, "A", environment).map(|variable| variable.value.as_str());
        let table = [
            (None, "others"),
            (Some("prod"), "others"),
            (Some("review/b"), "some"),
            (Some("review/a"), "one"),
        ];
        for (environment, expected) in table {
            assert_eq!(value(environment), Some(expected), "{environment:?}");
        }
        assert_eq!(closest(&got, "B", None), None);
    }

    #[test]
    fn mistakes_name_the_variable_and_never_its_value() {
        for text in ["A: {valu: hunter2}\n", "A: {value: hunter2, env: X}\n", "A: {value: [hunter2]}\n"] {
            let error = load(text, "main").expect_err("wrong");
            assert!(error.message.contains("`A`"), "{error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
    }
}
