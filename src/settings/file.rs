//! `.ci/settings.yml` of a project, over `$XDG_CONFIG_HOME/slipway/settings.yml` of its user.
//!
//! ```yaml
//! sources:                                                      # where other projects come from
//!   group/project: https://gitlab.example.org/group/project.git
//!   group/*: git@gitlab.example.org:group/*.git                 # `*` is the rest of the path
//!   gitlab.com/components/rust: ~/src/rust-components           # a directory; relative ones to this file's
//! registries:                                                   # of container images, see [`super::RegistrySettings`]
//!   docker.io: {mirror: mirror.example.org}
//! lint:
//!   allow: [unused-hidden-job]                                  # warnings that are not to be shown
//! notify:
//!   - {kind: mattermost, url: CHAT_URL, on: [failed, fixed]}    # CHAT_URL: a variable, with the URL as its value
//! executor: docker                                              # sandbox, docker, podman or shell
//! network: isolated                                             # isolated, host or none
//! limits: {memory: 2g, cpus: 1.5, pids: 1000}                   # of each job's container
//! image: debian:bookworm                                        # of jobs that name none [default: host]
//! keep: {runs: 100, days: 30, size: 10 GB, images: 20 GB}       # how much of the past stays here
//! cache:
//!   s3: {bucket: ci-caches, region: eu-west-1}                  # caches of several machines
//! release:
//!   git_tag: true                                               # `release` jobs make their tags here
//! resource_groups:
//!   production: oldest_first                                    # who is next: see `resource_groups.rs`
//! ```

use super::{
    CacheSettings, ExecutorKind, KeepSettings, LimitSettings, LintSettings, NetworkSetting, RegistrySettings,
    ReleaseSettings, ResourceGroups,
};
use crate::error::{CliError, CliResult};
use crate::notify::Notifier;
use crate::sources::SourceTable;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What the settings files say together.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where other projects come from.
    pub sources: SourceTable,
    /// What a project wants to hear about its configuration.
    pub lint: LintSettings,
    /// Who is told of pipelines that `ci run` ran.
    pub notify: Vec<Notifier>,
    /// How much of the past stays on this machine.
    pub keep: KeepSettings,
    /// Where caches are kept as well.
    pub cache: CacheSettings,
    /// What a `release` job does here.
    pub release: ReleaseSettings,
    /// How registries of images are spoken to.
    pub registries: RegistrySettings,
    /// Where jobs run.
    pub executor: Option<ExecutorKind>,
    /// What each job's container may use.
    pub limits: LimitSettings,
    /// Image of jobs that name none; nothing: `host`, this machine's own files.
    pub image: Option<String>,
    /// Which network jobs get; none: the best that this machine has.
    pub network: Option<NetworkSetting>,
    /// Who gets a resource next when several pipelines wait for it.
    pub resource_groups: ResourceGroups,
}

impl Settings {
    /// The settings of the project at `root`; what it says itself wins over what its user says for all projects.
    ///
    /// # Errors
    /// A file can't be read or is not as described above; says which, and where in it.
    pub fn load(root: &Path) -> CliResult<Settings> {
        let own = read(&root.join(".ci/settings.yml"))?;
        let of_user = Settings::of_user()?;
        let mut lint = own.lint;
        lint.allow.extend(of_user.lint.allow);
        let mut notify = own.notify;
        notify.extend(of_user.notify);
        let mut resource_groups = of_user.resource_groups;
        resource_groups.extend(own.resource_groups);
        Ok(Settings {
            sources: own.sources.over(of_user.sources),
            lint,
            notify,
            resource_groups,
            registries: own.registries.over(of_user.registries),
            executor: own.executor.or(of_user.executor),
            limits: own.limits.over(of_user.limits),
            image: own.image.or(of_user.image),
            network: own.network.or(of_user.network),
            keep: own.keep.over(of_user.keep),
            cache: CacheSettings { s3: own.cache.s3.or(of_user.cache.s3) },
            release: ReleaseSettings { git_tag: own.release.git_tag.or(of_user.release.git_tag) },
        })
    }

