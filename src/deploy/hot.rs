//! The hot upgrade of a running node in two phases: install, verify and watch, then make it permanent; and the way
//! back.

use std::time::Duration;

use crate::release::decide::{Candidate, stale_modules};
use crate::release::installed::{Installed, Snapshot};

use super::apply::{Apply, Care, state_in_words};
use super::detached::{self, Finished};
use super::error::Error;
use super::live::{self, Live};
use super::ssh::ANSWER_LIMIT;
use super::target::{PATIENCE, Survey};
use super::{bad, health, restart};

/// The script's own calls to the node end after 300 s.
const UPGRADE_LIMIT: Duration = Duration::from_secs(330);
/// A node that restarted its applications needs a while until it answers.
const RESTART_LIMIT: Duration = Duration::from_secs(90);

const KEEP: &str = r#"OLD=$T/releases/$FROM NEW=$T/releases/$V; keep"#;

impl Apply<'_> {
    /// Upgrades the node from `from`: installs the candidate, verifies it, watches it, and only then makes it
    /// permanent; else goes back. `before` is a query made under the lock.
    ///
    /// # Errors
    /// Each says what serves now: the old version untouched, the old version again, or something else.
    pub async fn hot(mut self, from: &str, before: &Survey, care: &Care) -> Result<Survey, Error> {
        if self.there(before) {
            return self.commit(before, care).await;
        }
        let before = self.recover(before).await?;
        bad::refuse(&before, &self.candidate.version)?;
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
        let live = self.processes().await?;
        self.clean(&before).await?;
        if let Err(error) = self.upload(&before.evidence).await {
            // whoever took the lock over may have been faster
            return Err(match self.target.query_mended().await {
                Ok(now) if now.installed == before.installed => {
                    error.and(&format!("`{from}` still serves, untouched"))
                }
                Ok(now) => error.and(&state_in_words(&now.installed)),
                Err(_) => error,
            });
        }
        let upgrade = Upgrade { from, node: &node, live, care };
        match self.install(&upgrade).await? {
            (after, true) => self.finish(&upgrade, after).await,
            (after, false) => self.make_permanent(&upgrade, &after).await,
        }
    }

    /// Makes the candidate permanent, which runs already and was not verified.
    ///
    /// # Errors
    /// It is not well, or the node did not make it permanent: then the old version is put back.
    pub async fn commit(mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        let changed = || {
            Error::refused(format!(
                "the target changed since it was asked; {}",
                state_in_words(&before.installed)
            ))
        };
        let Some(node) = before.evidence.snapshot.clone() else { return Err(changed()) };
        match &before.installed {
            Installed::Current { version, permanent } if *version == self.candidate.version => {
                let live = Live::default();
                let upgrade = Upgrade { from: permanent, node: &node, live, care };
                self.make_permanent(&upgrade, before).await
            }
            Installed::Running { version } if *version == self.candidate.version => {
                let watched = health::watch(self.target, self.steps, care, Some(&node.boot)).await;
                match (watched, node.version("old")) {
                    (Err(error), Some(old)) if before.evidence.unfinished => {
                        Err(self.put_back(old, true, error).await)
                    }
                    (watched, _) => {
                        watched?;
                        self.recover(before).await
                    }
                }
            }
            _ => Err(changed()),
        }
    }

    /// What the node's processes say against the upgrade.
    async fn processes(&mut self) -> Result<Live, Error> {
        let Self { target, steps, candidate, .. } = self;
        let ask = async {
            let live = live::ask(target, &candidate.loaded).await?;
            let reasons = live.reasons();
            if reasons.is_empty() {
                return Ok(live);
            }
            Err(Error::refused(reasons.join("; ")).help(
                "mend that and release the next version; or deploy by a restart (`strategy: {prefer: restart}`), if an outage is acceptable",
            ))
        };
        let live = steps.take("look at the node's processes", ask).await?;
        for note in live.notes() {
            steps.note(&format!("warning: {note}"));
        }
        Ok(live)
    }

    /// Unpacks and installs; `true` when the node made it permanent on the way.
    async fn install(&mut self, upgrade: &Upgrade<'_>) -> Result<(Survey, bool), Error> {
        let version = self.candidate.version.clone();
        let unpacked = self.command("unpack", &version).await?;
        if unpacked.code == Some(0) {
            let script =
                self.target.script(KEEP).using(restart::KEEP).set("FROM", upgrade.from).set("V", &version);
            let script = script.set("PASSING", if upgrade.care.passing { "yes" } else { "" });
            let output =
                self.target.demand(&script, "keeping the target's own configuration", ANSWER_LIMIT).await;
            match output {
                Ok(output) => {
                    for file in restart::kept_files(&output.stdout) {
                        self.steps.note(&restart::kept_note(&file, upgrade.from, &version));
                    }
                }
                Err(error) => {
                    let survey = self.target.survey(PATIENCE).await?;
                    self.clean(&survey).await?;
                    return Err(error.and(&format!("`{}` still serves, untouched", upgrade.from)));
                }
            }
        }
        let finished = match unpacked.code {
            Some(0) => self.command("install --no-permanent", &version).await?,
            _ => unpacked,
        };
        let after = match finished.code {
            Some(0) => self.target.survey(PATIENCE).await?,
            _ => self.after_failure(&finished, upgrade).await?,
        };
        let permanent =
            matches!(&after.installed, Installed::Running { version: running } if *running == version);
        Ok((after, permanent))
    }

    /// Runs a command of the release's script that goes on without us.
    async fn command(&mut self, command: &str, version: &str) -> Result<Finished, Error> {
        let Self { target, candidate, steps, .. } = self;
        let mut ended = None;
        let work = async {
            let finished = detached::command(target, command, version, UPGRADE_LIMIT).await?;
            let succeeded = finished.code == Some(0);
            ended = Some(finished);
            if succeeded { Ok(()) } else { Err(Error::failed("")) }
        };
        let result = steps.take(format!("bin/{} {command} {version}", candidate.name), work).await;
        match (ended, result) {
            (Some(finished), _) => Ok(finished),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::failed("the command has no outcome")),
        }
    }

    /// Verifies and watches what runs and is not permanent, and makes it so; else goes back.
    async fn make_permanent(&mut self, upgrade: &Upgrade<'_>, after: &Survey) -> Result<Survey, Error> {
        if let Err(error) = self.hold_to(upgrade, after).await {
            return Err(self.take_back(upgrade, error).await);
        }
        let version = self.candidate.version.clone();
        let finished = self.command("install", &version).await?;
        let after = self.target.survey(PATIENCE).await?;
        if finished.code != Some(0) && after.installed != (Installed::Running { version: version.clone() }) {
            let error = Error::failed(format!("making `{version}` permanent failed: {}", gist(&finished)));
            return Err(self.take_back(upgrade, error).await);
        }
        self.finish(upgrade, after).await
    }

    async fn hold_to(&mut self, upgrade: &Upgrade<'_>, after: &Survey) -> Result<(), Error> {
        let Self { target, candidate, steps, .. } = self;
        let mut lingering = Vec::new();
        let work = async {
            verify(upgrade.node, after, candidate)?;
            let live = live::ask(target, &candidate.loaded).await?;
            lingering = live.lingering;
            let missing: Vec<&str> =
                live.missing.difference(&upgrade.live.missing).map(String::as_str).collect();
            if missing.is_empty() || candidate.modules.is_empty() {
                return Ok(());
            }
            Err(Error::failed(format!(
                "these children were not started: {} (the appup needs an `apply` of `supervisor:restart_child`)",
                missing.join(", ")
            )))
        };
        steps.take(format!("verify that `{}` runs", candidate.version), work).await?;
        if !lingering.is_empty() {
            steps.note(&format!(
                "warning: these processes still run old code, and end when the version is made permanent: {}",
                lingering.join(", ")
            ));
        }
        health::watch(target, steps, upgrade.care, Some(&upgrade.node.boot)).await
    }

    /// Goes back from a version that was installed and found wanting. The error says what serves now.
    async fn take_back(&mut self, upgrade: &Upgrade<'_>, why: Error) -> Error {
        let error = match self.return_to(upgrade).await {
            Ok(true) => Error::rolled_back(format!(
                "{}; the upgrade was taken back: `{}` serves again, with the state of its processes",
                why.message, upgrade.from
            )),
            Ok(false) => Error::rolled_back(format!(
                "{}; the node restarted: `{}` serves again, the state of its processes is lost",
                why.message, upgrade.from
            )),
            Err(other) => Error::restarted(format!(
                "{}; going back to `{}` failed too: {other}",
                why.message, upgrade.from
            )),
        };
        let error = error.help(why.help.unwrap_or_else(|| {
            format!("`{}` has to be mended; release the next version", self.candidate.version)
        }));
        bad::mark(self.target, self.steps, &self.candidate.version, &error).await;
        error
    }

    /// Back to the version before, by its relup, else by a restart. `true`: in the same boot.
    async fn return_to(&mut self, upgrade: &Upgrade<'_>) -> Result<bool, Error> {
        let from = upgrade.from;
        let survey = self.target.settled(RESTART_LIMIT).await?;
        let back = |survey: &Survey| survey.installed == Installed::Running { version: from.to_owned() };
        let same = |survey: &Survey| {
            survey.evidence.snapshot.as_ref().is_some_and(|node| node.boot == upgrade.node.boot)
        };
        let mut after = survey;
        if !back(&after) && after.evidence.snapshot.is_some() {
            // for the version that is permanent still, this makes no difference to the files
            self.command("install", from).await?;
            after = self.target.settled(RESTART_LIMIT).await?;
        }
        if !back(&after) {
            let Self { target, steps, .. } = self;
            let restart = async {
                let finished = target.restart_node().await?;
                let survey = target.survey(PATIENCE).await?;
                if survey.installed == (Installed::Running { version: from.to_owned() }) {
                    return Ok(survey);
                }
                Err(Error::failed(format!(
                    "{} ({})",
                    state_in_words(&survey.installed),
                    super::ssh::last_lines(&finished.output, 3)
                )))
            };
            after = steps.take(format!("restart into `{from}`"), restart).await?;
        }
        self.clean(&after).await?;
        Ok(same(&after))
    }

    /// Finds out what an upgrade that failed has left, and mends what can be mended. `Ok` when the candidate
    /// runs all the same.
    async fn after_failure(&mut self, finished: &Finished, upgrade: &Upgrade<'_>) -> Result<Survey, Error> {
        let (version, from) = (self.candidate.version.clone(), upgrade.from);
        let what = format!("`{version}` was not installed: {} ({})", meaning(finished.code), gist(finished));
        let Self { target, steps, .. } = self;
        let survey = steps.take("look what the failure has left", target.settled(RESTART_LIMIT)).await?;
        // the installing side may have died after its work was done
        if survey.installed.running() == Some(&version) {
            return Ok(survey);
        }
        let boot = survey.evidence.snapshot.as_ref().map(|snapshot| &snapshot.boot);
        if survey.installed.running() == Some(from) && boot == Some(&upgrade.node.boot) {
            self.clean(&survey).await?;
            return Err(Error::failed(format!("{what}; `{from}` still serves, untouched"))
                .help(advice(finished, from)));
        }
        let error = Error::failed(format!("{what}; the failure came after the point of no return"));
        Err(self.take_back(upgrade, error.help(advice(finished, from))).await)
    }

    /// The version is permanent: whether the target's files agree, and what is not needed any more.
    async fn finish(&mut self, upgrade: &Upgrade<'_>, after: Survey) -> Result<Survey, Error> {
        let Self { target, candidate, steps, .. } = self;
        let version = candidate.version.clone();
        let agree = async {
            verify(upgrade.node, &after, candidate)?;
            match &after.installed {
                Installed::Running { version: running } if *running == version => Ok(()),
                other => Err(Error::failed(format!("`{version}` was made permanent, but {other}"))),
            }
        };
        if let Err(error) = steps.take(format!("verify that the next boot is `{version}`"), agree).await {
            return Err(self.take_back(upgrade, error).await);
        }
        target.accept(&version).await?;
        self.prune(&after, upgrade.care).await;
        Ok(after)
    }
}

/// A hot upgrade under way.
struct Upgrade<'a> {
    from: &'a str,
    /// The node before.
    node: &'a Snapshot,
    /// Its processes before.
    live: Live,
    care: &'a Care,
}

/// The version runs, the node has not restarted, and the loaded code is the package's.
fn verify(node: &Snapshot, after: &Survey, candidate: &Candidate) -> Result<(), Error> {
    let version = &candidate.version;
    let wrong = |what: String| {
        Error::failed(format!("the upgrade to `{version}` ended without an error, but {what}"))
    };
    let Some(snapshot) = after.evidence.snapshot.as_ref() else {
        return Err(wrong(after.installed.to_string()));
    };
    if snapshot.boot != node.boot {
        return Err(
            wrong("the node restarted on the way".to_owned()).help("see log/ on the target for the reason")
        );
    }
    if snapshot.running() != Some(version) {
        return Err(wrong(format!("afterwards: {}", after.installed)));
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
