//! The rehearsal that an environment may demand before a hot upgrade (`strategy: {rehearse: …}`).

use std::time::Duration;

use crate::ledger::Rehearsed;
use crate::release::Package;
use crate::release::rehearse::{self, Request};

use super::error::Error;
use super::file::Rehearse;
use super::packages::Built;
use super::steps::Steps;

/// For the copy to start, and for each way.
const LIMIT: Duration = Duration::from_secs(120);

/// Plays an upgrade through on a copy on this machine. That it is not fit is an answer.
///
/// # Errors
/// It can't be rehearsed; says why.
pub(super) async fn play(built: &Built, wanted: &Rehearse, steps: &mut Steps) -> Result<Rehearsed, String> {
    let read = |path| Package::read(path).map_err(|error| format!("it can't be rehearsed: {error}"));
    let version = &built.candidate.version;
    let Some(old) = &built.pair.0 else {
        return Err(format!(
            "the upgrade to `{version}` can't be rehearsed: no whole package of the old version is at hand"
        ));
    };
    let (old, new) = (read(old)?, read(&built.pair.1)?);
    let (setup, check) = (wanted.setup.as_deref(), wanted.check.as_deref());
    let request = Request { old: &old, new: &new, setup, check, limit: LIMIT };
    let step = format!("rehearse the upgrade from {} to {version} on a copy", old.rel.version);
    let mut rehearsed = None;
    let work = async {
        let played = rehearse::rehearse(request, &|_, _| {}).await;
        let played = played.map_err(|error| Error::failed(format!("it can't be rehearsed: {error}")))?;
        let fit = played.fit;
        rehearsed = Some(Rehearsed::of(&played, &new));
        if fit { Ok(()) } else { Err(Error::failed("not fit")) }
    };
    let result = steps.take(step, work).await;
    match (rehearsed, result) {
        (Some(rehearsed), _) => Ok(rehearsed),
        (None, Err(error)) => Err(error.message),
        (None, Ok(())) => Err("the rehearsal has no outcome".to_owned()),
    }
}
