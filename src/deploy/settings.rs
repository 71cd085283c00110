//! What `ci deploy ENV` takes from the environment's variables.

use super::error::Error;

/// Where a release goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Environment, as `dev`.
    pub environment: String,
    /// `user@host`, a host of the ssh configuration, or `ssh://user@host:port`.
    pub destination: String,
    /// rebar3 profile.
    pub profile: String,
    /// Directory of the release on the target; `None` means `/data/NAME`.
    pub directory: Option<String>,
    /// Version that is said to run there: the target is not asked before the build.
    pub old_version: Option<String>,
}

impl Settings {
    /// Reads the settings for `environment`. `DEV_SSH_USER_HOST` wins over `SSH_USER_HOST` for the
    /// environment `dev`, and likewise for the other variables. `variable` looks one up; empty is unset.
    pub fn read(environment: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let prefix = prefix(environment);
        let get = |name: &str| {
            let specific = variable(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
            specific.or_else(|| variable(name).filter(|value| !value.is_empty()))
        };
        let Some(destination) = get("SSH_USER_HOST") else {
            return Err(Error::refused(format!("no target for the environment `{environment}`"))
                .help(format!("set `SSH_USER_HOST` or `{prefix}_SSH_USER_HOST` to `user@host`, a host of your ssh configuration, or `ssh://user@host:port`")));
        };
        if destination.starts_with('-') || destination.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(Error::refused("`SSH_USER_HOST` is not a host")
                .help("use `user@host`, a host of your ssh configuration, or `ssh://user@host:port`"));
        }
        let directory = get("TARGET_DIR").map(|directory| check_directory(&directory)).transpose()?;
        Ok(Self {
            environment: environment.to_owned(),
            destination,
            profile: get("SERVER").unwrap_or_else(|| "default".to_owned()),
            directory,
            old_version: get("OLD_VSN"),
        })
    }

    /// The directory on the target for the release `name`.
    pub fn target_directory(&self, name: &str) -> String {
        self.directory.clone().unwrap_or_else(|| format!("/data/{name}"))
    }
}

fn prefix(environment: &str) -> String {
    environment
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

fn check_directory(directory: &str) -> Result<String, Error> {
    let trimmed = directory.trim_end_matches('/');
    let odd = trimmed.contains(char::is_control) || trimmed.split('/').any(|part| part == "..");
    if !trimmed.starts_with('/') || odd {
        return Err(Error::refused(format!(
            "`TARGET_DIR` is `{}`, which is not an absolute path below `/`",
            directory.escape_debug()
        ))
        .help("give the release a directory of its own, as `/data/urf`"));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        Settings::read("dev", |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environments_own_variable_wins() {
        let settings = read(&[
            ("SSH_USER_HOST", "a@b"),
            ("DEV_SSH_USER_HOST", "c@d"),
            ("DEV_OLD_VSN", ""),
            ("OLD_VSN", "1.0"),
        ])
        .unwrap();
        assert_eq!(settings.destination, "c@d");
        assert_eq!(settings.profile, "default");
        assert_eq!(settings.old_version.as_deref(), Some("1.0"));
        assert_eq!(settings.target_directory("urf"), "/data/urf");
    }

    #[test]
    fn the_target_directory_is_an_absolute_path_below_the_root() {
        for (value, expected) in [
            ("/srv/urf/", Some("/srv/urf")),
            ("/", None),
            ("urf", None),
            ("~/urf", None),
            ("/a/../..", None),
            ("/a\nb", None),
        ] {
            let settings = read(&[("SSH_USER_HOST", "h"), ("TARGET_DIR", value)]);
            assert_eq!(settings.ok().map(|s| s.target_directory("urf")).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_destination_that_ssh_would_take_for_an_option_is_refused() {
        for value in ["-oProxyCommand=sh", "a b", ""] {
            let error = read(&[("SSH_USER_HOST", value)]).unwrap_err();
            assert_eq!(error.outcome, super::super::error::Outcome::Refused, "{value}");
        }
    }
}
