//! The hot upgrade of a running node, and what to make of its failures.

use std::time::Duration;

use crate::release::decide::{Candidate, stale_modules};
use crate::release::installed::{Installed, Snapshot};

use super::apply::{Apply, Care, LIMIT, state_in_words};
use super::detached::{self, Finished};
use super::error::Error;
use super::target::{PATIENCE, Survey};

/// The script's own calls to the node end after 300 s.
const UPGRADE_LIMIT: Duration = Duration::from_secs(330);
/// A node that restarted its applications needs a while until it answers.
const RESTART_LIMIT: Duration = Duration::from_secs(90);

const TIDY: &str = r#"rm -f "$T/releases/$N-$V.tar.gz""#;

impl Apply<'_> {
    /// Upgrades the node from `from`. `before` is a query made under the lock.
    ///
    /// # Errors
    /// Each says what serves now: the old version untouched, the old version restarted, or something else.
    pub async fn hot(mut self, from: &str, before: &Survey, care: &Care) -> Result<Survey, Error> {
        let _ = care;
        let node = match &before.evidence.snapshot {
            Some(node) if before.installed.running() == Some(from) => node.clone(),
            _ => {
                return Err(Error::refused(format!(
                    "expected `{from}` to run, but {}",
                    state_in_words(&before.installed)
                ))
                .help("deploy again without `OLD_VSN`, so that the target is asked first"));
            }
        };
        self.clean(before).await?;
        self.upload(&before.evidence)
            .await
            .map_err(|error| error.and(&format!("`{from}` still serves, untouched")))?;
        let finished = self.upgrade().await?;
        let after = match finished.code {
            Some(0) => self.target.survey(PATIENCE).await?,
            _ => self.after_failure(&finished, from, &node).await?,
        };
        self.finish(&node, after).await
    }

    /// Makes the candidate permanent, which runs already.
    ///
    /// # Errors
    /// The node did not make it permanent.
    pub async fn commit(mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        let _ = care;
        let Some(node) = before.evidence.snapshot.clone() else {
            return Err(Error::refused(format!(
                "the target changed since it was asked; {}",
                state_in_words(&before.installed)
            )));
        };
        let finished = self.upgrade().await?;
        let after = self.target.survey(PATIENCE).await?;
        if finished.code != Some(0) {
            return Err(Error::failed(format!(
                "making `{}` permanent failed: {}",
                self.candidate.version,
                gist(&finished)
            ))
            .and(&state_in_words(&after.installed)));
        }
        self.finish(&node, after).await
    }

    async fn upgrade(&mut self) -> Result<Finished, Error> {
        let Self { target, candidate, steps, .. } = self;
        let mut ended = None;
        let work = async {
            let finished = detached::run(target, "upgrade", &candidate.version, UPGRADE_LIMIT).await?;
            let succeeded = finished.code == Some(0);
            ended = Some(finished);
            if succeeded { Ok(()) } else { Err(Error::failed("")) }
        };
        let result = steps.take(format!("bin/{} upgrade {}", candidate.name, candidate.version), work).await;
        match (ended, result) {
            (Some(finished), _) => Ok(finished),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::failed("the upgrade has no outcome")),
        }
    }

    /// Finds out what an upgrade that failed has left, and mends what can be mended. `Ok` when the candidate
    /// runs all the same.
    async fn after_failure(
        &mut self,
        finished: &Finished,
        from: &str,
        node: &Snapshot,
    ) -> Result<Survey, Error> {
        let version = self.candidate.version.clone();
        let what = format!("`{version}` was not installed: {} ({})", meaning(finished.code), gist(finished));
        let Self { target, steps, .. } = self;
        let survey = steps.take("look what the failure has left", target.settled(RESTART_LIMIT)).await?;
        match &survey.installed {
            Installed::Running { version: running } if *running == version => Ok(survey),
            // the installing side died between "current" and "permanent": asking again finishes it
            Installed::Current { version: running, .. } if *running == version => {
                self.upgrade().await?;
                self.target.survey(PATIENCE).await
            }
            Installed::Running { version: running } if running == from => {
                self.clean(&survey).await?;
                let boot = survey.evidence.snapshot.as_ref().map(|snapshot| &snapshot.boot);
                if boot == Some(&node.boot) {
                    return Err(Error::failed(format!("{what}; `{from}` still serves, untouched"))
                        .help(advice(finished, from)));
                }
                Err(Error::restarted(format!(
                    "{what}; the failure came after the point of no return, so the node restarted: `{from}` serves again, the state of its processes is lost"
                ))
                .help(advice(finished, from)))
            }
            Installed::Stopped { .. } => {
                let started = self.start().await;
                let then = match &started {
                    Ok(survey) => format!(
                        "the node had ended and was started again: {}; the state of its processes is lost",
                        state_in_words(&survey.installed)
                    ),
                    Err(error) => format!("the node has ended, and starting it again failed too: {error}"),
                };
                Err(Error::restarted(format!("{what}; {then}")).help(advice(finished, from)))
            }
            other => Err(Error::restarted(format!("{what}; {}", state_in_words(other)))
                .help("look at the target with `ci release status` before anything else is done there")),
        }
    }

    async fn finish(&mut self, node: &Snapshot, after: Survey) -> Result<Survey, Error> {
        let Self { target, candidate, steps, .. } = self;
        let tidy = target.script(TIDY).set("V", &candidate.version);
        steps
            .take(format!("verify that `{}` runs", candidate.version), async {
                verify(node, &after, candidate)
            })
            .await?;
        target.demand(&tidy, "removing the package", LIMIT).await?;
        Ok(after)
    }
}

