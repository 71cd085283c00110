//! `ci server`: webhook in, pipeline run, release promoted, nothing lost.
//!
//! Store what arrived, then answer, then act: small passes over stored state, each safe to repeat, woken by a
//! notification and by a timer. State is in the database (`db`), logs and artifacts are files in the data directory.
//!
//! | module | what |
//! |---|---|
//! | [`app`] | what every handler and every pass has at hand |
//! | [`config`] | `server.yml` |
//! | [`db`] | the database |
//! | [`access`], [`routes`] | who may do what; the only way to add a route names who may use it |
//! | [`rows`] | rows that several modules read |
//! | [`engine`] | pipelines: made, scheduled, queued, handed out, ended |
//! | [`artifacts`] | artifacts of jobs: stored, browsed, read |
//! | [`logs`] | logs of jobs: appended, read by line, followed |
//! | [`hooks`] | what forges send, what is missed, commit statuses back |
//! | [`projects`] | projects, their secrets, settings, schedules |
//! | [`mirror`] | a bare mirror of each project's repository |
//! | [`releases`] | what jobs with `release:` made |
//! | [`schedules`] | pipelines by the clock |
//! | [`environments`] | which version is where; promotion, approvals, bundles |
//! | [`ops`] | backup, health, metrics, retention, hand-over |
//! | [`pages`] | the web page |
//! | [`people`] | accounts, sessions, tokens, roles, variables, the audit record |
//! | [`pool`] | the server's own runner |
//! | [`runner_api`] | GitLab's Runner API: what runners ask |
//! | [`runners`] | runners: what people do with them |
//! | [`problem`] | answers that are errors |
//! | [`vault`] | secrets at rest, tokens |

pub mod access;
pub mod app;
pub mod artifacts;
pub mod config;
pub mod db;
pub mod engine;
pub mod environments;
pub mod hooks;
pub mod logs;
pub mod mirror;
pub mod ops;
pub mod pages;
pub mod people;
pub mod pool;
pub mod problem;
pub mod projects;
pub mod releases;
pub mod routes;
pub mod rows;
pub mod runner_api;
pub mod runners;
pub mod schedules;
pub mod serve;
pub mod vault;

pub use app::App;
pub use problem::{Answer, Problem};
