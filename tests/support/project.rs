//! A git working tree of the application `urf` in its versions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::target::run;

pub(crate) struct Project {
    directory: TempDir,
}

impl Project {
    /// A clone with all tags, `version` checked out.
    pub(crate) fn at(version: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(Command::new("git").args(["clone", "-q"]).arg(original()).arg(directory.path()));
        let project = Self { directory };
        project.checkout(version);
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn checkout(&self, version: &str) {
        self.git(&["checkout", "-q", "-f", &format!("v{version}")]);
    }

    pub(crate) fn git(&self, arguments: &[&str]) {
        run(Command::new("git")
            .arg("-C")
            .arg(self.path())
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(arguments));
    }

    /// Replaces text in a file; it must be there.
    #[track_caller]
    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "`{from}` is not in {file}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

/// Made once for all tests of a binary; statics are never dropped, so its next run replaces it.
fn original() -> PathBuf {
    static ORIGINAL: OnceLock<PathBuf> = OnceLock::new();
    ORIGINAL
        .get_or_init(|| {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!("urf-", env!("CARGO_CRATE_NAME")));
            let _ = std::fs::remove_dir_all(&path);
            let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/urf/make-repository.sh");
            run(Command::new("sh").arg(make).arg(&path));
            path
        })
        .clone()
}
