//! The packages that arrived somewhere, kept for later upgrades, for bundles and for promotion.
//!
//! ```text
//! <SHA-256>/NAME-VSN.tar.gz    the package
//! <SHA-256>/APP.appup          what its relup was made of
//! <SHA-256>/record.json        Stored
//! ```
//!
//! A directory is renamed into its place when it is whole, so readers need no lock and keeping twice is keeping once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Appup, Error, Package, hops, rel::AppVersion, version};

const RECORD: &str = "record.json";

/// The store of one project.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// A package of a program that is no Erlang release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// The archive.
    pub path: PathBuf,
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the archive in hex.
    pub sha256: String,
    /// What is in it, see [`Contents::tree`](super::tree::Contents).
    pub content: String,
    /// Bytes.
    pub size: u64,
}

/// A kept package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Version of this document's form.
    pub format: u32,
    /// The release's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the package in hex.
    pub sha256: String,
    /// What is in it, whatever it upgrades from, see [`Package::content_sha256`]; empty in old records.
    #[serde(default)]
    pub content: String,
    /// Bytes.
    pub size: u64,
    /// The version of the runtime system.
    pub erts: String,
    /// Whether that is in the package: only then can it be installed afresh and rehearsed.
    pub fat: bool,
    /// The versions that its relup upgrades from.
    pub upgrades_from: Vec<String>,
    /// The versions that its relup goes back to.
    pub downgrades_to: Vec<String>,
    /// The applications of the release.
    pub applications: Vec<AppVersion>,
    /// The commit that it was built from, if that is known.
    pub commit: Option<String>,
    /// SHA-256 over all that it was made of, if that is known: the same is not built again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Seconds since 1970 at which it was kept.
    pub at: u64,
}

impl Stored {
    fn can_do_as_much_as(&self, other: &Stored) -> bool {
        let ways = |old: &[String], new: &[String]| new.iter().all(|version| old.contains(version));
        self.content == other.content
            && ways(&self.upgrades_from, &other.upgrades_from)
            && ways(&self.downgrades_to, &other.downgrades_to)
    }
}

