//! Services of a job in sandboxes: started before it in its network, watched until they answer, stopped with it.
//!
//! | file      | what                                                             |
//! |-----------|------------------------------------------------------------------|
//! | `company` | a job's network with its services                            |
//! | `names`   | host names of a service, as GitLab makes them                     |
//! | `start`   | a service's sandbox, its end                                     |
//! | `log`     | what a service prints                                            |
//! | `ready`   | waiting until services answer                                    |
//! | `forward` | services for jobs that are in the host's own network              |

mod company;
mod forward;
mod log;
mod names;
mod ready;
mod start;

pub use company::Networking;
pub(crate) use company::{Company, Order};
pub(crate) use forward::{Forwarders, address};
pub(crate) use log::Log;
pub use names::{host_names, log_name};
pub(crate) use ready::wait_until_ready;
pub(crate) use start::{Asked, Running, Surroundings, start};
