//! The exchange of one version for another: stop, switch the files, start; and back again when that fails.

use super::apply::{Apply, Care};
use super::error::Error;
use super::target::Survey;

impl Apply<'_> {
    /// Stops what runs and starts the candidate in its place. `before` is a query made under the lock.
    ///
    /// # Errors
    /// The candidate does not start, is not what the package holds, or is not healthy: then the old version
    /// was started again, unless the message says otherwise.
    pub async fn restart(self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        let _ = (before, care);
        Err(Error::refused("a restart is not built yet"))
    }
}
