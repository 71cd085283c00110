//! Container images: what a job's root file system and its defaults come from.
//!
//! An [`Image`] is on disk and ready: its layers are directories that an overlay can use as they are.
//!
//! | file | what |
//! |---|---|
//! | `config` | [`Image`], [`Config`], [`Platform`] |
//! | `policy` | [`PullPolicy`] |
//! | `store` | [`Store`]: from a name to an image, by policy; what is there; removal |
//! | `shelf` | the files of the store, and what is in them |
//! | `pull`, `layer` | from a registry: manifests, and layers at once |
//! | `registry`, `credentials`, `authority` | clients, mirrors, retries; who we are; whom to trust |
//! | `import` | from archives and directories |
//! | `collect` | limits by age and size |
//! | `manifest` | the documents of OCI and Docker, and which of an index fits a platform |
//! | `error` | [`ImageError`] |
//!
//! On disk, with a tree for root and one for ordinary users, because overlayfs' marks differ (`trusted.*`, `user.*`):
//!
//! ```text
//! images/{root,user}/
//!     lock                shared while a store is open, exclusive while something is removed
//!     layers/<chain>      files of a layer; <chain> is the digest of it and all layers below (OCI's ChainID)
//!     layers/<chain>.json its size
//!     locks/<chain>       held while that layer is made
//!     manifests/<digest>.json, names/<digest of name and platform>.json
//!     new/                layers that are being made; those of dead processes are swept
//! ```

mod authority;
mod collect;
mod config;
mod credentials;
mod error;
mod import;
mod layer;
mod manifest;
mod policy;
mod pull;
mod registry;
mod shelf;
mod store;

pub use collect::{Collected, Limits};
pub use config::{Config, Health, Image, Platform};
pub use error::ImageError;
pub use policy::PullPolicy;
pub use registry::{Patience, Registry};
pub use store::{Listed, Store, Tell, Told, Wanted};
