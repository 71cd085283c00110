//! `ci` as a client of a Slipway server.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | asks it; what its answers mean to a command |
//! | [`place`] | a project on a server, its pipelines, jobs, deployments |
//! | [`follow`] | the log of a job as it grows |

pub mod follow;
pub mod place;
pub mod server;

pub use place::Place;
pub use server::Server;
