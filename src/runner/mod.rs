//! `ci runner`: takes jobs of a server that speaks GitLab's Runner API ([`crate::wire`]), ours or a real GitLab, and
//! runs them with the executors of `ci run`. Each job is a process of its own (`ci __job`) that outlives the runner and
//! the server: it sends the log and the end of the job itself, and waits for a server that is away.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `runner.yml`: servers, tokens, how many jobs at once |
//! | [`identity`] | who this machine is, what it can do |
//! | [`asking`] | requests about the runner itself: verify, ask for a job, leave |
//! | [`polling`] | `ci runner run`: asks for jobs as long as there is room |
//! | [`processes`] | the jobs' processes: started, counted, found again, swept |
//! | [`order`] | what a job's process is told |
//! | [`process`] | `ci __job`: one job from its order to the server's last word |
//! | `job_api` | requests about one job, and where its server is |
//! | `transport` | connections to it |
//! | `patience` | how long to wait before trying again |
//! | `trace` | the log and the end of a job on their way to the server |
//! | `verdict` | how a job ended, in the server's words |
//! | `translate` | the server's job as one of `runners::job` |
//! | `courier` | sources and artifacts coming in, artifacts going out |
//! | `sources` | a mirror for each project, the sources of a commit |
//! | `submodules` | repositories inside of them |
//! | `zipped` | artifacts as runners of GitLab exchange them |

pub mod asking;
pub mod config;
mod courier;
pub mod identity;
mod job_api;
pub mod order;
mod patience;
pub mod polling;
pub mod process;
pub mod processes;
mod sources;
mod submodules;
mod trace;
mod translate;
mod transport;
mod verdict;
mod zipped;

pub use config::{Config, Registered};
pub use job_api::Address;
pub use order::Order;
pub use processes::Processes;
