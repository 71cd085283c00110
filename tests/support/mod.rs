//! What the black-box tests of deployments share: a target behind a real sshd, and a project with real releases.

#[allow(dead_code, reason = "each test file uses its own part of this")]
pub(crate) mod project;
pub(crate) mod said;
#[allow(dead_code, reason = "each test file uses its own part of this")]
pub(crate) mod systemd;
#[allow(dead_code, reason = "each test file uses its own part of this")]
pub(crate) mod target;
