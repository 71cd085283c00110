//! What there is of a project.

use super::Record;
use super::artifacts::runs;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Kinds of things that can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Logs, artifacts and journal of a run.
    Run,
    /// An archive of `cache:`.
    Cache,
    /// Sources at a commit.
    Snapshot,
}

impl Kind {
    /// For people, plural.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Run => "runs",
            Kind::Cache => "caches",
            Kind::Snapshot => "snapshots",
        }
    }
}

/// One thing that can be removed.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Directory of the project in the state.
    pub project: PathBuf,
    /// Its file name: a number, a key, a commit.
    pub name: String,
    /// All that belongs to it.
    pub paths: Vec<PathBuf>,
    /// Whoever holds this file uses it.
    pub lock: Option<PathBuf>,
    /// Bytes on disk; 0: not measured.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// Everything of one project. Measuring snapshots takes long: only when `measure` says so.
pub fn inventory(project: &Path, measure: bool) -> Vec<Item> {
    let mut items = Vec::new();
    for (number, path) in runs(project) {
        items.push(Item {
            kind: Kind::Run,
            project: project.to_owned(),
            name: number.to_string(),
            lock: Some(path.join(LOCK)),
            size: Record::of(&path).size,
            used: time(&path.join("journal.jsonl")).or_else(|| time(&path)).unwrap_or(SystemTime::UNIX_EPOCH),
            paths: vec![path],
        });
    }
    items.extend(caches(project));
    items.extend(snapshots(project, measure));
    items
}

/// Held by the run that writes the directory.
pub(super) const LOCK: &str = "lock";

fn caches(project: &Path) -> Vec<Item> {
    let entries = fs::read_dir(project.join("cache")).into_iter().flatten().flatten();
    let archives =
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(".tar.zst"));
    let item = |path: PathBuf| {
        let mut used = path.clone().into_os_string();
        used.push(".used");
        let used = PathBuf::from(used);
        Some(Item {
            kind: Kind::Cache,
            project: project.to_owned(),
            name: path.file_name()?.to_str()?.trim_end_matches(".tar.zst").to_owned(),
            lock: None,
            size: fs::metadata(&path).ok()?.len(),
            used: time(&path)?.max(time(&used).unwrap_or(SystemTime::UNIX_EPOCH)),
            paths: vec![path, used],
        })
    };
    archives.filter_map(item).collect()
}

/// Snapshots with the directories that belong to them: `NAME`, `NAME.depth-5`, ...
fn snapshots(project: &Path, measure: bool) -> Vec<Item> {
    let store = project.join("snapshots");
    let mut groups: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(&store).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        // what starts with a dot is being made
        if name.starts_with('.') || !entry.path().is_dir() {
            continue;
        }
        let base = name.split('.').next().unwrap_or(&name).to_owned();
        groups.entry(base).or_default().push(entry.path());
    }
    let item = |(name, paths): (String, Vec<PathBuf>)| {
        let lock = store.join(format!("{name}.lock"));
        Item {
            kind: Kind::Snapshot,
            project: project.to_owned(),
            size: if measure { paths.iter().map(|path| disk_size(path)).sum() } else { 0 },
            used: time(&lock).or_else(|| time(&paths[0])).unwrap_or(SystemTime::UNIX_EPOCH),
            lock: Some(lock),
            name,
            paths,
        }
    };
    groups.into_iter().map(item).collect()
}

fn time(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// Bytes that a tree takes on disk; of a file with other links only this one's share.
pub(super) fn disk_size(path: &Path) -> u64 {
    let mut waiting = vec![path.to_owned()];
    let mut seen = HashSet::new();
    let mut total = 0;
    while let Some(path) = waiting.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            total += found.blocks() * 512;
        } else if found.nlink() < 2 || seen.insert((found.dev(), found.ino())) {
            total += found.blocks() * 512 / found.nlink().max(1);
        }
    }
    total
}
