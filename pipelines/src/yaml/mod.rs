//! YAML text to [`Node`]: saphyr's events, GitLab's YAML 1.1 scalars on top.

mod node;

pub use node::{Entry, Key, Mapping, Node, Text, Value};
