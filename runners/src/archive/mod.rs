//! Archives of artifacts and caches: tar compressed with zstd. Files are selected by [`crate::glob`] patterns;
//! unpacking never leaves the directory. All functions block; they work on plain directories, so an executor
//! whose files the runner can't see calls them inside its own mounts.

mod pack;
mod select;
mod state;
mod unpack;

pub use pack::{Packed, PackedFile, entries, pack, pack_private};
pub use select::{Selected, Selection, select};
pub use state::State;
pub use unpack::{Unpacked, unpack};

/// What stops packing or unpacking.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file of the job can't be read or written.
    #[error("{doing} `{path}`: {source}")]
    File {
        /// `reading`, `writing` ...
        doing: &'static str,
        /// Relative to the directory that is packed or unpacked into.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The archive itself can't be read or written.
    #[error("{doing} the archive: {source}")]
    Archive {
        /// `reading` or `writing`.
        doing: &'static str,
        /// The system's answer, or what is wrong with the format.
        source: std::io::Error,
    },
    /// An entry would be written outside of the directory.
    #[error("refusing to unpack `{path}`: it leads out of the directory")]
    Escape {
        /// As it stands in the archive.
        path: String,
    },
}

impl ArchiveError {
    fn file(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> ArchiveError {
        let path = path.to_string_lossy().into_owned();
        move |source| ArchiveError::File { doing, path, source }
    }

    fn archive(doing: &'static str) -> impl Fn(std::io::Error) -> ArchiveError {
        move |source| ArchiveError::Archive { doing, source }
    }
}
