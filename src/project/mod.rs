//! The project in front of us: its git repository, its files, its facts.

mod changes;
mod facts;
mod files;
mod snapshot;

pub use changes::Base;
pub use facts::{Facts, Project, state_name};
pub use files::ProjectFiles;
pub(crate) use files::tree_paths;
pub use snapshot::Snapshot;
