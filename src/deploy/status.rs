//! What runs on the targets of an environment, and where it is not what it should be.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::release::decide::{Candidate, stale_modules};
use crate::release::installed::{Installed, Snapshot};

use super::error::Error;
use super::file::{Delivery, Tier};
use super::query::{self, Asked, Wait};
use super::settings::Settings;
use super::steps::Steps;
use super::{packages, service};

/// An environment as it is now. Serialized, it is the document of `--format json`.
#[derive(Clone, Debug, Serialize)]
pub struct EnvironmentStatus {
    /// Version of this document's form.
    pub format: u32,
    /// Environment.
    pub environment: String,
    /// Its tier.
    pub tier: Tier,
    /// How releases get there.
    pub delivery: Delivery,
    /// Release name.
    pub release: String,
    /// In the order of the environment.
    pub targets: Vec<TargetStatus>,
}

/// A target as it is now.
#[derive(Clone, Debug, Serialize)]
pub struct TargetStatus {
    /// Where was asked.
    pub destination: String,
    /// Directory there.
    pub directory: String,
    /// Whether a deployment is at work there.
    pub busy: bool,
    /// What a deployment that was interrupted has left, for the next one to end or remove; paths in the directory.
    pub left: Vec<String>,
    /// The verdict; `None` when it could not be asked.
    pub installed: Option<Installed>,
    /// Its process, where one runs.
    pub pid: Option<u32>,
    /// Bytes of memory that it uses.
    pub memory: Option<u64>,
    /// When that process started, in UTC.
    pub since: Option<String>,
    /// What an Erlang node says of itself, if it answers.
    pub node: Option<Snapshot>,
    /// What the loaded code was compared with: a package, or what was unpacked, by its digest; `None` when there is none.
    pub package: Option<String>,
    /// Where the code is not that of the package or of the other targets with the same version.
    pub drift: Vec<String>,
    /// Versions that failed there, each with the reason.
    pub bad: BTreeMap<String, String>,
    /// Why it could not be asked.
    pub error: Option<Error>,
}

impl TargetStatus {
    pub(super) fn new(destination: &str, directory: &str) -> Self {
        Self {
            destination: destination.to_owned(),
            directory: directory.to_owned(),
            busy: false,
            left: Vec::new(),
            installed: None,
            pid: None,
            memory: None,
            since: None,
            node: None,
            package: None,
            drift: Vec::new(),
            bad: BTreeMap::new(),
            error: None,
        }
    }

    /// Whether it could be told what is there.
    #[must_use]
    pub fn told(&self) -> bool {
        matches!(
            self.installed,
            Some(
                Installed::Absent
                    | Installed::Stopped { .. }
                    | Installed::Running { .. }
                    | Installed::Current { .. }
            )
        )
    }

    /// The version that runs, or would boot.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match self.installed.as_ref()? {
            Installed::Stopped { version } => version.as_deref(),
            installed => installed.running(),
        }
    }
}

/// Asks what runs on the targets of `settings`, all at the same time. `project` tells the release's name and has
/// the packages that were built last.
///
/// # Errors
/// The project can't be read. A target that can't be asked is no error, but says so.
pub async fn status(settings: &Settings, project: &Path) -> Result<EnvironmentStatus, Error> {
    if let Some(kind) = service::of(project, settings) {
        return service::status(settings, project, kind).await;
    }
    let source = packages::open(project, &settings.profile, &settings.release)?;
    let quiet = Steps::new(|_| {});
    let mut targets = Vec::new();
    for asked in query::all(settings, source.name(), Wait::ForStatus, &quiet).await {
        targets.push(one(asked, source.name()).await);
    }
    for (at, difference) in between(&targets) {
        targets[at].drift.push(difference);
    }
    against_packages(&mut targets, &source, project, &settings.profile);
    Ok(EnvironmentStatus {
        format: 2,
        environment: settings.environment.clone(),
        tier: settings.rules.tier,
        delivery: settings.rules.delivery,
        release: source.name().to_owned(),
        targets,
    })
}

