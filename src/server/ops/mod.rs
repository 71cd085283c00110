//! Running the server: backup and restore, health, metrics, retention, hand-over.

pub mod backup;
