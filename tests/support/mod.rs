//! What the black-box tests of deployments share: a target behind a real sshd, and a project with real releases.

// each test file uses its own part of this
#[allow(dead_code)]
pub(crate) mod project;
pub(crate) mod said;
#[allow(dead_code)]
pub(crate) mod target;
