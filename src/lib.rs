//! The library half of `ci`.

pub mod release;
