//! Our own build directory, for one build at a time.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::super::{Error, Project};

/// `_build/slipway/PROFILE` of a project, locked while this lives.
pub(super) struct Staging {
    pub root: PathBuf,
    _lock: File,
}

impl Staging {
    /// Makes the directory and waits until no other build uses it.
    pub(super) async fn open(project: &Project) -> Result<Staging, Error> {
        let root = project.dir.join("_build/slipway").join(profile_dir(&project.profile));
        blocking(move || {
            fs::create_dir_all(&root).map_err(Error::io("making the directory", &root))?;
            let path = root.join("lock");
            let lock = File::create(&path).map_err(Error::io("creating", &path))?;
            lock.lock().map_err(Error::io("locking", &path))?;
            Ok(Staging { root, _lock: lock })
        })
        .await
    }

    /// A path in the directory.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a program of ours where it can be run.
    pub(super) fn escript(&self, name: &str, source: &str) -> Result<String, Error> {
        let path = self.at(name);
        fs::write(&path, source).map_err(Error::io("writing", &path))?;
        path.into_os_string().into_string().map_err(|_| {
            Error::Project("the project's path is not UTF-8, which escript can't take".to_owned())
        })
    }
}

/// The name that rebar3 gives the build directory of `as PROFILE`.
pub(super) fn profile_dir(profile: &str) -> String {
    profile.replace(',', "+")
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(e)),
        _ => Ok(()),
    }
}

/// Runs work on files beside the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::Project(format!("the build was interrupted: {e}"))),
    }
}
