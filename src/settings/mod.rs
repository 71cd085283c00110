//! Settings of a project that are not the pipeline: local variables, where projects come from, where state is kept.

mod file;
mod home;
mod lint;
mod variables;

pub use file::Settings;
pub use home::{RunDirectory, State};
pub use lint::LintSettings;
pub use variables::{VariablesFile, load_variables};
