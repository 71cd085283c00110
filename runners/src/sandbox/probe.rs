//! What works on this machine, and what is missing: the text of `ci doctor`.

use std::fs;
use std::path::Path;

use super::{Error, Limits, Sandbox, Spec, StateDir, Streams, Task, privilege, userns};

/// How sandboxes are built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As root: the host's files under a writable layer.
    Root,
    /// As an ordinary user with a range of ids: other users exist inside.
    Rootless,
    /// As an ordinary user with the own id only: `chown`, `su` and package managers fail inside.
    RootlessOneId,
}

/// Something that would make sandboxes possible, or better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is not there or not allowed.
    pub what: String,
    /// What to do, as commands or a file to write.
    pub cure: String,
}

/// What [`Sandbox::probe`] found.
#[derive(Debug)]
pub struct Capability {
    /// How sandboxes are (or would be) built.
    pub mode: Mode,
    /// Whether one could be built just now; else why not.
    pub works: Result<(), Error>,
    /// What is missing, the likely cause first.
    pub missing: Vec<Missing>,
}

impl Sandbox {
    /// Builds an empty sandbox below `root` (the directory of all state directories) and says how that went.
    pub async fn probe(&self, root: &Path) -> Capability {
        let mode = match (privilege::is_root_of_host(), userns::subordinate_ids()) {
            (true, _) => Mode::Root,
            (false, Some(_)) => Mode::Rootless,
            (false, None) => Mode::RootlessOneId,
        };
        let works = self.try_one(root).await;
        let mut missing = Vec::new();
        if works.is_err() {
            missing.extend(blockers(mode, |path| fs::read_to_string(path).ok()));
        }
        if mode == Mode::RootlessOneId {
            missing.push(missing_ids());
        }
        Capability { mode, works, missing }
    }

    /// Builds an empty sandbox with limits, and says which of them can't be set.
    ///
    /// # Errors
    /// No sandbox can be built at all.
    pub async fn probe_limits(&self, root: &Path) -> Result<Vec<String>, Error> {
        let (_, state) = StateDir::claim(root)?;
        let mut spec = Spec::host(state.path(), Path::new("/"));
        spec.mounts = Vec::new();
        spec.limits = Limits { memory: Some(1 << 30), cpus: Some(1.0), pids: Some(1000) };
        let notes = match self.start(&spec, Task::Check, Streams::piped()).await {
            Ok(mut process) => process.wait().await.map(|_| process.notes().to_vec()),
            Err(error) => Err(error),
        };
        state.release(self).await?;
        notes
    }

    async fn try_one(&self, root: &Path) -> Result<(), Error> {
        let (_, state) = StateDir::claim(root)?;
        let mut spec = Spec::host(state.path(), Path::new("/"));
        spec.mounts = vec![state.workspace(vec![state.path().join("stage")], Path::new("/builds/probe"))];
        let outcome = match self.start(&spec, Task::Check, Streams::piped()).await {
            Ok(mut process) => process.wait().await.map(|_| ()),
            Err(error) => Err(error),
        };
        state.release(self).await?;
        outcome
    }
}

/// Settings of the kernel that forbid sandboxes, with `read` as the file system.
fn blockers(mode: Mode, read: impl Fn(&str) -> Option<String>) -> Vec<Missing> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let mut found = Vec::new();
    let mut add = |what: &str, cure: String| found.push(Missing { what: what.to_owned(), cure });
    if mode != Mode::Root {
        if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_some_and(|value| value != 0) {
            add(
                "AppArmor allows user namespaces only to programs with a profile (Ubuntu 24.04)",
                apparmor_profile(),
            );
        }
        if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
            add(
                "user namespaces are switched off for ordinary users",
                "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned(),
            );
        }
        if number("/proc/sys/user/max_user_namespaces") == Some(0) {
            add(
                "the kernel allows no user namespaces",
                "sudo sysctl -w user.max_user_namespaces=15000".to_owned(),
            );
        }
    }
    if !read("/proc/filesystems").is_some_and(|list| list.contains("\toverlay\n")) {
        add("the kernel has no overlay file system (yet)", "sudo modprobe overlay".to_owned());
    }
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel_version(&release).is_some_and(|version| version < (5, 12)) {
        add(
            &format!("Linux {} is too old, 5.12 is needed", release.trim()),
            "upgrade the kernel, or use the docker or shell executor".to_owned(),
        );
    }
    found
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn apparmor_profile() -> String {
    let executable =
        std::env::current_exe().map_or_else(|_| "/usr/bin/ci".into(), |path| path.display().to_string());
    format!(
        "write this to /etc/apparmor.d/slipway-ci and run `sudo apparmor_parser -r /etc/apparmor.d/slipway-ci`:\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         profile slipway-ci {executable} flags=(unconfined) {{\n  userns,\n}}"
    )
}

fn missing_ids() -> Missing {
    Missing {
        what:
            "no range of user ids: /etc/subuid and /etc/subgid have no line for this user, or newuidmap is \
               not installed; jobs can't chown or su"
                .to_owned(),
        cure: "sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 \
               --add-subgids 100000-165535 \"$USER\""
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_blocker_is_named_with_its_cure() {
        let good = |path: &str| match path {
            "/proc/filesystems" => Some("\text4\nnodev\toverlay\n".to_owned()),
            "/proc/sys/kernel/osrelease" => Some("6.1.0-18-amd64\n".to_owned()),
            "/proc/sys/user/max_user_namespaces" => Some("15000\n".to_owned()),
            _ => None,
        };
        assert_eq!(blockers(Mode::Rootless, good), []);
        let cases = [
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "AppArmor", "userns,"),
            ("/proc/sys/kernel/unprivileged_userns_clone", "0\n", "switched off", "sysctl"),
            ("/proc/sys/user/max_user_namespaces", "0\n", "no user namespaces", "sysctl"),
            ("/proc/filesystems", "\text4\n", "overlay", "modprobe"),
            ("/proc/sys/kernel/osrelease", "5.10.0-1\n", "5.10.0-1", "upgrade"),
        ];
        for (path, content, what, cure) in cases {
            let read = |asked: &str| if asked == path { Some(content.to_owned()) } else { good(asked) };
            let found = blockers(Mode::Rootless, read);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].what.contains(what) && found[0].cure.contains(cure), "{path}: {found:?}");
        }
    }

    #[test]
    fn root_is_not_told_about_user_namespaces() {
        let read = |path: &str| match path {
            "/proc/sys/user/max_user_namespaces" => Some("0".to_owned()),
            "/proc/filesystems" => Some("nodev\toverlay\n".to_owned()),
            _ => None,
        };
        assert_eq!(blockers(Mode::Root, read), []);
    }
}