/// The version is permanent, the node has not restarted, and the loaded code is the package's.
fn verify(node: &Snapshot, after: &Survey, candidate: &Candidate) -> Result<(), Error> {
    let version = &candidate.version;
    let wrong = |what: String| {
        Error::restarted(format!("the upgrade to `{version}` ended without an error, but {what}"))
    };
    let look =
        "look at the target with `ci release status`, then restart the release there if that is acceptable";
    let Some(snapshot) = after.evidence.snapshot.as_ref() else {
        return Err(wrong(after.installed.to_string()).help(look));
    };
    if after.installed != (Installed::Running { version: version.clone() }) {
        return Err(wrong(format!("afterwards: {}", after.installed)).help(look));
    }
    if snapshot.boot != node.boot {
        return Err(wrong("the node restarted on the way: the state of its processes is lost".to_owned())
            .help("see log/ on the target for the reason"));
    }
    let stale = stale_modules(snapshot, candidate);
    if !stale.is_empty() {
        return Err(wrong(format!("these modules still run other code than the package has: `{}`", stale.join("`, `")))
            .help("the relup does not load them; a restart of the node would. Complete the appup and release the next version"));
    }
    Ok(())
}

/// What the exit codes of the release's script mean (relx, `install_upgrade.escript`).
fn meaning(code: Option<i32>) -> &'static str {
    match code {
        Some(1) => "the node did not answer the release's script",
        Some(2) => "the target could not unpack the package",
        Some(3) => "the node refused it before changing anything",
        Some(4) => "the node failed while installing it",
        Some(127) => "the release's script crashed",
        Some(_) => "the release's script ended abnormally",
        None => "the release's script was killed or took too long",
    }
}

/// What the script said from the first telling line on: the term that follows spans lines.
fn gist(finished: &Finished) -> String {
    let telling = ["ERROR", "failed", "exception", "not running", "unable"];
    let lines: Vec<&str> = finished.output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let first = lines.iter().position(|line| telling.iter().any(|word| line.contains(word))).unwrap_or(0);
    let said: String = lines[first..].join(" ").chars().take(500).collect();
    match finished.code {
        Some(code) => format!("exit code {code}: {said}"),
        None => said,
    }
}

fn advice(finished: &Finished, from: &str) -> String {
    let said = &finished.output;
    if said.contains("code_change_failed") {
        "mend `code_change/3` of the process that is named; rehearse it with the state that the old version really has".to_owned()
    } else if said.contains("no_matching_relup") || said.contains("relup\"}") {
        format!("the package has no relup from `{from}`: build it with `OLD_VSN={from}` or without OLD_VSN")
    } else if said.contains("old processes") {
        "a process still runs the code before last; deploy again when it has ended".to_owned()
    } else {
        "mend what is named, then deploy again; nothing of the failed attempt was left on the target"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_line_is_found_in_the_noise() {
        let output = "Release 0.2.0 not found, attempting to unpack releases/urf-0.2.0.tar.gz\nUnpacked successfully: \"0.2.0\"\n\
            ERROR: release_handler:install_release failed: {code_change_failed,<9200.275.0>,\n   urf_store}\n";
        let finished = Finished { code: Some(4), output: output.into() };
        assert_eq!(
            gist(&finished),
            "exit code 4: ERROR: release_handler:install_release failed: {code_change_failed,<9200.275.0>, urf_store}"
        );
        assert!(advice(&finished, "0.1.0").contains("code_change/3"));
    }
}
