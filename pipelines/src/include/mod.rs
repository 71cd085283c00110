//! `include`: which files an entry means, whether its rules hold, where their texts come from, and how the
//! contents become one.
//!
//! | module | what |
//! |---|---|
//! | [`location`] | the entries of one `include`: normalised, filtered, expanded, their kind known |
//! | [`rules`] | `include:rules` |
//! | [`wildcard`] | `*` and `**` in local paths |
//! | [`source`] | the text of one file, and what is said when it can't be had |
//! | [`loader`] | one file to its finished content, nested includes and all |
//! | [`unused`] | checks of an `include` that brought nothing in |

mod loader;
mod location;
mod rules;
mod source;
mod unused;
mod wildcard;

pub(crate) use loader::Loader;
