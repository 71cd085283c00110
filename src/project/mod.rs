//! The project in front of us: its git repository, its files, its facts.

mod changes;
mod facts;
mod files;
mod git_dir;
mod lfs;
mod linked;
mod snapshot;
mod submodules;
mod view;

pub use changes::Base;
pub use facts::{Facts, Project, state_name};
pub use files::ProjectFiles;
pub(crate) use files::tree_paths;
pub use snapshot::Snapshot;
pub use view::View;
