//! What stands between a release and an environment.

use std::path::Path;

use crate::deploy::{DeployFile, Environment};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::{Entry, Fact, Ledger, Override, standing};

use super::approval::{self, Subject};
use super::freeze;

/// Everything that the decision needs.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// The project's environments, in order.
    pub file: &'a DeployFile,
    /// Where the file's relative paths start.
    pub root: &'a Path,
    /// What happened so far.
    pub entries: &'a [Entry],
    /// The time now.
    pub now: jiff::Timestamp,
}

/// What the gate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The content that may go on: what arrived in the environment before, else what was built last.
    pub content: Option<String>,
    /// Every reason to refuse, and what to do about it.
    pub refusals: Vec<(String, String)>,
    /// How many people still have to agree.
    pub missing: usize,
}

impl Gate<'_> {
    /// The settings of an environment.
    ///
    /// # Errors
    /// There is no such environment.
    pub fn settings(&self, environment: &str) -> CliResult<&Environment> {
        self.file.environments.get(environment).ok_or_else(|| {
            let known: Vec<&str> = self.file.environments.keys().map(String::as_str).collect();
            CliError::usage(format!("`{}` has no environment `{environment}`", DeployFile::PATH))
                .hint(format!("it has `{}`", known.join("`, `")))
        })
    }

    /// The environment that a release goes through before this one.
    pub fn before(&self, environment: &str) -> Option<&str> {
        let at = self.file.environments.get_index_of(environment)?;
        self.file.environments.get_index(at.checked_sub(1)?).map(|(name, _)| name.as_str())
    }

    /// Judges whether `version` may go to `environment`.
    ///
    /// # Errors
    /// The settings can't be read.
    pub fn judge(&self, environment: &str, version: &str) -> CliResult<Verdict> {
        let settings = self.settings(environment)?;
        let mut verdict = self.judge_agreed(environment, version)?;
        if settings.approvals.count > 0 {
            let people = self.agreed(environment, settings, version, verdict.content.as_deref())?;
            let missing = (settings.approvals.count as usize).saturating_sub(people.len());
            verdict.missing = missing;
            if missing > 0 {
                let of = match &settings.approvals.from[..] {
                    [] => String::new(),
                    from => format!(" of `{}`", from.join("`, `")),
                };
                verdict.refusals.push((
                    format!(
                        "`{version}` for `{environment}` has {} of {} approvals{of}",
                        people.len(),
                        settings.approvals.count
                    ),
                    format!("ask for `ci approve {version} --to {environment}`"),
                ));
            }
        }
        Ok(verdict)
    }

    /// As [`Gate::judge`] where people have agreed elsewhere: on the server.
    ///
    /// # Errors
    /// The settings can't be read.
    pub fn judge_agreed(&self, environment: &str, version: &str) -> CliResult<Verdict> {
        self.settings(environment)?;
        let mut verdict =
            Verdict { content: self.content(environment, version), refusals: Vec::new(), missing: 0 };
        if let Some(before) = self.before(environment)
            && standing::arrived(self.entries, before, version).is_none()
        {
            verdict.refusals.push((
                format!("`{version}` has not succeeded in `{before}`, which comes before `{environment}`"),
                format!("bring it there first (`ci promote {version} --to {before}`, or import its receipt: `ci receipt import`)"),
            ));
        }
        verdict.refusals.extend(self.standing(environment, version)?);
        Ok(verdict)
    }

    /// Judges whether `version` may be built and deployed to `environment`, without a look at what came before: its
    /// content is not known yet, so nobody can have agreed to it.
    ///
    /// # Errors
    /// The settings can't be read.
    pub fn admit(&self, environment: &str, version: &str) -> CliResult<Verdict> {
        let needs = self.settings(environment)?.approvals.count;
        let mut verdict =
            Verdict { content: None, refusals: self.standing(environment, version)?, missing: 0 };
        if needs > 0 {
            verdict.refusals.push((
                format!("`{environment}` needs {needs} approvals, which are given to a release that exists"),
                format!(
                    "`ci promote {version} --to {environment}` puts the very release there that was approved"
                ),
            ));
        }
        Ok(verdict)
    }

    /// Bad marks and freezes.
    fn standing(&self, environment: &str, version: &str) -> CliResult<Vec<(String, String)>> {
        let mut refusals = Vec::new();
        if let Some(mark) = standing::bad(self.entries, environment, version) {
            refusals.push((
                format!("`{version}` failed there before and is marked bad for `{environment}`: {}", mark.reason),
                format!("release the next version; or, if the reason is gone, `ci env clear {environment} {version} --reason WHY`"),
            ));
        }
        if let Some(window) = freeze::frozen(&self.settings(environment)?.freeze, self.now)? {
            let reason =
                if window.reason.is_empty() { String::new() } else { format!(" ({})", window.reason) };
            refusals.push((
                format!("`{environment}` is frozen from {} until {}{reason}", window.from, window.until),
                "wait until then".to_owned(),
            ));
        }
        Ok(refusals)
    }

    /// The release that would go to `environment`: what arrived in the environment before, else what was built last.
    pub fn content(&self, environment: &str, version: &str) -> Option<String> {
        let arrived = self.before(environment).and_then(|e| standing::arrived(self.entries, e, version));
        let built =
            || standing::releases(self.entries, version).next().map(|released| released.content.clone());
        arrived.filter(|content| !content.is_empty()).map(str::to_owned).or_else(built)
    }

    fn agreed(
        &self,
        environment: &str,
        settings: &Environment,
        version: &str,
        content: Option<&str>,
    ) -> CliResult<std::collections::BTreeSet<String>> {
        let Some(content) = content else { return Ok(std::collections::BTreeSet::new()) };
        let subject = Subject { version, content, environment, settings };
        let approvals: Vec<_> = standing::approvals(self.entries, environment, content).collect();
        let released = standing::releases(self.entries, version).find(|released| released.content == content);
        let author = released.map_or("", |released| released.author.as_str());
        approval::agreed(self.file, self.root, &subject, &approvals, author)
    }
}

