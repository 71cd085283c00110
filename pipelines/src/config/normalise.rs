//! From jobs as in the YAML to job instances: `parallel` is expanded, `needs` and `dependencies` are fanned out.

use super::check::Findings;
use super::job::Draft;
use super::needs::{JobNeed, Needs};
use super::parallel::Parallel;
use super::types::{JobConfig, NeedConfig};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::matrix::{self, Combination};
use crate::plan::{Instance, Need};
use indexmap::IndexMap;
use std::collections::HashMap;

/// Instances of each parallel job, by the job's name in the YAML.
type Instances = HashMap<String, Vec<JobInstance>>;

/// Needs and dependencies of all instances together: parallel jobs that need parallel jobs multiply.
const MOST_NAMES: usize = 1_000_000;

struct JobInstance {
    name: String,
    variables: IndexMap<String, String>,
    position: Instance,
}

/// All instances in configuration order. Of two with one name the later replaces the earlier, in its place.
pub(super) fn normalise(drafts: Vec<Draft>, findings: &mut Findings<'_>) -> IndexMap<String, JobConfig> {
    let instances: Instances = drafts
        .iter()
        .filter_map(|d| Some((d.config.name.clone(), expand(&d.config.name, d.parallel.as_ref()?))))
        .collect();
    let mut jobs = IndexMap::with_capacity(drafts.len());
    let mut names = 0;
    for mut draft in drafts {
        let span = draft.config.span;
        draft.config.work.pipeline_needs =
            draft.needs.as_ref().map_or_else(Vec::new, |n| n.pipelines.clone());
        draft.config.work.project_needs = draft.needs.as_ref().map_or_else(Vec::new, |n| n.projects.clone());
        draft.config.dependencies = draft.config.dependencies.map(|names| fan_out_names(names, &instances));
        match instances.get(&draft.config.name) {
            None => {
                draft.config.needs = draft.needs.as_ref().map(|n| fan_out(&n.jobs, n, &instances));
                names += names_in(&draft.config);
                jobs.insert(draft.config.name.clone(), draft.config);
            }
            Some(all) => {
                for instance in all {
                    let copy = copy(&draft, instance, &instances, findings);
                    names += names_in(&copy);
                    if names > MOST_NAMES {
                        break;
                    }
                    jobs.insert(instance.name.clone(), copy);
                }
            }
        }
        if names > MOST_NAMES {
            let text = "The parsed YAML is too big";
            let help = "all jobs together may need a million others, each of a parallel job counted";
            findings.push(Diagnostic::error("yaml-too-big", text).at(span, "").help(help));
            break;
        }
    }
    jobs
}

fn expand(name: &str, parallel: &Parallel) -> Vec<JobInstance> {
    let named: Vec<(String, IndexMap<String, String>)> = match parallel {
        Parallel::Number(total) => {
            (1..=*total).map(|i| (format!("{name} {i}/{total}"), IndexMap::new())).collect()
        }
        Parallel::Matrix(entries) => {
            matrix::product(entries).into_iter().map(|row| (matrix::name(name, &row), row)).collect()
        }
    };
    let total = u32::try_from(named.len()).unwrap_or(u32::MAX);
    let position = |index| Instance { index, total };
    let instance = |(index, (name, variables))| JobInstance { name, variables, position: position(index) };
    (1..).zip(named).map(instance).collect()
}

fn fan_out_names(names: Vec<String>, instances: &Instances) -> Vec<String> {
    let all = |name: String| match instances.get(&name) {
        Some(all) => all.iter().map(|i| i.name.clone()).collect(),
        None => vec![name],
    };
    names.into_iter().flat_map(all).take(MOST_NAMES + 1).collect()
}

fn names_in(config: &JobConfig) -> usize {
    config.needs.as_ref().map_or(0, Vec::len) + config.dependencies.as_ref().map_or(0, Vec::len)
}

fn fan_out(jobs: &[JobNeed], needs: &Needs, instances: &Instances) -> Vec<NeedConfig> {
    let mut all = Vec::with_capacity(jobs.len());
    for JobNeed { need, matrix } in jobs {
        let names: Vec<String> = match (instances.get(&need.job), matrix) {
            (None, _) => vec![need.job.clone()],
            (Some(every), None) => every.iter().map(|i| i.name.clone()).collect(),
            (Some(_), Some(entries)) => {
                matrix::product(entries).iter().map(|i| matrix::name(&need.job, i)).collect()
            }
        };
        all.extend(names.into_iter().map(|job| NeedConfig::Job(Need { job, ..need.clone() })));
        if all.len() > MOST_NAMES {
            break;
        }
    }
    all.extend(needs.elsewhere.iter().cloned());
    all
}

fn copy(
    draft: &Draft,
    instance: &JobInstance,
    instances: &Instances,
    findings: &mut Findings<'_>,
) -> JobConfig {
    let mut copy = draft.config.clone();
    copy.name.clone_from(&instance.name);
    copy.matrix.clone_from(&instance.variables);
    copy.work.parallel = Some(instance.position);
    copy.needs = draft.needs.as_ref().map(|needs| {
        if instance.variables.is_empty() {
            return fan_out(&needs.jobs, needs, instances);
        }
        let mut resolved = |need| resolve(need, &draft.config, instance, findings);
        let jobs: Vec<JobNeed> = needs.jobs.iter().map(&mut resolved).collect();
        fan_out(&jobs, needs, instances)
    });
    copy
}

/// `$[[ matrix.NAME ]]` in a need becomes this instance's value.
fn resolve(
    need: &JobNeed,
    config: &JobConfig,
    instance: &JobInstance,
    findings: &mut Findings<'_>,
) -> JobNeed {
    let mut text = |text: &str| interpolate(text, config, instance, findings);
    let job = text(&need.need.job);
    let mut combination = |c: &Combination| -> Combination {
        c.iter().map(|(k, values)| (text(k), values.iter().map(|v| text(v)).collect())).collect()
    };
    let matrix = need.matrix.as_ref().map(|entries| entries.iter().map(&mut combination).collect());
    JobNeed { need: Need { job, ..need.need.clone() }, matrix }
}

fn interpolate(
    text: &str,
    config: &JobConfig,
    instance: &JobInstance,
    findings: &mut Findings<'_>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$[[") {
        let Some((inside, tail)) = after.split_once("]]") else { break };
        out.push_str(before);
        match inside.trim().strip_prefix("matrix.") {
            Some(name) => match instance.variables.get(name) {
                Some(value) => out.push_str(value),
                None => unknown_variable(name, config, instance, findings),
            },
            None => {
                out.push_str("$[[");
                out.push_str(inside);
                out.push_str("]]");
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn unknown_variable(name: &str, config: &JobConfig, instance: &JobInstance, findings: &mut Findings<'_>) {
    let text = format!("{} job: '{name}' does not exist in matrix configuration", config.base_name);
    let span = config.keyword_spans.get("needs");
    let mut diagnostic = Diagnostic::error("matrix-undefined", text).at_opt(span, "");
    if let Some(near) = did_you_mean(name, instance.variables.keys().map(String::as_str)) {
        diagnostic = diagnostic.help(format!("did you mean `matrix.{near}`?"));
    }
    findings.push(diagnostic);
}
