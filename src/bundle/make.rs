//! Making a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::deploy::{Environment, service};
use crate::digest::sha256_hex;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::{BundleMade, Entry, Fact, Ledger, standing};
use crate::promotion::Artifact;
use crate::release::Error;
use crate::release::thin::{self, TargetLibraries};
use crate::signature;

use super::archive::{self, Files, SUMS};
use super::content;
use super::manifest::{Manifest, Replaces};
use super::{plain, runbook};

const OF_NODES: &str = concat!(
    include_str!("install/begin.sh"),
    include_str!("install/node.sh"),
    include_str!("install/end.sh")
);
const OF_SERVICES: &str = concat!(
    include_str!("install/begin.sh"),
    include_str!("install/service.sh"),
    include_str!("install/end.sh")
);
/// An unpacked package, what it replaces, and the archive while it is unpacked.
pub(super) const SPACE_FACTOR: u64 = 5;

/// The kept package that a bundle is made of.
#[derive(Clone, Copy)]
pub enum What<'a> {
    /// Of an Erlang release.
    Release(&'a Artifact),
    /// Of a program that a service starts.
    Plain(&'a service::Artifact),
}

/// What is to be in a bundle.
pub struct Order<'a> {
    /// The release.
    pub artifact: What<'a>,
    /// Environment.
    pub environment: &'a str,
    /// Its settings.
    pub settings: &'a Environment,
    /// Versions that may run there; none: those that the ledger knows of.
    pub from: Vec<String>,
    /// What happened so far, and the environments before this one.
    pub entries: &'a [Entry],
    /// Environments that a release goes through before this one.
    pub before: Vec<&'a str>,
    /// The project: for its runbook and its commits.
    pub root: &'a Path,
    /// The key that signs it.
    pub key: Option<&'a Path>,
    /// Where it goes; default `NAME-VERSION-ENVIRONMENT.tar.gz`.
    pub to: Option<PathBuf>,
}

/// A bundle that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The archive.
    pub path: PathBuf,
    /// Its signature.
    pub signature: Option<PathBuf>,
    /// Its digest.
    pub digest: String,
    /// What it is.
    pub manifest: Manifest,
}

/// Makes a bundle and records it.
///
/// # Errors
/// A package can't be had or a file not be written; a name that no host should see in a script.
pub async fn make(order: &Order<'_>, ledger: &Ledger) -> CliResult<Made> {
    let (mut files, mut manifest) = match order.artifact {
        What::Release(artifact) => collect(order, artifact).await?,
        What::Plain(artifact) => plain::collect(order, artifact)?,
    };
    let (name, version, environment) = (manifest.name.clone(), manifest.version.clone(), order.environment);
    for word in [&*name, &*version, environment, &*manifest.erts] {
        let left_out = word.is_empty() && manifest.service.is_some();
        if !left_out && !content::is_plain(word) {
            return Err(CliError::new(
                ErrorKind::Refused,
                format!("`{}` can't be a name or version in a bundle", word.escape_debug()),
            )
            .hint("use letters, digits and `._+~-`"));
        }
    }
    let facts = content::facts(&manifest, order.settings)?;
    files.insert("facts".to_owned(), facts.into_bytes());
    let install = if manifest.service.is_some() { OF_SERVICES } else { OF_NODES };
    files.insert("install.sh".to_owned(), install.as_bytes().to_vec());
    files.insert(
        "RUNBOOK.md".to_owned(),
        runbook::render(&manifest, order.settings, order.root)?.into_bytes(),
    );
    manifest.files = files.iter().map(|(path, data)| (path.clone(), sha256_hex(data))).collect();
    files.insert("manifest.json".to_owned(), document(&manifest)?);
    let sums = archive::sums(&files);
    let digest = sha256_hex(sums.as_bytes());
    if let Some(key) = order.key {
        let signature = signature::sign(key, signature::BUNDLE, sums.as_bytes())?;
        files.insert(format!("{SUMS}.sig"), signature.into_bytes());
    }
    files.insert(SUMS.to_owned(), sums.into_bytes());
    let top = format!("{name}-{version}-{environment}");
    let path = order.to.clone().unwrap_or_else(|| PathBuf::from(format!("{top}.tar.gz")));
    archive::write(&path, &top, &files)?;
    let signature = order.key.map(|key| detached(key, &path)).transpose()?;
    ledger.append(Fact::Bundle(BundleMade {
        environment: environment.to_owned(),
        release: name,
        version,
        content: manifest.content.clone(),
        bundle: digest.clone(),
        from: manifest.replaces.iter().map(|replaced| replaced.version.clone()).collect(),
    }))?;
    Ok(Made { path, signature, digest, manifest })
}

fn detached(key: &Path, path: &Path) -> CliResult<PathBuf> {
    let io = |e: std::io::Error| CliError::failed(format!("signing `{}`: {e}", path.display()));
    let signature = signature::sign(key, signature::BUNDLE, &std::fs::read(path).map_err(io)?)?;
    let to = PathBuf::from(format!("{}.sig", path.display()));
    std::fs::write(&to, signature).map_err(io)?;
    Ok(to)
}

