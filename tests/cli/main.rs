//! Black-box tests of `ci` in git repositories of their own.
//!
//! | file | what |
//! |---|---|
//! | `tree` | a git work tree, a home for state, `ci` in it |
//! | `cases` | runs of the pipelines below `tests/cases/`, with what is expected as data |
//! | `debug` | `ci run --debug` on a terminal |
//! | `engines` | Docker and Podman: runs that are ended from outside, `--debug` |
//! | `registries` | registries with TLS and logins |
//! | `stopping` | Ctrl-C once and twice, SIGTERM, a `ci` that is killed |
//! | `secrets` | what must not be found anywhere |
//! | `services` | services and networks of jobs, real servers |
//! | `events` | `--format json`, the journal, its replay |
//! | `commands` | a table of commands, what they say, their exit codes |
//! | `bucket` | caches in an S3 bucket |
//! | `disk_full` | a disk that is full |
//! | `faults` | jobs that say too much, or don't end |
//! | `keep` | artifacts, cleaning, expiry, releases |
//! | `workspace` | the sources as jobs see them |
//! | `images` | `ci images` against a registry on loopback |
//! | `screen` | what `ci run` shows and leaves: quiet, JUnit, annotations, selections, watch |
//! | `runs` | `ci runs`, `ci logs`, `ci run --failed` |
//! | `init` | `ci init` for a project of every language |
//! | `notify` | `ci notify` against a server on loopback |

#![allow(clippy::unwrap_used, reason = "the whole crate is tests")]

mod bucket;
mod cases;
mod commands;
mod debug;
mod disk_full;
#[path = "../support/engine.rs"]
mod engine;
mod engines;
mod events;
mod faults;
mod images;
mod init;
mod keep;
mod notify;
mod registries;
#[path = "../support/registry.rs"]
mod registry;
mod runs;
#[path = "../support/said.rs"]
mod said;
mod screen;
mod secrets;
mod services;
mod stopping;
mod tree;
mod workspace;
