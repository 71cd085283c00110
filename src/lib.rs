pub mod digest;
pub mod error;
pub mod project;
pub mod release;
pub mod report;
pub mod settings;
//! The library half of `ci`.

pub mod dispatch;
pub mod report;
