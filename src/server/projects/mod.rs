//! Projects: where their sources are, who tells of changes there, what may run.
//!
//! | module | what |
//! |---|---|
//! | `settings` | [`Settings`], what a project's maintainers decide |
//! | `address` | paths of projects, addresses of repositories |
//! | `api` | list, make, read, change, remove |
//! | `secrets` | hook secrets, git credentials, the forge's token |
//! | `schedules` | pipelines by the clock |
//! | `setup` | how to set the hook up at each forge |

mod address;
mod api;
mod schedules;
mod secrets;
mod settings;
mod setup;

pub use settings::{Forks, Settings};
pub use setup::{hook_url, setup};

use super::routes::Routes;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes.with(api::routes).with(secrets::routes).with(schedules::routes)
}
