//! Settings of a project that are not the pipeline: local variables, where projects come from, where state is kept.

mod cache;
mod executor;
mod file;
mod gitlab_ci_local;
mod home;
mod keep;
mod limits;
mod lint;
mod logins;
mod network;
mod registries;
mod release;
mod resource_groups;
mod variables;

pub use cache::{CacheSettings, S3Settings};
pub use executor::ExecutorKind;
pub use file::Settings;
pub use gitlab_ci_local::{GITLAB_CI_LOCAL, load_gitlab_ci_local};
pub use home::{RunDirectory, State};
pub use keep::{KeepSettings, parse_size};
pub use limits::LimitSettings;
pub use lint::LintSettings;
pub use logins::{Login, Logins};
pub use network::NetworkSetting;
pub use registries::RegistrySettings;
pub use release::ReleaseSettings;
pub use resource_groups::{ProcessMode, ResourceGroups};
pub(crate) use variables::closest;
pub use variables::{VariablesFile, load_variables};