impl Verdict {
    /// Lets pass what nothing speaks against; with a reason also what something does, which is recorded.
    ///
    /// # Errors
    /// Refused, with every reason; or the ledger can't be written.
    pub fn enforce(
        &self,
        ledger: &Ledger,
        environment: &str,
        version: &str,
        reason: Option<&str>,
    ) -> CliResult {
        if self.refusals.is_empty() {
            return Ok(());
        }
        let refusals: Vec<String> = self.refusals.iter().map(|(what, _)| what.clone()).collect();
        if let Some(reason) = reason {
            if reason.trim().is_empty() {
                return Err(CliError::usage("`--override` needs a reason"));
            }
            ledger.append(Fact::Override(Override {
                environment: environment.to_owned(),
                version: version.to_owned(),
                refusals,
                reason: reason.to_owned(),
            }))?;
            return Ok(());
        }
        let mut error = CliError::new(ErrorKind::Refused, refusals.join("; "));
        error.hints.extend(self.refusals.iter().map(|(_, help)| help.clone()));
        Err(error.hint("or set it aside with `--override REASON`, which is recorded"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Arrival, Ended, Mark, Released, entries};

    fn file() -> DeployFile {
        serde_yaml::from_str(
            "environments:\n  dev: {}\n  sit: {}\n  prod: {freeze: [{from: 'Sat 00:00', until: 'Mon 00:00'}], approvals: {count: 1}}\n",
        )
        .unwrap()
    }

    fn refusals(facts: Vec<Fact>, environment: &str, now: &str) -> Vec<String> {
        let (file, entries) = (file(), entries(facts));
        let gate = Gate { file: &file, root: Path::new("."), entries: &entries, now: now.parse().unwrap() };
        gate.judge(environment, "2").unwrap().refusals.into_iter().map(|(what, _)| what).collect()
    }

    const TUESDAY: &str = "2026-11-24T12:00:00Z";

    fn arrived(environment: &str) -> Fact {
        Fact::Deployment(Arrival {
            environment: environment.into(),
            version: "2".into(),
            content: "c".into(),
            outcome: Ended::Done,
            ..Arrival::default()
        })
    }

    #[test]
    fn the_first_environment_needs_nothing_and_none_is_skipped() {
        assert_eq!(refusals(vec![], "dev", TUESDAY), Vec::<String>::new());
        assert!(refusals(vec![], "sit", TUESDAY)[0].contains("has not succeeded in `dev`"));
        assert_eq!(refusals(vec![arrived("dev")], "sit", TUESDAY), Vec::<String>::new());
        assert!(refusals(vec![arrived("dev")], "prod", TUESDAY)[0].contains("`sit`"));
    }

    #[test]
    fn bad_marks_freezes_and_missing_approvals_all_refuse() {
        let bad = Mark { environment: "prod".into(), version: "2".into(), reason: "leaks".into() };
        let found = refusals(vec![arrived("sit"), Fact::Bad(bad)], "prod", "2026-11-22T12:00:00Z");
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("leaks") && found[1].contains("frozen") && found[2].contains("0 of 1"));
        let approval = refusals(vec![arrived("sit")], "prod", TUESDAY);
        assert_eq!(approval.len(), 1, "{approval:?}");
    }

    #[test]
    fn what_arrived_before_is_what_goes_on() {
        let built = Released { version: "2".into(), content: "newer".into(), ..Released::default() };
        let (file, entries) = (file(), entries(vec![arrived("dev"), Fact::Release(built)]));
        let now = TUESDAY.parse().unwrap();
        let gate = Gate { file: &file, root: Path::new("."), entries: &entries, now };
        assert_eq!(gate.judge("sit", "2").unwrap().content.as_deref(), Some("c"));
        assert_eq!(gate.judge("dev", "2").unwrap().content.as_deref(), Some("newer"));
        assert!(gate.judge("qa", "2").is_err());
    }
}
