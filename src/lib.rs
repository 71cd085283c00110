//! The library half of `ci`: everything that is not the language (`pipelines`) and not running one job (`runners`).
//!
//! | module | what |
//! |---|---|
//! | [`bundle`] | what is handed to operations where we can't reach, and what comes back |
//! | [`cli`] | one file per command |
//! | [`client`] | asks a Slipway server |
//! | [`deploy`] | puts a release on a target over ssh |
//! | [`dispatch`] | runs a plan: slots, timers, interrupts, the journal |
//! | [`ledger`] | what was released, deployed, approved: append-only, per project |
//! | [`downstream`] | pipelines that jobs create; running any job |
//! | [`notify`] | tells people of pipelines and deployments |
//! | [`project`] | git: facts, files, changes, snapshots |
//! | [`promotion`] | what stands between a release and an environment: order, freezes, approvals |
//! | [`release`] | Erlang releases: versions, packages, appups, relups, builds |
//! | [`report`] | what people and machines see |
//! | [`runner`] | `ci runner`: takes jobs of a server, ours or a GitLab |
//! | [`runs`] | runs that are on disk: which there are, what they tell |
//! | [`server`] | `ci server`: pipelines on webhooks, environments, promotion |
//! | [`settings`] | settings files, local variables, where state is kept |
//! | [`signature`] | signatures by ssh keys |
//! | [`sources`] | files of other projects, remote files, templates |
//! | [`starter`] | a first `.gitlab-ci.yml` for a project |
//! | [`wire`] | GitLab's Runner API, as both sides speak it |
//! | [`error`] | how commands end: exit codes |

pub mod bundle;
pub mod cli;
pub mod client;
pub mod deploy;
pub mod digest;
pub mod dispatch;
pub mod downstream;
pub mod error;
pub mod ledger;
pub mod notify;
pub mod project;
pub mod promotion;
pub mod release;
pub mod report;
pub mod runner;
pub mod runs;
pub mod server;
pub mod settings;
pub mod signature;
pub mod sources;
pub mod starter;
pub mod storage;
pub mod wire;
