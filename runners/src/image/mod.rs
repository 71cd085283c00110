//! Container images: what a job's root file system and its defaults come from.
//!
//! An [`Image`] is on disk and ready: its layers are directories that an overlay can use as they are.

mod config;

pub use config::{Config, Health, Image, Platform};
