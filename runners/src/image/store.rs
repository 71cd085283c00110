//! The images of this machine's user.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use super::config::{Image, Platform};
use super::registry::{Patience, Registries, Registry};
use super::shelf::{Held, Shelf, full_name};
use super::{ImageError, PullPolicy};
use crate::sandbox::{Sandbox, is_root_of_host};

/// Images on disk, and the ways to get more. While it lives nobody else removes images.
pub struct Store {
    pub(super) shelf: Shelf,
    pub(super) sandbox: Sandbox,
    pub(super) registries: Registries,
    pub(super) lock: File,
}

/// What is asked for.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// `debian:bookworm`, `registry.example/group/image@sha256:...`.
    pub name: &'a str,
    /// Tried one after the other; none: [`PullPolicy::IfNotPresent`].
    pub policies: &'a [PullPolicy],
    /// When it is not this machine's.
    pub platform: Option<&'a Platform>,
    /// The pipeline's variable `DOCKER_AUTH_CONFIG`.
    pub auth_config: Option<&'a str>,
}

/// What happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A line for the job's log.
    Line(String),
    /// A line that warns.
    Warning(String),
    /// Bytes that have come from the registry, and those that an image has in all. Comes often.
    Received {
        /// So far.
        received: u64,
        /// In all, with layers that are here already.
        total: u64,
    },
}

/// Who is told.
pub type Tell = dyn Fn(Told) + Send + Sync;

/// A name in [`Store::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In full: `docker.io/library/debian:bookworm`.
    pub name: String,
    /// `linux/amd64`.
    pub platform: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes on disk; those of layers that other images share count for each.
    pub bytes: u64,
    /// When a job last used it.
    pub used: SystemTime,
}

impl fmt::Debug for Store {
    /// Without registries: their clients hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("shelf", &self.shelf).finish_non_exhaustive()
    }
}

impl Store {
    /// The store in a directory, made when it is missing. Root and ordinary users have different ones below it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(
        images: &Path,
        sandbox: Sandbox,
        registries: BTreeMap<String, Registry>,
    ) -> Result<Self, ImageError> {
        let kind = if is_root_of_host() { "root" } else { "user" };
        let shelf = Shelf::open(images.join(kind))?;
        let lock = shelf.lock_shared()?;
        Ok(Self { shelf, sandbox, registries: Registries::new(registries), lock })
    }

    /// With other patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.registries.set_patience(patience);
        self
    }

    /// The image that `wanted` names, by the first of its policies that works. Dropping the future stops it; what it
    /// made so far is removed by the next pull.
    ///
    /// # Errors
    /// No policy gave an image: the last one's reason.
    pub async fn get(&self, wanted: &Wanted<'_>, tell: &Tell) -> Result<Image, ImageError> {
        let policies = if wanted.policies.is_empty() { &[PullPolicy::IfNotPresent] } else { wanted.policies };
        let name = wanted.name.to_owned();
        let mut last = None;
        for (number, policy) in policies.iter().enumerate() {
            if let Some(error) = last.take() {
                let before = policies[number - 1];
                tell(Told::Warning(format!("Failed to pull image with policy \"{before}\": {error}")));
                let attempt = number + 1;
                let line = format!("Attempt #{attempt}: Trying \"{policy}\" pull policy for \"{name}\"");
                tell(Told::Line(line));
            }
            match self.by_policy(*policy, wanted, tell).await {
                Ok(image) => return Ok(image),
                Err(error @ ImageError::Name { .. }) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        let names: Vec<String> = policies.iter().map(PullPolicy::to_string).collect();
        let last = last.unwrap_or(ImageError::NotPresent { name: name.clone() });
        Err(ImageError::Policies { name, policies: names.join(" "), last: Box::new(last) })
    }

    async fn by_policy(
        &self,
        policy: PullPolicy,
        wanted: &Wanted<'_>,
        tell: &Tell,
    ) -> Result<Image, ImageError> {
        let reference = full_name(wanted.name)?;
        let name = reference.whole();
        let here = self.shelf.find(&name, wanted.platform)?;
        let held = match (policy, here) {
            (PullPolicy::Never | PullPolicy::IfNotPresent, Some(held)) => {
                tell(Told::Line(format!(
                    "Using locally found image version due to \"{policy}\" pull policy"
                )));
                held
            }
            (PullPolicy::Never, None) => {
                return Err(ImageError::NotPresent { name: wanted.name.to_owned() });
            }
            // what a digest names never changes
            (PullPolicy::Always, Some(held)) if reference.digest().is_some() => held,
            (PullPolicy::Always | PullPolicy::IfNotPresent, here) => {
                tell(Told::Line(format!("Pulling docker image {} ...", wanted.name)));
                match (self.pull(wanted, &reference, tell).await, here) {
                    (Ok(held), _) => {
                        self.shelf.keep(&name, wanted.platform, &held)?;
                        held
                    }
                    (Err(error @ ImageError::Unreachable { .. }), Some(held)) => {
                        tell(Told::Warning(format!("{error}; using the image that is on this machine")));
                        held
                    }
                    (Err(error), _) => return Err(error),
                }
            }
        };
        tell(Told::Line(format!("Using docker image {} for {} ...", held.digest, wanted.name)));
        Ok(self.shelf.take(wanted.name, &self.shelf.name(&name, wanted.platform), &held))
    }

    /// The names that are here, the last used first.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let mut listed = Vec::new();
        for (_, named, used) in self.shelf.names()? {
            let Some(held) = self.shelf.held(&named.manifest)? else { continue };
            let bytes = held.layers.iter().map(|chain| self.shelf.layer_bytes(chain)).sum();
            let Held { platform, digest, .. } = held;
            listed.push(Listed { name: named.name, platform, digest, bytes, used });
        }
        Ok(listed)
    }

    /// Bytes of all images together, shared layers counted once.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn bytes(&self) -> Result<u64, ImageError> {
        let mut chains = BTreeSet::new();
        for (_, named, _) in self.shelf.names()? {
            chains.extend(self.shelf.held(&named.manifest)?.into_iter().flat_map(|held| held.layers));
        }
        Ok(chains.iter().map(|chain| self.shelf.layer_bytes(chain)).sum())
    }

    /// Forgets a name, for all platforms, and removes what no other name needs. `false`: it is not here.
    ///
    /// # Errors
    /// [`ImageError::Busy`]: another `ci` works with images.
    pub async fn remove(&self, name: &str) -> Result<bool, ImageError> {
        let whole = full_name(name)?.whole();
        let names = self.shelf.names()?;
        let files: Vec<_> =
            names.into_iter().filter_map(|(path, named, _)| (named.name == whole).then_some(path)).collect();
        if !files.is_empty() {
            self.forget(&files).await?;
        }
        Ok(!files.is_empty())
    }
}
