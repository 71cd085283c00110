//! Going back to a version that was there before.

use std::time::Duration;

use crate::release::installed::{Evidence, Installed, Snapshot};
use crate::release::{hops, lineage};

use super::apply::{Care, state_in_words};
use super::error::Error;
use super::ssh::ANSWER_LIMIT;
use super::steps::Steps;
use super::target::{PATIENCE, Survey, Target};
use super::{bad, detached, health, lock};

const DOWNGRADE_LIMIT: Duration = Duration::from_secs(330);

const STAYS: &str = r#"
file=$T/releases/$V/.replaced
was=$(sed 's/ passing$//' "$file") && printf '%s\n' "$was" >"$file"
"#;

/// A target that went back.
pub struct Return {
    /// The version that was left, now marked bad there.
    pub left: String,
    /// What is there now.
    pub survey: Survey,
    /// Whether that is well.
    pub well: Result<(), Error>,
}

impl Return {
    /// What is there now, if it is well.
    ///
    /// # Errors
    /// It is not.
    pub fn whole(self) -> Result<Survey, Error> {
        self.well.map(|()| self.survey)
    }
}

/// Where to, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim<'a> {
    /// The version; `None`: the one before the one that runs.
    pub(crate) to: Option<&'a str>,
    /// Ends the sentence that marks what is left behind.
    pub(crate) why: &'a str,
}

/// Goes back to `to`, or else to the version that served before the one that runs was deployed: by relups where they
/// lead there, over other versions if need be, else by a restart. Takes the lock itself and gives it back; what is left behind is marked bad.
///
/// # Errors
/// There is no such version on the target; neither way works: says what serves.
pub async fn back(
    target: &mut Target,
    steps: &mut Steps,
    to: Option<&str>,
    care: &Care,
) -> Result<Return, Error> {
    back_because(target, steps, Aim { to, why: "by hand" }, care).await
}

/// The same, with all that there is to say about it.
pub(crate) async fn back_because(
    target: &mut Target,
    steps: &mut Steps,
    aim: Aim<'_>,
    care: &Care,
) -> Result<Return, Error> {
    lock::take(target, steps, aim.to.unwrap_or("the version before")).await?;
    let result = go(target, steps, aim, care).await;
    if let Err(error) = lock::release(target).await {
        steps.note(&format!("warning: {error}"));
    }
    result
}

async fn go(target: &mut Target, steps: &mut Steps, aim: Aim<'_>, care: &Care) -> Result<Return, Error> {
    let Aim { to, why } = aim;
    let survey = steps.take("query, under the lock", target.survey(PATIENCE)).await?;
    let before = target.recover(&survey).await?;
    steps.note(&format!("found: {}", before.installed));
    let now = match &before.installed {
        Installed::Running { version } | Installed::Current { version, .. } => version.clone(),
        other => {
            return Err(Error::refused(format!(
                "only what runs is taken back, but {}",
                state_in_words(other)
            ))
            .help("deploy a version, then go back from it if need be"));
        }
    };
    let node = before.evidence.snapshot.clone().unwrap_or_default();
    let to = choose(&node, &before, to)?;
    if to == now {
        return Err(Error::refused(format!("`{to}` runs there already")));
    }
    if let Some(reason) = before.evidence.bad.get(&to) {
        return Err(Error::refused(format!("`{to}` failed there before ({reason})"))
            .help(format!("choose another with `--to VERSION`, or `ci env clear ENV {to} --reason TEXT`")));
    }
    let way = way(&before.evidence, &node, (&now, &to));
    let via = match way.split_last() {
        Some((_, via)) if !via.is_empty() => format!(" by way of `{}`", via.join("`, `")),
        _ => String::new(),
    };
    steps.note(&format!("plan: from `{now}` back to `{to}`{via}"));
    let way: Vec<&str> = way.iter().map(String::as_str).collect();
    let (after, _) = along(target, steps, &node, &way).await?;
    if before.evidence.replaced.get(&to).is_some_and(|was| was.passing) {
        // from now on it is a version that somebody wanted
        target.demand(&target.script(STAYS).set("V", &to), "noting that it stays", ANSWER_LIMIT).await?;
    }
    let why = Error::rolled_back(format!("taken back to `{to}` {why}"));
    bad::mark(target, steps, &now, &why).await;
    let boot = after.evidence.snapshot.as_ref().map(|node| &node.boot);
    let well = health::watch(target, steps, care, boot).await;
    let well = well.map_err(|error| Error::restarted(format!("`{to}` was put back and serves, but {error}")));
    Ok(Return { left: now, survey: after, well })
}

/// Versions to install one after the other, `to` last: as the relups that are there lead, none over a version that failed.
/// Without such a way, straight: the node says what is missing.
fn way(evidence: &Evidence, node: &Snapshot, (now, to): (&str, &str)) -> Vec<String> {
    let installed = |version: &String| {
        node.releases.iter().any(|release| release.version == *version && release.status != "unpacked")
    };
    let fits = |version: &String| {
        installed(version) && (version == now || version == to || !evidence.bad.contains_key(version))
    };
    let edges: Vec<_> = node.ways.iter().filter(|(from, to)| fits(from) && fits(to)).cloned().collect();
    hops::plan(now, to, &edges).unwrap_or_else(|| vec![to.to_owned()])
}

