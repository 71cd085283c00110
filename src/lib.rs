pub mod digest;
pub mod error;
pub mod project;
pub mod report;
pub mod settings;
