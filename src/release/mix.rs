//! `mix.exs`, as far as it is written out: nothing is evaluated.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::Error;

/// What mix.exs says in plain literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixFile {
    /// The application, whose name the release has where nobody says another.
    pub app: String,
    /// Its version.
    pub version: String,
}

impl MixFile {
    /// Reads the file of the project in `directory`.
    ///
    /// # Errors
    /// It can't be read, or computes its version.
    pub fn read(directory: &Path) -> Result<MixFile, Error> {
        let path = directory.join("mix.exs");
        let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        let find = |pattern: &str| {
            let pattern = Regex::new(pattern).expect("the pattern is constant");
            pattern.captures(&text).map(|found| found[1].to_owned())
        };
        let app = find(r"(?m)^[^#\n]*\bapp:\s*:([a-z_][a-zA-Z0-9_]*)");
        let version =
            find(r#"(?m)^[^#\n]*\bversion:\s*"([^"]+)""#).or_else(|| find(r#"(?m)^\s*@version\s+"([^"]+)""#));
        match (app, version) {
            (Some(app), Some(version)) => Ok(MixFile { app, version }),
            _ => Err(Error::Project(
                "mix.exs has no literal `app:` and `version:`; set `release: name` and `release: version` in .ci/deploy.yml"
                    .to_owned(),
            )),
        }
    }
}

/// How `mix` builds a project's release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// The project's own commands, in place of `mix release`.
    pub commands: Vec<String>,
    /// The archive that they leave; `None`: `mix release` builds it.
    pub package: Option<PathBuf>,
}

/// `MIX_ENV` of a profile.
#[must_use]
pub fn environment(profile: &str) -> &str {
    if profile == "default" { "prod" } else { profile }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_exs_is_read_without_elixir() {
        let directory = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("[\n# version: \"9\"\napp: :shop,\n      version: \"0.1.0\",", Some(("shop", "0.1.0"))),
            ("@version \"2.0.0\"\n[app: :shop, version: @version]", Some(("shop", "2.0.0"))),
            ("[app: :shop, version: version()]", None),
        ] {
            fs::write(directory.path().join("mix.exs"), text).unwrap();
            let read = MixFile::read(directory.path()).ok();
            assert_eq!(read.as_ref().map(|mix| (mix.app.as_str(), mix.version.as_str())), expected, "{text}");
        }
    }
}
