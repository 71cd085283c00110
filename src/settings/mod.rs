//! Settings of a project that are not the pipeline: local variables, where state is kept.

mod gitlab_ci_local;
mod home;
mod variables;

pub use gitlab_ci_local::{GITLAB_CI_LOCAL, load_gitlab_ci_local};
pub use home::{RunDirectory, State};
pub use variables::{VariablesFile, load_variables};
