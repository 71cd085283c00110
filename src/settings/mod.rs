//! Settings of a project that are not the pipeline: local variables, where projects come from, where state is kept.

mod executor;
mod file;
mod gitlab_ci_local;
mod home;
mod limits;
mod lint;
mod network;
mod variables;

pub use executor::ExecutorKind;
pub use file::Settings;
pub use gitlab_ci_local::{GITLAB_CI_LOCAL, load_gitlab_ci_local};
pub use home::{RunDirectory, State};
pub use limits::LimitSettings;
pub use lint::LintSettings;
pub use network::NetworkSetting;
pub use variables::{VariablesFile, load_variables};
