//! The library half of `ci`.
