//! What the black-box tests of deployments share: a target behind a real sshd, and a project with real releases.

pub(crate) mod project;
pub(crate) mod said;
pub(crate) mod target;