fn document(value: &impl serde::Serialize) -> CliResult<Vec<u8>> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|e| CliError::failed(format!("writing a document: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

/// The packages and what is known of them.
async fn collect(order: &Order<'_>, artifact: &Artifact) -> CliResult<(Files, Manifest)> {
    let failed = |e: Error| CliError::failed(e.to_string());
    let fat = artifact.package.sorted(&artifact.work().join("whole.tar.gz")).map_err(failed)?;
    let rel = &fat.rel;
    let mut files = Files::new();
    let package = format!("{}-{}.tar.gz", rel.name, rel.version);
    files.insert(format!("packages/{package}"), read(&fat.path)?);
    files.insert(format!("modules/{}", rel.version), content::modules(&fat).into_bytes());
    let mut replaces = Vec::new();
    for from in from_versions(order, &rel.version)? {
        replaces.push(replaced(order, artifact, &from, &mut files).await?);
    }
    evidence(order, &rel.version, &mut files)?;
    let released = standing::releases(order.entries, &rel.version)
        .find(|released| released.content == fat.content_sha256());
    let commit = released.map(|released| released.commit.clone()).unwrap_or_default();
    let unpacked: u64 = fat.files.values().map(|file| file.size).sum();
    let manifest = Manifest {
        format: 1,
        name: rel.name.clone(),
        version: rel.version.clone(),
        environment: order.environment.to_owned(),
        directory: order.settings.directory.clone().unwrap_or_else(|| format!("/data/{}", rel.name)),
        date: date(order.root, &commit),
        commit,
        content: fat.content_sha256(),
        erts: rel.erts.clone(),
        applications: rel.apps.iter().cloned().collect(),
        package,
        service: None,
        replaces,
        disk_kib: (unpacked + fat.size * SPACE_FACTOR).div_ceil(1024),
        files: BTreeMap::new(),
    };
    Ok((files, manifest))
}

pub(super) fn from_versions(order: &Order, version: &str) -> CliResult<Vec<String>> {
    let mut from = order.from.clone();
    if from.is_empty() {
        from = standing::running(order.entries, order.environment);
    }
    from.retain(|from| from != version);
    from.sort_by(|a, b| crate::release::version::compare(a, b));
    from.dedup();
    match from.iter().find(|from| !content::is_plain(from)) {
        Some(odd) => Err(CliError::usage(format!("`{}` is no version for a bundle", odd.escape_debug()))),
        None => Ok(from),
    }
}

/// How one version is replaced; its packages go into `files`.
async fn replaced(
    order: &Order<'_>,
    artifact: &Artifact,
    from: &str,
    files: &mut Files,
) -> CliResult<Replaces> {
    let mut replaces = Replaces { version: from.to_owned(), ..Replaces::default() };
    let old = match artifact.upgrade(from).await {
        Ok(upgrade) => {
            let failed = |e: Error| CliError::failed(e.to_string());
            let new = upgrade.package.sorted(&artifact.work().join("upgrade.tar.gz")).map_err(failed)?;
            let target =
                TargetLibraries { erts: upgrade.old.rel.erts.clone(), apps: upgrade.old.rel.apps.clone() };
            let path = artifact.work().join("thin.tar.gz");
            let thin = thin::write(&new, &target, &path).map_err(failed)?;
            let package = format!("{}-{}-from-{from}.tar.gz", new.rel.name, new.rel.version);
            files.insert(format!("packages/{package}"), read(&path)?);
            files.insert(format!("modules/{from}"), content::modules(&upgrade.old).into_bytes());
            replaces.strategy = "hot".to_owned();
            replaces.package = Some(package);
            replaces.left_out = thin.left_out;
            replaces.warnings = upgrade.warnings;
            replaces.rehearsed =
                standing::rehearsed(order.entries, from, &new).map(|(entry, _)| entry.at.clone());
            Some(upgrade.old)
        }
        Err(error @ (Error::NoHotUpgrade { .. } | Error::OldVersionMissing { .. } | Error::Project(_))) => {
            replaces.strategy = "restart".to_owned();
            replaces.why = Some(error.to_string());
            artifact.older(from)
        }
        Err(error) => {
            return Err(CliError::failed(error.to_string()).hint("mend the build; no bundle was made"));
        }
    };
    for file in ["sys.config", "vm.args"] {
        if let Some(data) = old.as_ref().and_then(|old| old.document(file)) {
            replaces.shipped.insert(file.to_owned(), sha256_hex(data));
        }
    }
    Ok(replaces)
}

/// What the ledger says of this version in the environments before, and who agreed to this one.
pub(super) fn evidence(order: &Order, version: &str, files: &mut Files) -> CliResult {
    let mut lines = Vec::new();
    for entry in order.entries {
        let tells = match &entry.fact {
            Fact::Deployment(arrival) | Fact::Receipt(arrival) => {
                arrival.version == version && order.before.contains(&arrival.environment.as_str())
            }
            Fact::Rehearsal(rehearsed) => rehearsed.version == version,
            Fact::Approval(approval) => {
                approval.version == version && approval.environment == order.environment
            }
            _ => false,
        };
        if tells {
            serde_json::to_writer(&mut lines, entry)
                .map_err(|e| CliError::failed(format!("writing the evidence: {e}")))?;
            lines.push(b'\n');
        }
    }
    if !lines.is_empty() {
        files.insert("evidence/ledger.jsonl".to_owned(), lines);
    }
    Ok(())
}

/// `SOURCE_DATE_EPOCH`, else the commit's date: never the clock, which would make every bundle another.
pub(super) fn date(root: &Path, commit: &str) -> Option<String> {
    let set = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<i64>().ok());
    let of_commit = || {
        let repository = git2::Repository::discover(root).ok()?;
        let commit = repository.find_commit(git2::Oid::from_str(commit).ok()?).ok()?;
        Some(commit.time().seconds())
    };
    let seconds = set.or_else(of_commit)?;
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

pub(super) fn read(path: &Path) -> CliResult<Vec<u8>> {
    std::fs::read(path).map_err(|e| CliError::failed(format!("reading `{}`: {e}", path.display())))
}
