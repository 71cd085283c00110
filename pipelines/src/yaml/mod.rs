//! YAML text to [`Node`]: saphyr's events, GitLab's YAML 1.1 scalars on top.
//!
//! What counts is what Ruby's Psych makes of a text, because that is what GitLab sees: `yes` is a boolean, `0777`
//! is octal, `12:30` is a number, an unquoted date is an error, the last of two equal keys wins.

mod builder;
mod document;
mod flow;
mod inspect;
mod node;
mod repair;
mod scalar;
mod tag;

pub use document::parse;
pub use inspect::{inspect, text};
pub use node::{Entries, Entry, Key, Mapping, Node, Text, Value};
