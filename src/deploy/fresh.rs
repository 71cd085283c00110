//! A fresh install: the exchange of versions with nothing to stop.

use crate::release::installed::Installed;

use super::apply::{Apply, Care, state_in_words};
use super::error::Error;
use super::target::Survey;

impl Apply<'_> {
    /// Installs and starts the candidate where nothing of the release runs. `before` is a query made under
    /// the lock.
    ///
    /// # Errors
    /// Something runs there after all; the package does not arrive or unpack; the release does not start or is not
    /// healthy: then what was there before is there again.
    pub async fn fresh(mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        if self.there(before) {
            return self.commit(before, care).await;
        }
        let before = self.recover(before).await?;
        if matches!(before.installed, Installed::Absent | Installed::Stopped { .. }) {
            return self.replace(&before, care).await;
        }
        Err(Error::refused(format!("expected that nothing runs, but {}", state_in_words(&before.installed)))
            .help("deploy again without `OLD_VSN`, so that the target is asked first"))
    }
}
