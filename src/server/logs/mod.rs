//! Logs of jobs: files in `data/logs`, appended to at offsets, read by line.
//!
//! | file | what |
//! |---|---|
//! | `JOB.log` | the bytes, masked |
//! | `JOB.index` | where every 1,000th line begins, sections, when what arrived: see [`index`] |
//! | `JOB.sum` | how many bytes there are, and the CRC-32 of what the runner sent for them |
//!
//! Runners mask before they send. The server masks again before the disk, byte for byte: a secret becomes `[MASKED]`,
//! cut or filled up with `*` to its own length, so that offsets and sizes are the runner's. What may be the beginning
//! of a secret is held back in memory; after a restart the runner is asked for it again (416).
//!
//! | module | what |
//! |---|---|
//! | [`store`] | the logs that are being written |
//! | [`writer`] | one of them |
//! | [`index`] | the file beside it |
//! | [`read`] | ranges and lines |
//! | [`ansi`] | a line as HTML |
//! | [`routes`] | the API |
//! | [`tidy`] | logs whose job has ended without a last word |

pub mod ansi;
pub mod index;
pub mod read;
pub mod routes;
pub mod store;
pub mod tidy;
pub mod writer;

pub use store::Logs;
pub use writer::{Appended, Writer};