fn choose(node: &Snapshot, survey: &Survey, to: Option<&str>) -> Result<String, Error> {
    let old: Vec<&str> = node
        .releases
        .iter()
        .filter(|release| release.status == "old")
        .map(|release| release.version.as_str())
        .collect();
    let known = || match old.is_empty() {
        true => "the target has no older version: deploy the one that you want".to_owned(),
        false => format!("the target has `{}`; `--to VERSION` chooses", old.join("`, `")),
    };
    match (to, &survey.installed) {
        (Some(to), _)
            if node.releases.iter().any(|release| release.version == to && release.status != "unpacked") =>
        {
            Ok(to.to_owned())
        }
        (Some(to), _) => Err(Error::refused(format!("`{to}` is not installed there")).help(known())),
        (None, Installed::Current { permanent, .. }) => Ok(permanent.clone()),
        (None, installed) => {
            match lineage::before(&survey.evidence, node, installed.running().unwrap_or_default()) {
                Some(version) => Ok(version.to_owned()),
                None => Err(Error::refused("there is no version before the one that runs").help(known())),
            }
        }
    }
}

/// Along versions that are all there, to the last of them; `true` when the node has kept its state.
pub(crate) async fn along(
    target: &mut Target,
    steps: &mut Steps,
    node: &Snapshot,
    way: &[&str],
) -> Result<(Survey, bool), Error> {
    let mut after = None;
    for to in way {
        after = downgrade(target, steps, node, to).await?;
        if after.is_none() {
            break;
        }
    }
    match (after, way.last()) {
        (Some(survey), _) => Ok((survey, true)),
        (None, Some(to)) => Ok((restart(target, steps, to).await?, false)),
        (None, None) => Err(Error::failed("there is nowhere to go back to")),
    }
}

/// By the relup, with the state of the processes; `None` when that does not work.
async fn downgrade(
    target: &mut Target,
    steps: &mut Steps,
    node: &Snapshot,
    to: &str,
) -> Result<Option<Survey>, Error> {
    let mut said = String::new();
    let name = target.name().to_owned();
    let work = async {
        let finished = detached::command(target, "install", to, DOWNGRADE_LIMIT).await?;
        let survey = target.settled(PATIENCE).await?;
        let same = survey.evidence.snapshot.as_ref().is_some_and(|after| after.boot == node.boot);
        if same && survey.installed == (Installed::Running { version: to.to_owned() }) {
            return Ok(survey);
        }
        said = super::ssh::last_lines(&finished.output, 2);
        Err(Error::failed(""))
    };
    match steps.take(format!("bin/{name} install {to}"), work).await {
        Ok(survey) => Ok(Some(survey)),
        Err(error) if !error.message.is_empty() => Err(error),
        Err(_) => {
            steps.note(&format!("no way back while running: {said}"));
            Ok(None)
        }
    }
}

async fn restart(target: &mut Target, steps: &mut Steps, to: &str) -> Result<Survey, Error> {
    steps.take(format!("prepare `{to}`"), target.revive_version(to)).await?;
    let survey = target.survey(PATIENCE).await?;
    let pids: Vec<u32> = survey.evidence.nodes().iter().map(|process| process.pid).collect();
    let work = async {
        if let Err(finished) = target.switch(&pids).await? {
            let survey = target.survey(PATIENCE).await?;
            return Err(Error::restarted(format!(
                "`{to}` could not be put back: {}; {}",
                super::ssh::last_lines(&finished.output, 4),
                state_in_words(&survey.installed)
            )));
        }
        let survey = target.survey(PATIENCE).await?;
        if survey.installed == (Installed::Running { version: to.to_owned() }) {
            target.accept("").await?;
            return Ok(survey);
        }
        Err(Error::restarted(format!("`{to}` was started, but {}", state_in_words(&survey.installed))))
    };
    steps.take(format!("stop, start `{to}`"), work).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::installed::InstalledRelease;

    #[test]
    fn the_way_back_follows_the_relups_that_are_there_and_avoids_what_failed() {
        let release = |(version, status): (&str, &str)| InstalledRelease {
            version: version.into(),
            status: status.into(),
            ..InstalledRelease::default()
        };
        let edge = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let node = Snapshot {
            releases: [("4", "permanent"), ("3", "old"), ("2", "old"), ("1", "old"), ("5", "unpacked")]
                .map(release)
                .into(),
            ways: vec![edge("4", "3"), edge("3", "1"), edge("4", "2"), edge("2", "1"), edge("4", "5")],
            ..Snapshot::default()
        };
        let mut evidence = Evidence::default();
        assert_eq!(way(&evidence, &node, ("4", "1")), ["3", "1"]);
        assert_eq!(way(&evidence, &node, ("4", "2")), ["2"]);
        assert_eq!(way(&evidence, &node, ("3", "2")), ["2"], "no relup leads there: straight");
        evidence.bad.insert("3".to_owned(), "it failed".to_owned());
        assert_eq!(way(&evidence, &node, ("4", "1")), ["2", "1"]);
    }
}
