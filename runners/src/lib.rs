//! Runs one CI job: executors, workspace, artifacts, cache, logs.
//!
//! ```text
//! job::run(JobSpec) ─ phases ─> Executor::prepare -> Execution { get_sources, start, pack, unpack, cleanup }
//!        │                                              └ fake · shell · embedded (sandbox) · docker
//!        └ output ─> log (mask, limit, file job.log) ─> EventKind::JobLog { length }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`executor`] | the contract between a job and the place where it runs |
//! | [`fake`], [`shell`], [`embedded`] | the places |
//! | [`docker`] | containers of a Docker or Podman engine |
//! | [`sandbox`] | the container runtime behind `embedded` |
//! | [`image`] | container images on disk |
//! | [`sandbox`], `running` | the container runtime behind `embedded`, which also watches over `shell`; its shells as steps |
//! | [`image`], `container` | container images on disk; how a job's shell starts in one |
//! | [`services`] | services of a job in sandboxes: names, start, readiness, logs |
//! | [`job`] | the phases of a job, its outcome |
//! | [`script`] | from YAML commands to the text that a shell reads |
//! | [`variables`], [`parameter`] | the runner's own expansion, file variables; POSIX expansion of paths |
//! | [`workspace`] | a directory for a job |
//! | [`archive`], [`glob`] | tar+zstd of selected files, unpacked without escaping |
//! | [`artifacts`], [`dotenv`], [`cache`], [`bucket`] | what is kept of a job |
//! | [`log`] | masking, output limit, sections, the log file |
//! | [`conformance`] | the behavioural suite that every executor passes |
//!
//! On disk, below a run's directory: `jobs/NAME/ATTEMPT/` holds `job.log`, `artifacts.tar.zst`,
//! `report-TYPE.tar.zst`, their index `artifacts.json`, `release.json`, and `services/NAME.log`. A project's cache directory
//! holds `KEY.tar.zst`.

pub mod archive;
pub mod artifacts;
pub mod bucket;
pub mod cache;
pub mod conformance;
mod container;
mod digest;
pub mod docker;
pub mod dotenv;
pub mod embedded;
pub mod executor;
pub mod fake;
pub mod glob;
pub mod image;
pub mod job;
pub mod log;
pub mod parameter;
mod running;
pub mod sandbox;
pub mod script;
pub mod services;
pub mod shell;
mod terminal;
pub mod variables;
pub mod workspace;
