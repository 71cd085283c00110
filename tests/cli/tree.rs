//! A git work tree, a directory for the state of `ci`, and `ci` in them.

pub(crate) use crate::said::{Said, said};
use pipelines::event::{Event, EventKind};
use slipway::dispatch::read_journal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

/// One project, alone in the world.
pub(crate) struct Tree {
    parent: TempDir,
}

impl Tree {
    /// An empty directory: no repository yet.
    pub(crate) fn bare() -> Self {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("app")).unwrap();
        Self { parent }
    }

    /// A repository with one commit of `files` on the branch `main`.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let tree = Self::bare();
        files.iter().for_each(|(path, text)| tree.write(path, text));
        tree.commit();
        tree
    }

    /// A repository with one commit of a pipeline.
    pub(crate) fn pipeline(yaml: &str) -> Self {
        Self::with(&[(".gitlab-ci.yml", yaml)])
    }

    pub(crate) fn commit(&self) {
        self.git(&["init", "-q", "-b", "main"]);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(self.dir())
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.parent.path().join("app")
    }

    /// What running jobs have on disk, and what is left of dead ones.
    pub(crate) fn used_sandboxes(&self) -> Vec<String> {
        let all = fs::read_dir(self.home().join("sandboxes")).into_iter().flatten().flatten();
        let used = all.filter(|entry| {
            // an empty one waits for the next job
            let lock = entry.path().join("lock").metadata();
            entry.path().is_dir() && lock.map_or(true, |lock| lock.permissions().mode() & 0o200 != 0)
        });
        used.map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != ".trash")
            .collect()
    }

    /// `SLIPWAY_HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.parent.path().join("home")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `ci`, ready to be started.
    pub(crate) fn ci(&self, arguments: &[&str]) -> Command {
        let mut ci = Command::new(env!("CARGO_BIN_EXE_ci"));
        ci.args(arguments).current_dir(self.dir()).stdin(Stdio::null());
        ci.env("SLIPWAY_HOME", self.home()).env("NO_COLOR", "1").env("XDG_CONFIG_HOME", self.parent.path());
        for name in [
            "NOTIFY_URL",
            "NOTIFY_KIND",
            "NOTIFY_SECRET",
            "HOOK",
            "HOOK_SECRET",
            "CI_PROJECT_PATH",
            "CI_COMMIT_REF_NAME",
            "CI_COMMIT_SHORT_SHA",
            "CI_JOB_NAME",
        ] {
            ci.env_remove(name);
        }
        ci
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(&mut self.ci(arguments))
    }

    /// Directory of the newest run.
    pub(crate) fn newest_run(&self) -> Option<PathBuf> {
        let projects = fs::read_dir(self.home().join("projects")).ok()?;
        let runs = projects.flatten().filter_map(|project| fs::read_dir(project.path().join("runs")).ok());
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
        runs.flatten().flatten().map(|entry| entry.path()).max_by_key(number)
    }

    /// Events of the newest run; whatever run it is, they are numbered without gaps.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Event> {
        let events = read_journal(&self.newest_run().unwrap().join("journal.jsonl")).unwrap();
        for (event, seq) in events.iter().zip(1..) {
            assert_eq!(event.seq, seq);
        }
        events
    }

    /// The log of a job's newest attempt in the newest run; empty while there is none.
    pub(crate) fn log(&self, job: &str) -> String {
        let Some(run) = self.newest_run() else { return String::new() };
        let Ok(events) = read_journal(&run.join("journal.jsonl")) else { return String::new() };
        let path = events.into_iter().rev().find_map(|event| match event.kind {
            EventKind::JobLog { job: name, path, .. } if name == job => Some(path),
            _ => None,
        });
        let bytes = path.and_then(|path| fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Every file below the state directory that holds `text`.
    pub(crate) fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.home()];
        while let Some(path) = waiting.pop() {
            let Ok(entries) = fs::read_dir(path) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() && !path.is_symlink() {
                    waiting.push(path);
                } else if contains(&path, text) {
                    found.push(path);
                }
            }
        }
        found
    }
}

fn contains(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Waits for something that has no event to wait for.
#[track_caller]
pub(crate) fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let began = Instant::now();
    while !true_now() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Command lines of all processes, zero bytes between their words.
pub(crate) fn command_lines() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}
