//! A first `.gitlab-ci.yml` for a project: which languages it is written in, and their templates made one file.

mod compose;
mod languages;

pub use compose::compose;
pub use languages::{Language, MARKERS, languages};
