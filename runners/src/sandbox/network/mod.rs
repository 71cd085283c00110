//! Networks of containers: a switchboard of our own in the kernel, no daemon, nothing of the host's changed.
//!
//! ```text
//! host's namespace │ router's namespace                          │ a namespace for each container
//!  pasta or        │                    ┌ br0 10.208.0.1 ─ cable ─┼─ eth0 10.208.0.2   job
//!  slirp4netns ────┼─ tap0 ─ NAT ─ routes                        ├─ eth0 10.208.0.3   its service
//!                  │                    └ br1 10.208.1.1 ─ cable ─┼─ eth0 10.208.1.2   another job
//! ```
//!
//! One [`Router`] serves a whole `ci run`: a process of ours that holds all namespaces as open files, so that they
//! and everything in them go when it goes, and it goes when `ci` does. [`Router::join`] makes one network (a job
//! with its services); containers enter with [`Network::Joined`](super::Network::Joined), whose namespace stays the
//! same from step to step. Networks can't reach one another. For ordinary users the router's user namespace owns
//! the network namespaces, and containers enter it instead of making one.
//!
//! | file      | side   | what                                                    |
//! |-----------|--------|---------------------------------------------------------|
//! | `router`  | parent | [`Router`], [`JobNetwork`]                              |
//! | `talk`    | both   | requests and replies                                    |
//! | `serve`   | child  | the router's process                                    |
//! | `egress`  | child  | the way out: a guard over `pasta` or `slirp4netns`        |
//! | `links`   | child  | bridges, cables, addresses, routes, NAT                  |
//! | `netlink` | child  | messages to the kernel                                  |

mod egress;
mod links;
mod netlink;
mod router;
mod serve;
mod talk;

pub use router::{Egress, JobNetwork, Router, resolver_settings};
pub(super) use serve::{enter, serve};
