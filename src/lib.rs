//! The library half of `ci`.

pub mod dispatch;
pub mod report;
