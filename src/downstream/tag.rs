//! The tag of a `release` job, made in the user's repository where the settings ask for it.

use git2::{ErrorCode, Repository};
use runners::job::{RELEASE, Release};
use std::path::Path;

/// Makes the tag that the release of an attempt names; says what was done. None: the attempt made no release.
///
/// # Errors
/// The tag is elsewhere, or git refuses; says why.
pub(super) fn make_tag(repository: &Path, attempt: &Path) -> Result<Option<String>, String> {
    let Ok(text) = std::fs::read(attempt.join(RELEASE)) else { return Ok(None) };
    let release: Release = serde_json::from_slice(&text).map_err(|e| format!("reading `{RELEASE}`: {e}"))?;
    let name = &release.tag_name;
    let git = |e: git2::Error| format!("making tag `{name}`: {}", e.message());
    let repository = Repository::open(repository).map_err(git)?;
    let target = repository.revparse_single(&release.reference).map_err(git)?;
    let commit = target.peel_to_commit().map_err(git)?;
    match repository.find_reference(&format!("refs/tags/{name}")) {
        Ok(there) if there.peel_to_commit().is_ok_and(|there| there.id() == commit.id()) => {
            return Ok(Some(format!("tag {name} is there already")));
        }
        Ok(_) => return Err(format!("tag `{name}` is there already, at another commit")),
        Err(e) if e.code() == ErrorCode::NotFound => {}
        Err(e) => return Err(git(e)),
    }
    match &release.tag_message {
        Some(message) => {
            let who = repository.signature().map_err(git)?;
            repository.tag(name, commit.as_object(), &who, message, false).map_err(git)?
        }
        None => repository.tag_lightweight(name, commit.as_object(), false).map_err(git)?,
    };
    Ok(Some(format!("made tag {name} at {}; it is not pushed", &commit.id().to_string()[..8])))
}
