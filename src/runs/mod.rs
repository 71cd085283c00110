//! Runs that are on disk: which there are, how each ended, what its journal tells without its whole plan.

mod estimate;
mod stored;
mod tail;

pub use estimate::estimates;
pub use stored::{Ending, Head, StoredRun, find, stored};
pub use tail::Tail;
