//! Files that are not in the project itself: `include:project`, `component`, `remote`, `template`.
//!
//! | module | what |
//! |---|---|
//! | `table` | `sources` of the settings: which project is where |
//! | `mirror` | bare mirrors of git URLs, fetched at most once per command |
//! | `smart_http`, `pkt_line` | fetching over http and https, which libgit2 is built without |
//! | `fetch` | the server's mirrors |
//! | `reach` | hosts that may be reached |
//! | `credentials` | how the user gets in |
//! | `refspecs` | what a job fetches |
//! | `revision` | refs and component versions to commits |
//! | `checkout` | the files of a project at a commit, or of a plain directory |
//! | `remote` | files from http servers |
//! | `templates` | the files that `ci` brings along |
//! | `elsewhere` | all of these behind one question |

mod checkout;
mod credentials;
mod elsewhere;
mod fetch;
mod mirror;
mod pkt_line;
mod reach;
mod refspecs;
mod remote;
mod revision;
mod smart_http;
mod table;
mod templates;

pub use elsewhere::Sources;
pub(crate) use fetch::{Fetch, Listed};
pub use reach::Reach;
pub(crate) use refspecs::{Wish, fetch, set as set_refs};
pub use table::{Place, SourceTable};
pub(crate) use templates::text as template;
