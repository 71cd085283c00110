//! What runs at an environment's targets, with the processes that an upgrade would touch: for `ci release check --env`.

use std::collections::BTreeSet;

use crate::release::check::Processes;

use super::error::Error;
use super::live;
use super::settings::Settings;
use super::target::{PATIENCE, Survey, Target};

/// One target: how it is called, and what it answered.
pub type Answer = (String, Result<(Survey, Processes), Error>);

/// Asks every target of `settings` about the release `name` and the processes of `modules`. Nothing is changed.
pub async fn ask(settings: &Settings, name: &str, modules: &BTreeSet<String>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for address in &settings.targets {
        let directory = settings.directory_of(address, name);
        let answer = one(&address.destination, &directory, name, modules).await;
        answers.push((super::query::shown(settings, &address.destination, &directory), answer));
    }
    answers
}

async fn one(
    destination: &str,
    directory: &str,
    name: &str,
    modules: &BTreeSet<String>,
) -> Result<(Survey, Processes), Error> {
    let target = Target::connect(destination, directory, name).await?;
    let asked = async {
        let survey = target.survey(PATIENCE).await?;
        let processes = match survey.installed.running() {
            Some(_) if !modules.is_empty() => live::ask(&target, modules).await?.processes(),
            _ => Processes::default(),
        };
        Ok((survey, processes))
    };
    let answer = asked.await;
    target.close().await;
    answer
}
