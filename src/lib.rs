//! The library half of `ci`.

pub mod digest;
pub mod dispatch;
pub mod error;
pub mod project;
pub mod release;
pub mod report;
pub mod settings;
