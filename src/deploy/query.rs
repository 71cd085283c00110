//! All targets of an environment, asked at the same time: one connection and one round trip each.

use tokio::task::JoinSet;

use crate::release::installed::Installed;

use super::error::Error;
use super::settings::Settings;
use super::steps::Steps;
use super::target::{PATIENCE, Survey, Target};

/// One target and what it answered.
pub(crate) struct Asked {
    /// The host.
    pub(crate) destination: String,
    /// The release's directory there.
    pub(crate) directory: String,
    /// The open connection and the answer; or why there is none.
    pub(crate) answer: Result<(Target, Survey), Error>,
    /// What was done.
    pub(crate) steps: Steps,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until what a deployment has begun there has ended: only then can a plan be made.
    ForPlan,
    /// Not for that: what goes on is what is shown.
    ForStatus,
}

/// Asks all targets of `settings` about the release `name`, in their order. Steps are shown by `steps`.
pub(crate) async fn all(settings: &Settings, name: &str, wait: Wait, steps: &Steps) -> Vec<Asked> {
    let mut queries = JoinSet::new();
    for (index, address) in settings.targets.iter().enumerate() {
        let (destination, directory) = (address.destination.clone(), settings.directory_of(address, name));
        let steps = match settings.targets.len() {
            1 => steps.of_only_target(),
            _ => steps.of_target(&shown(settings, &destination, &directory)),
        };
        let name = name.to_owned();
        queries.spawn(async move { (index, one(destination, directory, name, wait, steps).await) });
    }
    let mut asked = queries.join_all().await;
    asked.sort_by_key(|(index, _)| *index);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

async fn one(destination: String, directory: String, name: String, wait: Wait, mut steps: Steps) -> Asked {
    let connect = Target::connect(&destination, &directory, &name);
    let answer = match steps.take(format!("connect to {destination}"), connect).await {
        Ok(target) => match steps.take(format!("query {directory}"), survey(&target, wait)).await {
            Ok(survey) => Ok((target, survey)),
            Err(error) => {
                target.close().await;
                Err(error)
            }
        },
        Err(error) => Err(error),
    };
    Asked { destination, directory, answer, steps }
}

async fn survey(target: &Target, wait: Wait) -> Result<Survey, Error> {
    if wait == Wait::ForStatus {
        let survey = target.query().await?;
        let passing = matches!(survey.installed, Installed::Restarting | Installed::Unreachable { .. });
        if !passing || survey.evidence.busy {
            return Ok(survey);
        }
    }
    target.survey(PATIENCE).await
}

/// What a target is called among the others: its host, with the directory when the host alone is not enough.
pub(crate) fn shown(settings: &Settings, destination: &str, directory: &str) -> String {
    let same = settings.targets.iter().filter(|target| target.destination == destination).count();
    if same > 1 { format!("{destination}:{directory}") } else { destination.to_owned() }
}
