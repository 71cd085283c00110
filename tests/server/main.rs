//! `ci server`, the real binary, over HTTP.
//!
//! With `SLIPWAY_TEST_DATABASE=postgres://…` the same tests run against PostgreSQL: each makes a database of its own
//! there.
//!
//! | module | what |
//! |---|---|
//! | `browser` | pages in Chromium |
//! | `pages`, `demo` | pages over a database that looks lived in |
//! | `support` | starts, kills, asks a server; a git repository to push to |
//! | `start` | where it listens, what it says first |

#![allow(clippy::unwrap_used, reason = "the whole crate is tests")]

mod browser;
mod demo;
mod pages;
mod start;
mod support;