impl Store {
    /// The store in `dir`; nothing is created yet.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Store {
        Store { dir: dir.into() }
    }

    /// The store of the project in `dir`: of its git work tree, else of the directory itself. None without a place for
    /// state.
    #[must_use]
    pub fn of_project(dir: &Path) -> Option<Store> {
        let name = match crate::project::Project::discover(dir) {
            Ok(project) => project.state_name(),
            Err(_) => crate::project::state_name(dir),
        };
        Some(Store::at(crate::settings::State::of(&name).ok()?.releases()))
    }

    /// Keeps a package with the appups that its relup was made of; a package that is there already stays as it is, and
    /// so does one with the same content that can do as much.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(
        &self,
        package: &Package,
        appups: &[(String, Appup)],
        commit: Option<&str>,
    ) -> Result<Stored, Error> {
        if let Ok(stored) = self.record(&package.sha256) {
            return Ok(stored);
        }
        self.keep_new(&package.path, appups, stored(package, commit))
    }

    /// Notes what a kept package, or one with the same content, was made of.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn made_of(&self, stored: Stored, recipe: &str) -> Result<Stored, Error> {
        if stored.recipe.as_deref() == Some(recipe) {
            return Ok(stored);
        }
        let stored = Stored { recipe: Some(recipe.to_owned()), ..stored };
        let path = self.dir.join(&stored.sha256).join(RECORD);
        let part =
            tempfile::NamedTempFile::new_in(&self.dir).map_err(Error::io("making a file in", &self.dir))?;
        let text = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        fs::write(part.path(), text).map_err(Error::io("writing", part.path()))?;
        part.persist(&path).map_err(|e| Error::io("writing", &path)(e.error))?;
        Ok(stored)
    }

    /// The same for any other program.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_plain(&self, plain: &Plain, commit: Option<&str>) -> Result<Stored, Error> {
        if let Ok(stored) = self.record(&plain.sha256) {
            return Ok(stored);
        }
        let Plain { name, version, sha256, content, size, .. } = plain.clone();
        let stored = Stored {
            format: 1,
            name,
            version,
            sha256,
            content,
            size,
            erts: String::new(),
            fat: true,
            upgrades_from: Vec::new(),
            downgrades_to: Vec::new(),
            applications: Vec::new(),
            commit: commit.map(str::to_owned),
            recipe: None,
            at: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        };
        self.keep_new(&plain.path, &[], stored)
    }

    fn keep_new(&self, path: &Path, appups: &[(String, Appup)], new: Stored) -> Result<Stored, Error> {
        match self.find(&new.name, &new.version).into_iter().find(|old| old.can_do_as_much_as(&new)) {
            Some(old) => Ok(old),
            None => self.write(path, appups, new),
        }
    }

    fn write(&self, path: &Path, appups: &[(String, Appup)], stored: Stored) -> Result<Stored, Error> {
        fs::create_dir_all(&self.dir).map_err(Error::io("making the directory", &self.dir))?;
        let part = tempfile::Builder::new().prefix(".part-").tempdir_in(&self.dir);
        let part = part.map_err(Error::io("making a directory in", &self.dir))?;
        let archive = part.path().join(file_name(&stored));
        fs::copy(path, &archive).map_err(Error::io("copying to", &archive))?;
        if super::archive::digest(&archive)?.0 != stored.sha256 {
            return Err(Error::document(path.display().to_string(), "it changed after it was read"));
        }
        for (app, appup) in appups {
            let path = part.path().join(format!("{app}.appup"));
            fs::write(&path, appup.print()).map_err(Error::io("writing", &path))?;
        }
        let record = part.path().join(RECORD);
        let text = serde_json::to_vec_pretty(&stored).unwrap_or_default();
        fs::write(&record, text).map_err(Error::io("writing", &record))?;
        let to = self.dir.join(&stored.sha256);
        match fs::rename(part.path(), &to) {
            Ok(()) => {
                // the directory has moved: there is nothing left to remove
                let _moved = part.keep();
                Ok(stored)
            }
            // somebody else kept the same package meanwhile
            Err(_) if to.join(RECORD).is_file() => Ok(stored),
            Err(e) => Err(Error::io("renaming to", &to)(e)),
        }
    }

    /// All kept packages, newest version first, of one version the latest first. Broken entries are left out.
    #[must_use]
    pub fn list(&self) -> Vec<Stored> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<Stored> = names.filter_map(|name| self.record(&name).ok()).collect();
        all.sort_by(|a, b| {
            version::compare(&b.version, &a.version).then(b.at.cmp(&a.at)).then(a.sha256.cmp(&b.sha256))
        });
        all
    }

    /// The kept packages of a version of `name`, the latest first.
    #[must_use]
    pub fn find(&self, name: &str, version: &str) -> Vec<Stored> {
        let mut all = self.list();
        all.retain(|stored| stored.name == name && stored.version == version);
        all
    }

    /// Where a kept package lies.
    #[must_use]
    pub fn path(&self, stored: &Stored) -> PathBuf {
        self.dir.join(&stored.sha256).join(file_name(stored))
    }

    /// The appups that lie beside a kept package.
    #[must_use]
    pub fn appups(&self, stored: &Stored) -> Vec<(String, Appup)> {
        let entries = fs::read_dir(self.dir.join(&stored.sha256)).into_iter().flatten().flatten();
        let appup = |path: PathBuf| {
            let app = path.file_name()?.to_str()?.strip_suffix(".appup")?.to_owned();
            let source = fs::read_to_string(&path).ok()?;
            Some((app, Appup::parse(&path.display().to_string(), &source).ok()?))
        };
        entries.filter_map(|entry| appup(entry.path())).collect()
    }

    /// Every upgrade that the kept packages of `name` offer, for [`hops::plan`].
    #[must_use]
    pub fn edges(&self, name: &str) -> Vec<hops::Edge> {
        let all = self.list().into_iter().filter(|stored| stored.name == name);
        all.flat_map(|stored| {
            stored.upgrades_from.into_iter().map(move |from| (from, stored.version.clone()))
        })
        .collect()
    }

    fn record(&self, sha256: &str) -> Result<Stored, Error> {
        let path = self.dir.join(sha256).join(RECORD);
        let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        let stored: Stored = serde_json::from_str(&text)
            .map_err(|e| Error::document(path.display().to_string(), e.to_string()))?;
        // the names become paths
        let plain =
            [&stored.name, &stored.version].into_iter().all(|name| super::package::is_plain_name(name));
        if stored.sha256 != sha256 || !plain || !Path::new(&self.path(&stored)).is_file() {
            return Err(Error::document(
                path.display().to_string(),
                "it is not the record of this directory",
            ));
        }
        Ok(stored)
    }
}

