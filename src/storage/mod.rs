//! What runs leave on disk: the artifacts of a run, and what is removed when.
//!
//! | file | what |
//! |---|---|
//! | `artifacts` | the artifacts of a run's jobs |
//! | `blobs` | archives by their content's digest, each once |
//! | `disk` | how full the disk is |
//! | `record` | `kept.json` of a run: its size, when its artifacts expire |
//! | `inventory` | what there is of a project: runs, caches, snapshots |
//! | `limits` | which of it has to go (pure) |
//! | `removal` | renamed to the trash at once, deleted at low priority |
//! | `tidy` | the end of a run: expired artifacts, then the limits |

mod artifacts;
mod blobs;
mod disk;
mod inventory;
mod limits;
mod record;
mod removal;
mod tidy;

pub use artifacts::{Kept, of_run, runs};
pub use blobs::sweep_artifacts;
pub use disk::Disk;
pub use inventory::{Item, Kind, inventory};
pub use limits::{Limits, victims};
pub use record::Record;
pub use removal::{empty_trash, remove};
pub use tidy::tidy;
