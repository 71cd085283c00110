//! The order of a plan's jobs, drawn: `ci plan --graph`, `--format mermaid`, `--format dot`.
//!
//! | file | what |
//! |---|---|
//! | `order` | what each job waits for |
//! | `tree` | for terminals |
//! | `diagram` | Mermaid and Graphviz |

mod diagram;
mod order;
#[cfg(test)]
mod tests;
mod tree;

pub use diagram::{dot, mermaid};
pub use tree::tree;
