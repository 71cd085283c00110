//! Variables in names of images.

use super::{Subject, once};
use crate::config::JobConfig;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::source::Span;
use crate::variables::references;
use crate::yaml::Node;
use std::collections::HashSet;

/// Images whose names refer to variables that nothing defines. GitLab's own are not looked at: which exist depends
/// on the server and the runner.
pub(super) fn undefined_variables(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let dotenv = |job: &JobConfig| {
        let reports = job.work.artifacts.as_ref().and_then(|a| a.reports.as_ref());
        reports.is_some_and(|reports| reports.contains_key("dotenv"))
    };
    // such variables exist at run time only
    if subject.config.jobs.iter().any(dotenv) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for job in subject.jobs() {
        let services = job.work.services.iter().map(|service| &service.image);
        let names: Vec<&str> =
            job.work.image.iter().chain(services).map(|image| image.name.as_str()).collect();
        if !names.iter().any(|name| name.contains('$')) {
            continue;
        }
        let defined = defined(subject, job);
        for image in names {
            let foreign = |name: &&str| !name.starts_with("CI_") && !name.starts_with("GITLAB_");
            for name in references(image).filter(foreign).filter(|name| !defined.contains(name)) {
                found.push(hint(subject, job, &Use { image, name }, &defined));
            }
        }
    }
    once(found.into_iter())
}

struct Use<'a> {
    image: &'a str,
    name: &'a str,
}

fn hint(subject: &Subject<'_>, job: &JobConfig, used: &Use<'_>, defined: &HashSet<&str>) -> Diagnostic {
    let Use { image, name } = used;
    let text = format!(
        "image `{image}` of job `{}` uses the variable `{name}`, which nothing defines",
        job.base_name
    );
    let mut names: Vec<&str> = defined.iter().copied().collect();
    names.sort_unstable();
    let help = match did_you_mean(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "define `{name}` in `variables`; a variable of the project's settings belongs in `.ci/variables.yml`"
        ),
    };
    let place = place(subject, job, image).unwrap_or(job.span);
    Diagnostic::hint("undefined-variable-in-image", text).at(place, "it will be empty").help(help)
}

fn defined<'s>(subject: &'s Subject<'_>, job: &'s JobConfig) -> HashSet<&'s str> {
    let rules = subject.config.workflow.rules.iter().flatten().chain(&job.rules);
    let yaml = subject.config.variables.keys().chain(job.variables.keys()).chain(job.matrix.keys());
    let settings = subject.request.project_variables.iter().map(|variable| &variable.key);
    let request = subject.request.variables.keys().chain(subject.request.predefined.keys());
    let all = yaml.chain(rules.flat_map(|rule| rule.variables.keys())).chain(settings).chain(request);
    all.map(String::as_str).chain(["CI"]).collect()
}

/// Where the image was written: in the job, in `default`, or at the top.
fn place(subject: &Subject<'_>, job: &JobConfig, image: &str) -> Option<Span> {
    let root = subject.root.as_mapping()?;
    let maps = [root.get(&job.base_name), root.get("default"), Some(subject.root)];
    let maps = maps.into_iter().flatten().filter_map(Node::as_mapping);
    maps.flat_map(|map| ["image", "services"].into_iter().filter_map(|key| map.get(key)))
        .find_map(|node| named(node, image))
}

fn named(node: &Node, image: &str) -> Option<Span> {
    if let Some(items) = node.as_sequence() {
        return items.iter().find_map(|item| named(item, image));
    }
    let name = node.as_mapping().map_or(Some(node), |map| map.get("name"))?;
    (name.as_str() == Some(image)).then_some(name.span)
}
