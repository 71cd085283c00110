//! Black-box tests of `ci` in git repositories of their own.
//!
//! | file | what |
//! |---|---|
//! | `tree` | a git work tree, a home for state, `ci` in it |
//! | `cases` | runs of the pipelines below `tests/cases/`, with what is expected as data |
//! | `stopping` | Ctrl-C once and twice, SIGTERM, a `ci` that is killed |
//! | `secrets` | what must not be found anywhere |
//! | `events` | `--format json`, the journal, its replay |
//! | `commands` | a table of commands, what they say, their exit codes |
//! | `screen` | what `ci run` shows and leaves: quiet, JUnit, annotations, selections, watch |
//! | `runs` | `ci runs`, `ci logs`, `ci run --failed` |
//! | `init` | `ci init` for a project of every language |
//! | `notify` | `ci notify` against a server on loopback |

#![allow(clippy::unwrap_used, reason = "the whole crate is tests")]

mod cases;
mod commands;
mod events;
mod init;
mod notify;
mod runs;
#[path = "../support/said.rs"]
mod said;
mod screen;
mod secrets;
mod stopping;
mod tree;
