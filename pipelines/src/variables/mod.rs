//! Variables: which exist, which wins, and how references to them are replaced.

mod circles;
mod expand;
mod predefined;
mod scope;
mod slug;

pub use circles::circles;
pub use expand::{Unknown, expand, expand_shell, references};
pub use predefined::predefined;
pub use scope::{Layer, Scope, Variable};
pub use slug::{environment_slug, slug};

#[cfg(test)]
mod tests;
