//! Where state is kept: `$SLIPWAY_HOME`, else `$XDG_STATE_HOME/slipway`, else `~/.local/state/slipway`.
//!
//! ```text
//! sandboxes/             layers of the containers that run now
//! images/                container images, see `runners::image`
//! trash/                 what is being deleted
//! sources/               mirrors of other projects, remote files
//! projects/<name>-<digest of the path>/
//!     runs/<number>/     journal.jsonl, kept.json, jobs/<job>/<attempt>/job.log, artifacts
//!     snapshots/         sources by commit
//!     cache/             `cache:` archives
//!     resource_groups/   locks, one for each group
//!     builds/            working directories of the shell executor
//!     engine/            files of jobs in containers of Docker or Podman
//! ```

use crate::error::{CliError, CliResult};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A project's own directory in the state.
#[derive(Clone, Debug)]
pub struct State {
    /// The directory.
    pub dir: PathBuf,
    /// The directory of all state.
    home: PathBuf,
}

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    /// Counts from 1 in each project.
    pub number: u64,
    /// The directory.
    pub dir: PathBuf,
    /// Held as long as the run goes on: cleaning leaves it alone.
    _lock: Arc<fs::File>,
}

/// The directory of all state.
fn home() -> CliResult<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = set("SLIPWAY_HOME")
        .or_else(|| set("XDG_STATE_HOME").map(|d| d.join("slipway")))
        .or_else(|| set("HOME").map(|d| d.join(".local/state/slipway")));
    home.ok_or_else(|| {
        CliError::usage("there is no place for logs and artifacts: `HOME` is not set")
            .hint("set `SLIPWAY_HOME` to a directory that you can write to")
    })
}

impl State {
    /// The state of a project; nothing is created yet.
    ///
    /// # Errors
    /// Neither `SLIPWAY_HOME`, `XDG_STATE_HOME` nor `HOME` is set.
    pub fn of(project: &str) -> CliResult<State> {
        let home = home()?;
        Ok(State { dir: home.join("projects").join(project), home })
    }

    /// Directories of all projects.
    pub fn projects(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.join("projects")).into_iter().flatten().flatten();
        let mut projects: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        projects.sort();
        projects
    }

    /// What is being deleted.
    pub fn trash(&self) -> PathBuf {
        self.home.join("trash")
    }

    /// Container images, of all projects.
    ///
    /// # Errors
    /// As [`State::of`].
    pub fn images() -> CliResult<PathBuf> {
        Ok(home()?.join("images"))
    }

    /// The directory of all state, of all projects.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Layers of running containers, of all projects.
    pub fn sandboxes(&self) -> PathBuf {
        self.home.join("sandboxes")
    }

    /// What `include` fetched from elsewhere, for all projects.
    pub fn sources(&self) -> PathBuf {
        self.home.join("sources")
    }

    /// Working directories of the shell executor.
    pub fn builds(&self) -> PathBuf {
        self.dir.join("builds")
    }

    /// Files of jobs that run in containers of an engine, which sees them here.
    pub fn engine_builds(&self) -> PathBuf {
        self.dir.join("engine")
    }

    /// Sources by commit.
    pub fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Locks of resource groups.
    pub fn resource_groups(&self) -> PathBuf {
        self.dir.join("resource_groups")
    }

    /// `cache:` archives.
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// Directory of all runs.
    pub fn runs(&self) -> PathBuf {
        self.dir.join("runs")
    }

    /// A new run's directory, numbered after the last.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn new_run(&self) -> CliResult<RunDirectory> {
        let runs = self.runs();
        let refused = |what: &Path, e: std::io::Error| {
            CliError::usage(format!("creating the run's directory `{}`: {e}", what.display()))
        };
        fs::create_dir_all(&runs).map_err(|e| refused(&runs, e))?;
        let entries = fs::read_dir(&runs).map_err(|e| refused(&runs, e))?;
        let last = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u64>().ok()).max();
        // another `ci run` may take the same number at the same time: creation decides
        for number in last.unwrap_or(0) + 1.. {
            let dir = runs.join(number.to_string());
            match fs::create_dir(&dir) {
                Ok(()) => {
                    let lock = fs::File::create(dir.join("lock")).and_then(|lock| lock.lock().map(|()| lock));
                    let lock = lock.map_err(|e| refused(&dir, e))?;
                    return Ok(RunDirectory { number, dir, _lock: Arc::new(lock) });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(refused(&dir, e)),
            }
        }
        Err(CliError::usage("no run number is left"))
    }
}
