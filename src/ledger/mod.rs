//! The ledger: what was released, deployed, handed over, approved and refused, per project.
//!
//! One file, `ledger.jsonl` in the project's state directory. Lines are only ever added; each holds the SHA-256 of
//! the line before it, so that a line that was changed or taken out later is noticed by whoever reads the file next.
//!
//! * [`Entry`], [`Fact`]: one line. The form is stable: fields are added, never changed.
//! * [`Ledger`]: reads and appends, one process at a time.
//! * [`standing`]: what follows from the entries: what runs where, what is bad, what arrived.
//! * [`packages`]: the packages that entries speak of, kept by their digest.

mod entry;
mod file;
pub mod packages;
mod server;
pub mod standing;

#[cfg(test)]
pub(crate) use entry::entries;
pub use entry::{
    Approval, Arrival, BundleMade, Ended, Entry, Fact, Mark, Override, Rehearsed, Released, Transport,
};
pub use file::{Ledger, record};
