//! `ci server`, the real binary, over HTTP.
//!
//! With `SLIPWAY_TEST_DATABASE=postgres://…` the same tests run against PostgreSQL: each makes a database of its own
//! there.
//!
//! | module | what |
//! |---|---|
//! | `pages`, `demo` | pages over a database that looks lived in |
//! | `support` | starts, kills, asks a server; a git repository to push to |
//! | `client` | `ci pipelines`, `ci logs -f`, `ci approve --server`, … |
//! | `archives` | promotion of what is no Erlang release |
//! | `environments` | promotion with real targets |
//! | `hooks` | deliveries, what no hook told of, commit statuses |
//! | `ops` | health, metrics, hand-over, backup, maintenance |
//! | `projects` | projects over the API |
//! | `kill` | random kills of the server and of jobs' processes |
//! | `browser` | cookies and forms |
//! | `chromium`, `clicks` | pages in a real browser; every form of them |
//! | `people`, `oidc` | accounts, sessions, tokens, roles, variables, the audit record |
//! | `runner` | the server's pool, `ci runner`, a job's process and a server that behaves badly |
//! | `start` | where it listens, what it says first |
//! | `systemd` | the unit of `packaging/` under a systemd of its own |
//! | `wire` | the Runner API, as runners of several versions speak it |

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "the whole crate is tests")]

mod archives;
mod browser;
mod chromium;
mod clicks;
mod client;
mod demo;
mod environments;
mod hooks;
mod kill;
mod oidc;
mod ops;
mod pages;
mod people;
mod projects;
mod runner;
mod start;
mod support;
mod systemd;
#[path = "../support/mod.rs"]
mod targets;
mod wire;
