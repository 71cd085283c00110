//! The embedded container runtime: no daemon, no setuid program of ours, no system library.
//!
//! ```text
//! ci ── a call for each task ──> `__init`, one thread, waits
//!  └──── a socket of the call: Order down, Status up; closing it kills ──> supervisor, a copy of `__init`
//!                                                                     └─ first process of the pid namespace
//!                                                                          mounts, pivot_root, caps, seccomp
//!                                                                          └─ the task (a script, or an archive)
//! ```
//!
//! | file         | side   | what                                                                  |
//! |--------------|--------|-----------------------------------------------------------------------|
//! | `spec`       | both   | [`Spec`], [`Task`]: what a sandbox looks like, what runs in it          |
//! | `error`      | both   | [`Failure`] (set-up, told by the child), [`Error`]                      |
//! | `wire`       | both   | the messages on the socket                                            |
//! | `launch`     | parent | [`Sandbox`]: start a task                                               |
//! | `process`    | parent | [`Process`]: wait, terminate, kill                                      |
//! | `state`      | parent | [`StateDir`]: a job's writable layers on disk, [`sweep`]                 |
//! | `recycle`    | parent | a used state directory for the next job                               |
//! | `probe`      | parent | [`Capability`]: what works on this machine                              |
//! | `zygote`     | child  | [`init_main`]: waits for calls, forks supervisors                       |
//! | `supervisor` | child  | user namespace, pid namespace, lifeline                               |
//! | `userns`     | child  | id maps of an ordinary user                                           |
//! | `first`      | child  | pid 1: order of the set-up, reaping, forwarding signals               |
//! | `health`     | child  | a service's health check                                              |
//! | `root`       | child  | the root file system of an image                                      |
//! | `kernel_fs`  | child  | /proc, /sys, /dev and what of them is hidden                            |
//! | `mounts`     | child  | the kernel's mount API, targets resolved inside the new root           |
//! | `names`      | child  | overlays by short names: old kernels, mapped layers                    |
//! | `user`       | child  | `USER`: ids, groups and home from the image's files                    |
//! | `owner`      | child  | a workspace that belongs to another user than root                     |
//! | `privilege`  | child  | Docker's capability set                                               |
//! | `seccomp`    | child  | Docker's seccomp policy as BPF                                        |
//! | `cgroup`     | child  | limits, where there are control groups                               |
//! | `terminal`   | child  | a terminal inside, for people                                         |
//! | `plain`      | child  | a program without a sandbox, with the lifeline                        |
//! | `archive`    | child  | archives written and unpacked inside                                  |
//! | `network`    | both   | [`Router`], [`JobNetwork`]: namespaces with addresses, the way out        |
//! | `unpack`     | child  | layers of images, from archives to directories                        |
//! | `sys`        | child  | the only `unsafe` code                                                |
//!
//! A sandbox is a set of layers on disk ([`StateDir`]), not a living process: every step (`script`, then
//! `after_script`, then artifacts) starts with fresh namespaces over the same layers, so files stay and
//! processes don't. Nothing is mounted outside the sandbox's own mount namespace; the parent reaches the
//! workspace with [`Task::Archive`] and [`Task::Restore`], which run inside the same mounts and the same
//! confinement, so no link in a workspace leads them to a file of the host.
//!
//! What it isolates with image `host`: writes, processes, IPC, the host name, and the network with
//! [`Network::Joined`]. Not reads, but for the hidden paths: a job of root reads what root may read.

mod archive;
mod cgroup;
mod error;
mod first;
mod health;
mod kernel_fs;
mod launch;
mod mounts;
mod names;
mod network;
mod owner;
mod plain;
mod privilege;
mod probe;
mod process;
mod recycle;
mod root;
mod seccomp;
mod spec;
mod state;
mod supervisor;
mod sys;
mod terminal;
mod unpack;
mod user;
mod userns;
mod wire;
mod zygote;

pub use error::{Error, Failure};
pub use launch::{Output, Sandbox, Streams};
pub use network::{Egress, JobNetwork, Router, resolver_settings};
pub(crate) use privilege::is_root_of_host;
pub use probe::{Capability, Missing, Mode};
pub use process::{ExitStatus, Process};
pub use spec::{
    Access, Check, Command, Health, INIT_ARG, Joint, Limits, Mount, Network, NewLayer, OWN_BIN_DIR, Root,
    Spec, Task, UnpackedLayer,
};
pub use state::{StateDir, sweep};
pub use sys::expect_much_memory;
pub use zygote::init_main;
