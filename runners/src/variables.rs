//! The variables of a running job: the runner's own expansion (one pass, as Go's `os.Expand`), file variables,
//! masked values.

use pipelines::plan::JobVariable;
use std::collections::BTreeMap;
use std::path::Path;

/// Variables by name; a later one of the same name replaces the earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    by_name: BTreeMap<String, JobVariable>,
}

/// What a job's processes get.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Every variable, file variables as the path of their file; values expanded.
    pub variables: Variables,
    /// The files to write into the temporary directory.
    pub files: Vec<FileVariable>,
}

/// The content of a file variable.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileVariable {
    /// Of the variable and of the file.
    pub name: String,
    /// Expanded.
    pub content: String,
    /// Hide it in logs?
    pub masked: bool,
}

impl std::fmt::Debug for FileVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (content hidden)", self.name)
    }
}

impl Variables {
    /// Sets a variable.
    pub fn set(&mut self, variable: JobVariable) {
        self.by_name.insert(variable.key.clone(), variable);
    }

    /// Sets a plain text that is not expanded further.
    pub fn put(&mut self, key: &str, value: impl Into<String>) {
        let (key, value) = (key.to_owned(), value.into());
        self.set(JobVariable { key, value, file: false, masked: false, raw: true });
    }

    /// Value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|variable| variable.value.as_str())
    }

    /// Is the variable one of GitLab's spellings of true?
    pub fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | "yes" | "on" | "t" | "TRUE" | "True"))
    }

    /// Expands a text with these variables, the way of images, cache keys and policies.
    pub fn expand(&self, text: &str) -> String {
        expand(text, &|name| self.get(name).map(str::to_owned))
    }

    /// Values that must not appear in logs.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        self.by_name.values().filter(|variable| variable.masked).map(|variable| variable.value.as_str())
    }

    /// Name and value of those that are neither masked nor files.
    pub fn public(&self) -> impl Iterator<Item = (&str, &str)> {
        let public = self.by_name.values().filter(|variable| !variable.masked && !variable.file);
        public.map(|variable| (variable.key.as_str(), variable.value.as_str()))
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_name.iter().map(|(key, variable)| (key.as_str(), variable.value.as_str()))
    }

    /// Expands every value once; file variables become the path of their file in `temporary`.
    pub fn resolve(&self, temporary: &Path) -> Resolved {
        let path_of = |name: &str| temporary.join(name).to_string_lossy().into_owned();
        let lookup = |name: &str| {
            let variable = self.by_name.get(name)?;
            Some(if variable.file { path_of(name) } else { variable.value.clone() })
        };
        let mut resolved = Resolved::default();
        for variable in self.by_name.values() {
            let mut variable = variable.clone();
            if !variable.raw {
                variable.value = expand(&variable.value, &lookup);
            }
            if variable.file && is_name(&variable.key) {
                let path = path_of(&variable.key);
                let content = std::mem::replace(&mut variable.value, path);
                // the path is no secret, and hiding it would hide where the file is
                let masked = std::mem::take(&mut variable.masked);
                resolved.files.push(FileVariable { name: variable.key.clone(), content, masked });
            }
            resolved.variables.set(variable);
        }
        resolved
    }
}

/// May this be a variable's name in a process's environment and a shell?
pub fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Go's `os.Expand`: `$X`, `${X}`, one-character special names; unknown names become nothing, `$$` a dollar.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let value = |name: &str| if name == "$" { "$".to_owned() } else { lookup(name).unwrap_or_default() };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(inner) = rest.strip_prefix('{') {
            match inner.find('}') {
                Some(close) => {
                    if close > 0 {
                        out.push_str(&value(&inner[..close]));
                    }
                    rest = &inner[close + 1..];
                }
                None => rest = inner,
            }
            continue;
        }
        let special = rest.starts_with(|c: char| "*#$@!?-".contains(c) || c.is_ascii_digit());
        let length = if special {
            1
        } else {
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
        };
        if length == 0 {
            out.push('$');
        } else {
            out.push_str(&value(&rest[..length]));
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(key: &str, value: &str) -> JobVariable {
        JobVariable { key: key.into(), value: value.into(), file: false, masked: false, raw: false }
    }

    #[test]
    fn expansion_is_that_of_go() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        let table = [
            ("$A-${A}", "1-1"),
            ("$A_", ""),
            ("$B|${B}|$1|$*|", "||||"),
            ("$$A", "$A"),
            ("a$", "a$"),
            ("a$ b", "a$ b"),
            ("a$/b", "a$/b"),
            ("${A", "A"),
            ("${}x", "x"),
            ("%A%", "%A%"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }

    #[test]
    fn one_pass_and_raw_and_files() {
        let mut variables = Variables::default();
        variables.set(variable("A", "$B"));
        variables.set(variable("B", "$C"));
        variables.set(variable("C", "deep"));
        variables.set(JobVariable { raw: true, ..variable("RAW", "$C") });
        variables.set(JobVariable { file: true, masked: true, ..variable("KEY", "secret $C") });
        variables.set(variable("USES", "cat $KEY"));
        let resolved = variables.resolve(Path::new("/b/p.tmp"));
        let got = |name: &str| resolved.variables.get(name).map(str::to_owned);
        assert_eq!(got("A").as_deref(), Some("$C"));
        assert_eq!(got("RAW").as_deref(), Some("$C"));
        assert_eq!(got("KEY").as_deref(), Some("/b/p.tmp/KEY"));
        assert_eq!(got("USES").as_deref(), Some("cat /b/p.tmp/KEY"));
        let file = FileVariable { name: "KEY".into(), content: "secret deep".into(), masked: true };
        assert_eq!(resolved.files, [file]);
    }
}
