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
//! | [`pages`] | the web page |
//! | [`problem`] | answers that are errors |
//! | [`vault`] | secrets at rest, tokens |

pub mod access;
pub mod app;
pub mod config;
pub mod db;
pub mod engine;
pub mod pages;
pub mod problem;
pub mod routes;
pub mod rows;
pub mod serve;
pub mod vault;

pub use app::App;
pub use problem::{Answer, Problem};
