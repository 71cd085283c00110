//! An environment as it is meant: `.ci/deploy.yml`, with what the variables say over it and below it.

use super::address::{Address, check_directory};
use super::error::Error;
use super::file::{Delivery, DeployFile, Environment, ReleaseSettings};

/// Where a release goes, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Environment, as `dev`.
    pub environment: String,
    /// Its targets, in order; none only where operations take bundles.
    pub targets: Vec<Address>,
    /// rebar3 profile.
    pub profile: String,
    /// Directory of the release on the targets; `None` means `/data/NAME`.
    pub directory: Option<String>,
    /// Version that is said to run there: the targets are not asked before the build.
    pub old_version: Option<String>,
    /// What is released.
    pub release: ReleaseSettings,
    /// The rest of what the file says about the environment.
    pub rules: Environment,
}

impl Settings {
    /// Resolves `environment`. For `dev`, `DEV_SSH_USER_HOST` wins over the file, and the file over
    /// `SSH_USER_HOST`; likewise for the other variables. Without a file, any environment can be made of
    /// variables. `variable` looks one up; empty is unset.
    ///
    /// # Errors
    /// The file has no such environment; there is no target; something is no host or no directory.
    pub fn read(
        environment: &str,
        file: Option<&DeployFile>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let rules = match file {
            Some(file) => find(environment, file)?.clone(),
            None => Environment::default(),
        };
        let prefix = prefix(environment);
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let get = |name: &str, written: Option<&str>| {
            let specific = set(&format!("{prefix}_{name}"));
            specific.or_else(|| written.map(str::to_owned)).or_else(|| set(name))
        };
        let own = set(&format!("{prefix}_SSH_USER_HOST"));
        let targets = match own.or_else(|| set("SSH_USER_HOST").filter(|_| rules.targets.is_empty())) {
            Some(one) => vec![Address::parse(&one, "`SSH_USER_HOST`")?],
            None => {
                let target =
                    |written: &String| Address::parse(written, &format!("a target of `{environment}`"));
                rules.targets.iter().map(target).collect::<Result<_, _>>()?
            }
        };
        if targets.is_empty() && rules.delivery == Delivery::Ssh {
            return Err(no_target(environment, &prefix));
        }
        let directory = get("TARGET_DIR", rules.directory.as_deref());
        Ok(Self {
            environment: environment.to_owned(),
            targets,
            profile: get("SERVER", rules.profile.as_deref()).unwrap_or_else(|| "default".to_owned()),
            directory: directory.map(|directory| check_directory(&directory, "`TARGET_DIR`")).transpose()?,
            old_version: get("OLD_VSN", None),
            release: file.map(|file| file.release.clone()).unwrap_or_default(),
            rules,
        })
    }

    /// The directory on the targets for the release `name`, where a target has none of its own.
    pub fn target_directory(&self, name: &str) -> String {
        self.directory.clone().unwrap_or_else(|| format!("/data/{name}"))
    }

    /// The directory of one target.
    pub fn directory_of(&self, target: &Address, name: &str) -> String {
        target.directory.clone().unwrap_or_else(|| self.target_directory(name))
    }
}

fn find<'a>(environment: &str, file: &'a DeployFile) -> Result<&'a Environment, Error> {
    file.environments.get(environment).ok_or_else(|| {
        let known = || file.environments.keys().map(String::as_str);
        let names: Vec<String> = known().map(|name| format!("`{name}`")).collect();
        let error = Error::refused(format!("`{}` has no environment `{environment}`", DeployFile::PATH));
        match pipelines::diagnostic::did_you_mean(environment, known()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None if names.is_empty() => error.help("add it below `environments:`"),
            None => error.help(format!("it has {}", names.join(", "))),
        }
    })
}

fn no_target(environment: &str, prefix: &str) -> Error {
    Error::refused(format!("no target for the environment `{environment}`")).help(format!(
        "set `SSH_USER_HOST` or `{prefix}_SSH_USER_HOST` to `user@host`, a host of your ssh configuration, or \
         `ssh://user@host:port`; or list `targets:` of `{environment}` in `{}`",
        DeployFile::PATH
    ))
}

fn prefix(environment: &str) -> String {
    environment
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let file = file.map(|text| DeployFile::parse(text).unwrap());
        Settings::read("dev", file.as_ref(), |name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn read(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        over(None, variables)
    }

    fn hosts(settings: &Settings) -> Vec<&str> {
        settings.targets.iter().map(|target| target.destination.as_str()).collect()
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
        assert_eq!(hosts(&settings), ["c@d"]);
        assert_eq!(settings.profile, "default");
        assert_eq!(settings.old_version.as_deref(), Some("1.0"));
        assert_eq!(settings.target_directory("urf"), "/data/urf");
    }

    #[test]
    fn the_file_stands_between_the_environments_own_variables_and_the_general_ones() {
        let file =
            "environments: {dev: {targets: [u@h1, 'u@h2:/srv/two'], directory: /srv/urf, profile: ci}}";
        let general = [("SSH_USER_HOST", "x@y"), ("TARGET_DIR", "/x"), ("SERVER", "x"), ("OLD_VSN", "1")];
        let settings = over(Some(file), &general).unwrap();
        assert_eq!(hosts(&settings), ["u@h1", "u@h2"]);
        assert_eq!(settings.profile, "ci");
        assert_eq!(settings.old_version.as_deref(), Some("1"));
        assert_eq!(settings.directory_of(&settings.targets[0], "urf"), "/srv/urf");
        assert_eq!(settings.directory_of(&settings.targets[1], "urf"), "/srv/two");
        let own = [("DEV_SSH_USER_HOST", "x@y"), ("DEV_TARGET_DIR", "/x"), ("DEV_SERVER", "x")];
        let settings = over(Some(file), &own).unwrap();
        assert_eq!((hosts(&settings), settings.profile.as_str()), (vec!["x@y"], "x"));
        assert_eq!(settings.target_directory("urf"), "/x");
        // a file that leaves something out is filled by the general variables
        let settings = over(Some("environments: {dev: {soak: 1s}}"), &general).unwrap();
        assert_eq!((hosts(&settings), settings.directory.as_deref()), (vec!["x@y"], Some("/x")));
    }

    #[test]
    fn an_environment_that_is_not_there_is_refused_with_those_that_are() {
        let help = |file: &str| over(Some(file), &[("SSH_USER_HOST", "h")]).unwrap_err().help.unwrap();
        assert!(help("environments: {deb: {targets: [h]}}").contains("`deb`"));
        assert!(help("environments: {one: {}, two: {}}").contains("`one`, `two`"));
        assert!(over(Some("environments: {dev: {}}"), &[]).unwrap_err().message.contains("no target"));
        assert!(over(Some("environments: {dev: {delivery: bundle}}"), &[]).unwrap().targets.is_empty());
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
