//! Versions that failed on a target stay away from it until somebody clears them with a reason.

use super::error::{Error, Outcome};
use super::ssh::ANSWER_LIMIT;
use super::steps::Steps;
use super::target::{Survey, Target};

const MARK: &str = r#"
mkdir -p "$T/.ci/bad" && printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$REASON" >"$T/.ci/bad/$V"
"#;

/// What was cleared is kept: somebody will ask.
const CLEAR: &str = r#"
[ -f "$T/.ci/bad/$V" ] || exit 5
printf '%s %s cleared: %s; it was: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$V" "$REASON" "$(cat "$T/.ci/bad/$V")" >>"$T/.ci/cleared" || exit 1
rm -f "$T/.ci/bad/$V" && rmdir "$T/.ci/bad" 2>/dev/null
true
"#;

/// Refuses a version that failed there before.
pub(crate) fn refuse(survey: &Survey, version: &str) -> Result<(), Error> {
    let Some(reason) = survey.evidence.bad.get(version) else { return Ok(()) };
    Err(Error::refused(format!("`{version}` failed there before ({reason})")).help(format!(
        "release the next version; or, if the reason lay elsewhere, `ci env clear ENV {version} --reason TEXT`"
    )))
}

/// Marks a version that failed after the node was changed. That the mark can't be written is only said.
pub(crate) async fn mark(target: &Target, steps: &mut Steps, version: &str, error: &Error) {
    if !matches!(error.outcome, Outcome::Restarted | Outcome::RolledBack) {
        return;
    }
    let reason: String = error.message.replace(char::is_control, " ").chars().take(300).collect();
    let script = target.script(MARK).set("V", version).set("REASON", &reason);
    match target.demand(&script, "marking the version as bad", ANSWER_LIMIT).await {
        Ok(_) => steps.note(&format!("`{version}` is marked bad on `{}`", target.destination())),
        Err(other) => steps.note(&format!("warning: {other}")),
    }
}

/// Lets `version` be deployed there again. `false`: it was not marked.
///
/// # Errors
/// The target can't be asked or written.
pub async fn clear(target: &Target, version: &str, reason: &str) -> Result<bool, Error> {
    if version.contains('/') || version.starts_with('.') {
        return Err(Error::refused(format!("`{version}` is no release version")));
    }
    let reason = reason.replace(char::is_control, " ");
    let script = target.script(CLEAR).set("V", version).set("REASON", &reason);
    let output = target.session().run(&script, ANSWER_LIMIT).await?;
    match output.code {
        Some(0) => Ok(true),
        Some(5) => Ok(false),
        _ => Err(Error::failed(format!(
            "clearing `{version}` on `{}` failed: {}",
            target.destination(),
            output.tail()
        ))),
    }
}
