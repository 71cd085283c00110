//! The sources of an old version, from its git tag.

use std::{
    fs,
    path::{Path, PathBuf},
};

use git2::{ErrorCode, Oid, Repository, build::CheckoutBuilder};

use super::super::Error;

/// The tag of a version.
pub(super) struct Tag {
    /// Its name without `refs/tags/`.
    pub name: String,
    /// The commit that it points to.
    pub commit: Oid,
    object: Oid,
    repository: Repository,
    /// Where the project lies in the repository.
    prefix: PathBuf,
}

/// The tags that a version may have.
pub(super) fn candidates(version: &str) -> [String; 2] {
    [format!("v{version}"), version.to_owned()]
}

fn failed(doing: &str, path: &Path) -> impl FnOnce(git2::Error) -> Error {
    let (doing, path) = (doing.to_owned(), path.to_owned());
    move |source| Error::Git { doing, path, source }
}

impl Tag {
    /// Finds the tag of `version` for the project in `dir`; none without a tag or without git.
    pub(super) fn find(dir: &Path, version: &str) -> Result<Option<Tag>, Error> {
        let repository = match Repository::discover(dir) {
            Ok(repository) => repository,
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(failed("looking for the sources", dir)(e)),
        };
        let top = repository.workdir().and_then(|top| top.canonicalize().ok());
        let prefix = top.and_then(|top| dir.strip_prefix(top).ok().map(Path::to_owned)).unwrap_or_default();
        for name in candidates(version) {
            let found = match repository.find_reference(&format!("refs/tags/{name}")) {
                Ok(reference) => {
                    let commit =
                        reference.peel_to_commit().map_err(failed(&format!("reading tag `{name}`"), dir))?;
                    reference.target().map(|object| (commit.id(), object))
                }
                Err(_) => None,
            };
            if let Some((commit, object)) = found {
                return Ok(Some(Tag { name, commit, object, repository, prefix }));
            }
        }
        Ok(None)
    }

    /// Checks the tag's sources out to the new directory `to`, and returns where the project lies in it.
    ///
    /// It becomes a repository of its own that borrows the objects, so nothing of the user's repository
    /// changes, and `git describe` in the old sources works as it did.
    pub(super) fn check_out(&self, to: &Path) -> Result<PathBuf, Error> {
        let doing = format!("checking out tag `{}`", self.name);
        self.borrow_objects(to)?;
        let copy = Repository::open(to).map_err(failed(&doing, to))?;
        let steps = || -> Result<bool, git2::Error> {
            let tree = copy.find_commit(self.commit)?.tree()?;
            if tree.get_name(".gitmodules").is_some() {
                return Ok(false);
            }
            copy.reference(&format!("refs/tags/{}", self.name), self.object, true, "slipway")?;
            copy.checkout_tree(tree.as_object(), Some(CheckoutBuilder::new().force()))?;
            copy.set_head_detached(self.commit)?;
            Ok(true)
        };
        if !steps().map_err(failed(&doing, to))? {
            return Err(Error::Project(format!(
                "tag `{}` has git submodules, which are not fetched for an old version; build the upgrade where \
                 the package of the old version was built",
                self.name
            )));
        }
        Ok(to.join(&self.prefix))
    }

    fn borrow_objects(&self, to: &Path) -> Result<(), Error> {
        Repository::init(to).map_err(failed("making a repository", to))?;
        let common = self.repository.commondir();
        let alternates = to.join(".git/objects/info/alternates");
        let objects = common.join("objects");
        let write = || -> std::io::Result<()> {
            if let Some(parent) = alternates.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&alternates, format!("{}\n", objects.canonicalize()?.display()))?;
            // without it, the history of a shallow clone looks broken
            match fs::copy(common.join("shallow"), to.join(".git/shallow")) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        };
        write().map_err(Error::io("borrowing git objects for", to))
    }
}
