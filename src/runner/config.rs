//! `runner.yml`, in `$XDG_CONFIG_HOME/slipway` or `~/.config/slipway`. It holds tokens: only its owner may read it.
//!
//! ```yaml
//! concurrency: 4                      # jobs at once [default: the number of cores]
//! runners:
//!   - name: build-1
//!     url: https://ci.example.org
//!     token: glrt-…
//!     executor: docker                # sandbox, docker, podman or shell [default: as in settings.yml]
//! ```

use crate::error::{CliError, CliResult};
use crate::settings::ExecutorKind;
use crate::wire::Secret;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Jobs at once, of all servers together; none: as many as there are cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Servers that jobs are asked of.
    pub runners: Vec<Registered>,
}

/// A runner of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// For people.
    pub name: String,
    /// Of the server, without `/` at the end.
    pub url: String,
    /// The runner's token.
    pub token: Secret,
    /// Where its jobs run; none: as the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorKind>,
}

impl Registered {
    /// So much of the token that people can tell tokens apart.
    pub fn short_token(&self) -> String {
        let token = self.token.expose();
        token.strip_prefix("glrt-").unwrap_or(token).chars().take(8).collect()
    }
}

impl Config {
    /// The usual place of the file.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn usual_path() -> CliResult<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        config.map(|config| config.join("slipway/runner.yml")).ok_or_else(|| {
            CliError::usage("there is no place for `runner.yml`: `HOME` is not set")
                .hint("`--config FILE` names one")
        })
    }

    /// Reads the file; without one there are no runners.
    ///
    /// # Errors
    /// It can't be read, is not as described above, or others may read it.
    pub fn load(path: &Path) -> CliResult<Config> {
        let shown = path.display();
        let doing = |e: &dyn std::fmt::Display| CliError::usage(format!("reading `{shown}`: {e}"));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Config::default()),
            Err(e) => return Err(doing(&e)),
        };
        let mode = std::fs::metadata(path).map_err(|e| doing(&e))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CliError::usage(format!("others may read `{shown}`, which holds tokens"))
                .hint(format!("`chmod 600 {shown}`")));
        }
        let config: Option<Config> = serde_yaml::from_str(&text).map_err(|e| doing(&e))?;
        Ok(config.unwrap_or_default())
    }

    /// Writes the file, whole or not at all, for its owner only.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, path: &Path) -> CliResult {
        let doing = |e: &dyn std::fmt::Display| CliError::usage(format!("writing `{}`: {e}", path.display()));
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).map_err(|e| doing(&e))?;
        // made for its owner only
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(|e| doing(&e))?;
        let text = serde_yaml::to_string(self).map_err(|e| doing(&e))?;
        file.write_all(text.as_bytes()).map_err(|e| doing(&e))?;
        file.persist(path).map_err(|e| doing(&e.error))?;
        Ok(())
    }

    /// Jobs at once.
    pub fn slots(&self) -> usize {
        self.concurrency.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_their_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new/runner.yml");
        assert_eq!(Config::load(&path).expect("none is fine"), Config::default());
        let runner = Registered {
            name: "a".into(),
            url: "http://h".into(),
            token: "glrt-abcdefghij".into(),
            executor: Some(ExecutorKind::Shell),
        };
        let config = Config { concurrency: Some(3), runners: vec![runner] };
        config.save(&path).expect("saved");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(Config::load(&path).expect("read"), config);
        assert_eq!(config.runners[0].short_token(), "abcdefgh");
        assert!(!format!("{config:?}").contains("abcdefgh"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("opened up");
        let error = Config::load(&path).expect_err("others may read it");
        assert!(error.hints[0].contains("chmod 600"), "{error:?}");
    }

    #[test]
    fn mistakes_name_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("runner.yml");
        for text in ["runner: []\n", "runners:\n- {name: a}\n", "concurrency: many\n"] {
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("closed");
            let error = Config::load(&path).expect_err(text);
            assert!(error.message.contains("runner.yml"), "{error:?}");
        }
    }
}
