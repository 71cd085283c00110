//! Settings of a project that are not the pipeline: local variables, where projects come from, where state is kept.

mod file;
mod gitlab_ci_local;
mod home;
mod lint;
mod variables;

pub use file::Settings;
pub use gitlab_ci_local::{GITLAB_CI_LOCAL, load_gitlab_ci_local};
pub use home::{RunDirectory, State};
pub use lint::LintSettings;
pub(crate) use variables::scope_matches;
pub use variables::{VariablesFile, load_variables};