async fn one(asked: Asked, name: &str) -> TargetStatus {
    let Asked { destination, directory, answer, .. } = asked;
    let mut status = TargetStatus::new(&destination, &directory);
    match answer {
        Ok((target, survey)) => {
            target.close().await;
            let version = survey.installed.running().unwrap_or_default();
            status.left = survey.evidence.litter(name, version);
            status.installed = Some(survey.installed);
            status.busy = survey.evidence.busy;
            status.bad = survey.evidence.bad;
            status.node = survey.evidence.snapshot;
            let node = status.node.as_ref();
            status.since = node.and_then(|node| started(node.uptime));
            (status.pid, status.memory) = (node.map(|node| node.pid), node.map(|node| node.memory));
        }
        Err(error) => status.error = Some(error),
    }
    status
}

/// When what has run for so many seconds was started.
pub(super) fn started(uptime: u64) -> Option<String> {
    let uptime = jiff::SignedDuration::from_secs(i64::try_from(uptime).ok()?);
    let at = jiff::Timestamp::now().checked_sub(uptime).ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Differences between targets that say they run the same version: told of those that are not like most.
fn between(targets: &[TargetStatus]) -> Vec<(usize, String)> {
    let mut by_version: BTreeMap<&str, Vec<(usize, &Snapshot)>> = BTreeMap::new();
    for (index, target) in targets.iter().enumerate() {
        if let (Some(node), Some(version)) = (&target.node, target.version()) {
            by_version.entry(version).or_default().push((index, node));
        }
    }
    let mut found = Vec::new();
    for (version, nodes) in by_version {
        let mut votes: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (_, node) in &nodes {
            for (module, md5) in &node.modules {
                *votes.entry(module).or_default().entry(md5).or_default() += 1;
            }
        }
        // with two that differ nobody knows which is right: both are told
        let usual = |module: &str, md5: &str| {
            let votes = &votes[module];
            let own = votes[md5];
            votes.iter().all(|(other, count)| *other == md5 || *count < own)
        };
        for (index, node) in nodes {
            let other: Vec<&str> = node
                .modules
                .iter()
                .filter(|(module, md5)| !usual(module, md5))
                .map(|(module, _)| module.as_str())
                .collect();
            if !other.is_empty() {
                let names = named(&other);
                found.push((index, format!("{names} not as on other targets with `{version}`")));
            }
        }
    }
    found
}

/// Compares with the packages that the last builds on this machine left.
fn against_packages(targets: &mut [TargetStatus], source: &packages::Source, project: &Path, profile: &str) {
    let mut read: BTreeMap<String, Option<(String, Candidate)>> = BTreeMap::new();
    for target in targets {
        let (Some(node), Some(version)) = (&target.node, target.version()) else { continue };
        let found = read
            .entry(version.to_owned())
            .or_insert_with_key(|version| packages::at_hand(source.name(), version, project, profile));
        let Some((path, candidate)) = found else { continue };
        let stale = stale_modules(node, candidate);
        target.package = Some(path.clone());
        if !stale.is_empty() {
            let stale: Vec<&str> = stale.iter().map(String::as_str).collect();
            target.drift.push(format!("{} not as in `{path}`", named(&stale)));
        }
    }
}

fn named(modules: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = modules.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match modules.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(version: &str, modules: &[(&str, &str)]) -> TargetStatus {
        let modules = modules.iter().map(|(name, md5)| ((*name).to_owned(), (*md5).to_owned())).collect();
        TargetStatus {
            installed: Some(Installed::Running { version: version.into() }),
            node: Some(Snapshot { modules, ..Snapshot::default() }),
            ..TargetStatus::new("h", "/data/urf")
        }
    }

    #[test]
    fn the_target_that_is_not_like_most_has_drifted() {
        let same = || target("1", &[("a", "x"), ("b", "y")]);
        assert_eq!(between(&[same(), same(), same()]), []);
        let found = between(&[same(), target("1", &[("a", "z"), ("b", "y")]), same()]);
        assert_eq!(found, [(1, "`a` not as on other targets with `1`".to_owned())]);
        // nobody knows which of two is right
        assert_eq!(between(&[same(), target("1", &[("a", "z")])]).len(), 2);
        // another version may have other code, and a module need not be loaded everywhere
        assert_eq!(between(&[same(), target("2", &[("a", "z")]), target("1", &[("c", "q")])]), []);
    }
}
