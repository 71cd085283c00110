//! Tells people of pipelines and deployments.
//!
//! ```text
//! Notifier (settings) + variables -> Channel --.
//! Event -> template -> message (per kind) -----+-> signed -> post | mail, with bounded retries -> Failure?
//! ```
//!
//! A notifier never decides how the command around it ends: what goes wrong comes back as [`Failure`]s to be shown.
//! URLs and secrets are values of variables; they enter no message.

mod channel;
mod event;
mod mail;
mod message;
mod notifier;
mod pipeline;
mod post;
mod retry;
mod sign;
mod template;

pub use channel::{Channels, Failure};
pub use event::{Event, Subject};
pub use notifier::{Notifier, NotifierKind, Occasion};
pub use pipeline::{Finished, finished};