fn file_name(stored: &Stored) -> String {
    format!("{}-{}.tar.gz", stored.name, stored.version)
}

fn stored(package: &Package, commit: Option<&str>) -> Stored {
    let relup = package.relup().ok().flatten();
    let versions = |scripts: &[super::relup::Script]| -> Vec<String> {
        scripts.iter().map(|script| script.version.clone()).collect()
    };
    Stored {
        format: 1,
        name: package.rel.name.clone(),
        version: package.rel.version.clone(),
        sha256: package.sha256.clone(),
        content: package.content_sha256(),
        size: package.size,
        erts: package.rel.erts.clone(),
        fat: package.has_erts(),
        upgrades_from: relup.as_ref().map(|relup| versions(&relup.up)).unwrap_or_default(),
        downgrades_to: relup.as_ref().map(|relup| versions(&relup.down)).unwrap_or_default(),
        applications: package.rel.apps.clone(),
        commit: commit.map(str::to_owned),
        recipe: None,
        at: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::archive::tests::write_archive, *};

    fn package(dir: &Path, version: &str, relup: &str) -> Package {
        fs::create_dir_all(dir).unwrap();
        let path = dir.join(format!("urf-{version}.tar.gz"));
        let rel = format!("{{release,{{\"urf\",\"{version}\"}},{{erts,\"13\"}},[{{sasl,\"4\"}}]}}.");
        let (at, relup_at) = (format!("releases/{version}/urf.rel"), format!("releases/{version}/relup"));
        write_archive(
            &path,
            &[(&at, rel.as_bytes()), (&relup_at, relup.as_bytes()), ("erts-13/bin/erl", b"x")],
        );
        Package::read(&path).unwrap()
    }

    #[test]
    fn a_kept_package_is_found_by_its_version_with_its_appups() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("store"));
        assert_eq!(store.list(), []);
        let one = package(dir.path(), "0.9.0", "{\"0.9.0\",[{\"0.8.0\",[],[]}],[]}.");
        let two = package(dir.path(), "0.10.0", "{\"0.10.0\",[{\"0.9.0\",[],[]}],[{\"0.9.0\",[],[]}]}.");
        let appup = Appup::parse("a", "{\"2\",[],[]}.").unwrap();
        store.keep(&one, &[("urf".to_owned(), appup.clone())], Some("abc")).unwrap();
        store.keep(&one, &[], None).unwrap();
        // nothing but a relup less
        let less = package(&dir.path().join("less"), "0.9.0", "{\"0.9.0\",[],[]}.");
        assert_eq!(store.keep(&less, &[], None).unwrap().sha256, one.sha256);
        store.keep(&two, &[], None).unwrap();
        let versions: Vec<_> = store.list().into_iter().map(|stored| stored.version).collect();
        assert_eq!(versions, ["0.10.0", "0.9.0"]);
        let found = store.find("urf", "0.9.0");
        assert_eq!(found[0].commit.as_deref(), Some("abc"), "the first keeping counts");
        assert_eq!(Package::read(&store.path(&found[0])).unwrap().sha256, one.sha256);
        assert_eq!(store.appups(&found[0]), [("urf".to_owned(), appup)]);
        let way = hops::plan("0.8.0", "0.10.0", &store.edges("urf"));
        assert_eq!(way, Some(vec!["0.9.0".to_owned(), "0.10.0".to_owned()]));
        assert_eq!(store.find("other", "0.9.0"), []);
    }

    #[test]
    fn an_entry_that_is_not_what_it_says_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("store"));
        let stored = store.keep(&package(dir.path(), "1", "{\"1\",[],[]}."), &[], None).unwrap();
        let record = dir.path().join("store").join(&stored.sha256).join(RECORD);
        let text = fs::read_to_string(&record).unwrap();
        for (from, to) in [("\"urf\"", "\"../../urf\""), ("\"fat\"", "\"fate\""), (&stored.sha256, "00")] {
            fs::write(&record, text.replace(from, to)).unwrap();
            assert_eq!(store.list(), [], "{to}");
        }
        fs::write(&record, text).unwrap();
        assert_eq!(store.list().len(), 1);
    }
}
