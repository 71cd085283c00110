//! What runs leave on disk: the artifacts of a run, and what is removed when.
//!
//! | file | what |
//! |---|---|
//! | `artifacts` | the artifacts of a run's jobs |
//! | `disk` | how full the disk is |
//! | `record` | `kept.json` of a run: its size, when its artifacts expire |
//! | `inventory` | what there is of a project: runs, caches, snapshots |
//! | `limits` | which of it has to go (pure) |
//! | `removal` | renamed to the trash at once, deleted at low priority |
//! | `share` | the same archive of two runs is one file |
//! | `tidy` | the end of a run: expired artifacts, then the limits |

mod artifacts;
mod disk;
mod inventory;
mod limits;
mod record;
mod removal;
mod share;
mod tidy;

pub use artifacts::{Kept, of_run, runs};
pub use disk::Disk;
pub use inventory::{Item, Kind, inventory};
pub use limits::{Limits, victims};
pub use record::Record;
pub use removal::{empty_trash, remove};
pub use tidy::tidy;
