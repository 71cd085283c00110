//! `kept.json` in a run's directory: what the limits ask about it, so that no later run has to look at its files.

use super::artifacts::of_run;
use super::blobs::unseen;
use super::inventory::disk_size;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RECORD: &str = "kept.json";

/// Size and expiry of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Bytes on disk.
    pub size: u64,
    /// Seconds since the epoch at which the first of its artifacts expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl Record {
    /// The record of a run; made from its files when there is none, as after a crash.
    pub fn of(run: &Path) -> Record {
        let text = fs::read(run.join(RECORD)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|_| Record::make(run))
    }

    /// Looks at the run's files, and writes what it saw.
    pub fn make(run: &Path) -> Record {
        let kept = of_run(run).unwrap_or_default();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let some_left = kept.iter().filter(|kept| !kept.index.is_empty());
        let expires = some_left.filter_map(|kept| kept.expires).min().map(seconds);
        let record = Record { size: disk_size(run) + unseen(&kept), expires };
        // without a record the files are looked at again
        let _ = serde_json::to_vec(&record).map(|text| fs::write(run.join(RECORD), text));
        record
    }

    /// When the first of its artifacts expires.
    pub fn expires(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.expires?))
    }
}
