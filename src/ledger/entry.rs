//! One line of the ledger.

use serde::{Deserialize, Serialize};

use crate::release::Package;
use crate::release::rehearse::Rehearsal;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this form: 1.
    pub format: u32,
    /// Counts from 1.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Who, as `user@host`; in a CI job GitLab's name of the user.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub fact: Fact,
    /// SHA-256 of the line before, without its line end; empty for the first.
    pub previous: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// A package was built and kept.
    Release(Released),
    /// An upgrade was played through on a copy.
    Rehearsal(Rehearsed),
    /// We put a release on targets.
    Deployment(Arrival),
    /// Operations said what a bundle did.
    Receipt(Arrival),
    /// A bundle was made.
    Bundle(BundleMade),
    /// Somebody agreed.
    Approval(Approval),
    /// A rule was set aside.
    Override(Override),
    /// A version must not go to an environment any more.
    Bad(Mark),
    /// It may again.
    Cleared(Mark),
}

/// A package that was built.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Released {
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// Commit that it was built from; empty when that is not known.
    pub commit: String,
    /// Author of the commit, as `Name <mail>`.
    pub author: String,
    /// What is in it, whatever it upgrades from: [`crate::release::Package::content_sha256`].
    pub content: String,
    /// SHA-256 of the archive.
    pub archive: String,
    /// Where the archive is kept.
    pub package: String,
    /// Versions that its relup upgrades from.
    pub upgrades_from: Vec<String>,
}

/// An upgrade that was played through on a copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// Release name.
    pub release: String,
    /// From this version.
    pub from: String,
    /// To this one.
    pub version: String,
    /// What is in that: [`crate::release::Package::content_sha256`].
    pub content: String,
    /// SHA-256 of the relup that was played.
    pub relup: String,
    /// Whether the upgrade is fit to be made.
    pub fit: bool,
    /// Why not.
    pub problems: Vec<String>,
    /// What was done, with the seconds that it took.
    pub steps: Vec<(String, f64)>,
}

impl Rehearsed {
    /// The rehearsal of the upgrade to `new`.
    pub fn of(rehearsal: &Rehearsal, new: &Package) -> Self {
        Self {
            release: rehearsal.name.clone(),
            from: rehearsal.from.clone(),
            version: rehearsal.to.clone(),
            content: new.content_sha256(),
            relup: relup_digest(new),
            fit: rehearsal.fit,
            problems: rehearsal.problems.clone(),
            steps: rehearsal.steps.clone(),
        }
    }

    /// Whether it was of the upgrade from `from` with this package's relup, whatever archive that came in.
    pub fn is_of(&self, from: &str, new: &Package) -> bool {
        self.from == from
            && self.version == new.rel.version
            && self.relup == relup_digest(new)
            && self.content == new.content_sha256()
    }
}

fn relup_digest(package: &Package) -> String {
    crate::digest::sha256_hex(package.document("relup").unwrap_or_default())
}

/// A release that came to an environment, or should have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// Environment.
    pub environment: String,
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// What was in it; empty when no package was needed.
    pub content: String,
    /// Version that ran before, if any.
    pub from: Option<String>,
    /// `nothing`, `commit`, `fresh`, `hot`, `restart`, or `refuse`.
    pub strategy: String,
    /// Hosts.
    pub targets: Vec<String>,
    /// How it ended.
    pub outcome: Ended,
    /// Why it did not succeed.
    pub reason: Option<String>,
    /// How it was carried there.
    pub via: Transport,
}

/// How a release was carried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// By us.
    #[default]
    Ssh,
    /// In a bundle.
    Bundle {
        /// The bundle's digest.
        bundle: String,
        /// Who signed the report, if somebody did.
        signed_by: Option<String>,
        /// When it ended there, as the report says.
        at: String,
    },
}

/// How a deployment ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The version runs.
    Done,
    /// It ran already.
    Nothing,
    /// Not changed: what ran before still runs.
    #[default]
    Failed,
    /// Refused before anything was sent.
    Refused,
    /// The old version runs again.
    RolledBack,
}

impl Ended {
    /// Does the version run there?
    pub fn succeeded(self) -> bool {
        matches!(self, Ended::Done | Ended::Nothing)
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Nothing => "nothing to do",
            Ended::Failed => "failed",
            Ended::Refused => "refused",
            Ended::RolledBack => "rolled back",
        }
    }
}

/// A bundle that was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BundleMade {
    /// Environment.
    pub environment: String,
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// What is in the release.
    pub content: String,
    /// The bundle's digest: SHA-256 of its `SHA256SUMS`.
    pub bundle: String,
    /// Versions that it was made to replace.
    pub from: Vec<String>,
}

/// Somebody's agreement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Environment.
    pub environment: String,
    /// Release version.
    pub version: String,
    /// What was in it.
    pub content: String,
    /// Who agreed, a name of `people`.
    pub person: String,
    /// The ssh signature over [`crate::promotion::approval::text`].
    pub signature: String,
}

/// A rule that was set aside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Environment.
    pub environment: String,
    /// Release version.
    pub version: String,
    /// What would have been refused.
    pub refusals: Vec<String>,
    /// Why it was done all the same.
    pub reason: String,
}

/// A mark on a version in an environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Environment.
    pub environment: String,
    /// Release version.
    pub version: String,
    /// Why.
    pub reason: String,
}

/// Entries with these facts, for tests of what follows from them.
#[cfg(test)]
pub(crate) fn entries(facts: Vec<Fact>) -> Vec<Entry> {
    let entry = |(seq, fact)| Entry {
        format: 1,
        seq,
        at: String::new(),
        by: String::new(),
        fact,
        previous: String::new(),
    };
    (1..).zip(facts).map(entry).collect()
}
