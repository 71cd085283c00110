//! Settings of a project that are not the pipeline: local variables, where state is kept.

mod home;
mod lint;
mod variables;

pub use home::{RunDirectory, State};
pub use lint::LintSettings;
pub use variables::{VariablesFile, load_variables};
