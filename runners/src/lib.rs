//! Runs one CI job: executors, containers, workspace, sources, artifacts, cache, services, logs.

pub mod sandbox;
