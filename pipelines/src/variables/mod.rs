//! Variables: which exist, which wins, and how references to them are replaced.

mod expand;
mod predefined;
mod scope;
mod slug;

pub use expand::{Unknown, expand, expand_shell, references};
pub use predefined::{is_merge_request, predefined};
pub use scope::{Layer, Scope, Variable};
pub use slug::{environment_slug, slug};