    /// What the user says for all projects.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn of_user() -> CliResult<Settings> {
        user_file().map_or(Ok(Settings::default()), |path| read(&path))
    }
}

fn user_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("slipway/settings.yml"))
}

/// Settings from one file; the default when there is none.
fn read(path: &Path) -> CliResult<Settings> {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Settings::default());
        }
        Err(e) => return Err(CliError::usage(format!("reading settings from `{shown}`: {e}"))),
    };
    let settings: Option<Settings> = serde_yaml::from_str(&text)
        .map_err(|e| CliError::usage(format!("reading settings from `{shown}`: {e}")))?;
    let mut settings = settings.unwrap_or_default();
    settings.sources.relative_to(path.parent().unwrap_or(Path::new(".")));
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> CliResult<Settings> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("settings.yml");
        std::fs::write(&path, text).expect("a file");
        read(&path)
    }

    #[test]
    fn nothing_and_comments_are_settings() {
        for text in ["", "# nothing yet\n", "sources: {}\n", "lint: {}\n"] {
            assert!(settings(text).is_ok(), "{text}");
        }
        let both = settings("sources: {a/b: ../b}\nlint: {allow: [duplicate-key]}\n").expect("valid");
        assert_eq!(both.lint.allow, ["duplicate-key"]);
    }

    #[test]
    fn mistakes_name_the_file_and_the_line() {
        let table = [
            ("sources: {}\nsource: {}\n", "unknown field `source`", "line 2"),
            ("sources:\n  a/b: [x]\n", "a git URL or a directory", "line 2"),
            ("sources:\n  a/b: https://x/a/b.git\n  a/*/b: /x\n", "`a/*/b`", "line 3"),
            ("sources:\n  a/b: /x\n  a/*: https://x/a.git\n", "`a/*`", "line 3"),
            ("sources:\n  A/b: /x\n  a/b: /y\n", "`a/b` is there twice", "line 2"),
            ("sources:\n  a/b: https://me:hunter2@x/a.git\n", "password", "line 2"),
            ("lint:\n  allow: [duplicate-keys]\n", "did you mean `duplicate-key`?", "line 2"),
            (
                "network: bridge\n",
                "unknown variant `bridge`, expected one of `isolated`, `host`, `none`",
                "network",
            ),
            ("registries:\n  https://x: {}\n", "`https://x` is not a registry", "line 2"),
            ("registries:\n  x: {mirror: a/b}\n", "`a/b` is not a registry", ""),
            ("keep:\n  size: much\n", "`much` is not a size", "line 2"),
            ("keep:\n  run: 3\n", "unknown field `run`", "line 2"),
            ("cache:\n  s3: {bucket: b, secret_key: x}\n", "unknown field `secret_key`", "line 2"),
            ("cache:\n  s3: {region: r}\n", "missing field `bucket`", "line 2"),
            ("release:\n  git_tag: perhaps\n", "git_tag", "line 2"),
            ("registries:\n  x: {insecure: true}\n", "unknown field `insecure`", "line 2"),
            ("resource_groups:\n  prod: oldest\n", "expected one of `unordered`, `oldest_first`", "line 2"),
            ("lint:\n  alow: []\n", "unknown field `alow`", "line 2"),
            ("notify:\n- {kind: slack, url: 'https://h/hunter2'}\n", "names of variables", "line 2"),
            ("notify:\n- {kind: slak, url: U}\n", "`slack`", "line 2"),
            ("lint: {}\nexecutor: ship\n", "unknown variant `ship`", "line 2"),
            ("limits:\n  memory: much\n", "such as `512m`", "line 2"),
        ];
        for (text, what, line) in table {
            let message = settings(text).expect_err(text).message;
            for part in ["settings.yml", what, line] {
                assert!(message.contains(part), "{message}");
            }
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
