//! `needs`, before it is fanned out to instances.

use super::check::{Entry, Findings, Path, flatten};
use super::parallel::{self, Parallel};
use super::ruby;
use super::types::NeedConfig;
use crate::matrix::Combination;
use crate::plan;
use crate::yaml::{Node, Value};

/// What a need refers to, in GitLab's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NeedKind {
    /// A job of this pipeline.
    Job,
    /// A job of another pipeline or project.
    CrossDependency,
    /// The status of another project's pipeline.
    Bridge,
}

impl NeedKind {
    fn name(self) -> &'static str {
        match self {
            NeedKind::Job => "job",
            NeedKind::CrossDependency => "cross_dependency",
            NeedKind::Bridge => "bridge",
        }
    }
}

/// A need that names a job as in the YAML.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JobNeed {
    /// Name, artifacts, optional.
    pub(super) need: plan::Need,
    /// `parallel:matrix`: only these instances.
    pub(super) matrix: Option<Vec<Combination>>,
}

/// All of a job's needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// In the order of the configuration.
    pub(super) jobs: Vec<JobNeed>,
    /// Needs of [`NeedKind::CrossDependency`].
    pub(super) elsewhere: Vec<NeedConfig>,
    /// Those of them that download artifacts of a pipeline of the same family.
    pub(super) pipelines: Vec<plan::PipelineNeed>,
    /// Those that download artifacts of another project, in words.
    pub(super) projects: Vec<String>,
    /// Number of [`NeedKind::Bridge`] needs.
    pub(super) bridges: usize,
    /// Everything about them is right.
    pub(super) valid: bool,
}

impl Needs {
    /// The needs of a rule: GitLab does not fan these out.
    pub(super) fn direct(self) -> Vec<NeedConfig> {
        self.jobs.into_iter().map(|n| NeedConfig::Job(n.need)).collect()
    }

    /// Is there nothing in it?
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.elsewhere.is_empty() && self.bridges == 0
    }
}

/// `needs` of a job, a trigger job or a rule, which may use the kinds `allowed`.
pub(super) fn needs(
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    allowed: &[NeedKind],
) -> Needs {
    let errors = findings.errors();
    let mut entry = Entry::new(node, path, findings);
    entry.is(
        "config",
        |n| n.as_mapping().is_some() || n.as_sequence().is_some(),
        "can only be a hash or an array",
    );
    if node.as_mapping().is_some_and(crate::yaml::Mapping::is_empty) {
        entry.fail("blank", "config", "can not be an empty hash");
    }
    let mut needs = Needs::default();
    if entry.valid {
        let mut flat = Vec::new();
        flatten(node, &mut flat);
        collect(&flat, &mut entry, &mut needs, allowed);
    }
    needs.valid = findings.errors() == errors;
    needs
}

fn collect(items: &[&Node], entry: &mut Entry<'_, '_, '_>, needs: &mut Needs, allowed: &[NeedKind]) {
    let path = entry.path;
    let at = path.child("need");
    let mut seen: Vec<NeedKind> = Vec::new();
    let (mut pipelines, mut projects) = (0, 0);
    for item in items {
        let mut need = Entry::new(item, &at, entry.findings);
        let Some(kind) = kind(item) else {
            need.unsupported("has an unsupported type");
            continue;
        };
        if !seen.contains(&kind) {
            seen.push(kind);
        }
        match kind {
            NeedKind::Job => needs.jobs.push(job_need(&mut need)),
            NeedKind::CrossDependency => {
                if need.has("project") {
                    projects += 1;
                } else {
                    pipelines += 1;
                }
                let words = cross_need(&mut need);
                if need.has("project") && !is_bool(need.field("artifacts"), false) {
                    needs.projects.push(words.clone());
                }
                needs.elsewhere.push(NeedConfig::Elsewhere(words));
                if let (Some(pipeline), Some(job)) = (need.text("pipeline"), need.text("job"))
                    && !is_bool(need.field("artifacts"), false)
                {
                    needs.pipelines.push(plan::PipelineNeed { pipeline, job });
                }
            }
            NeedKind::Bridge => {
                need.allowed_keys(&["pipeline", "artifacts"]);
                need.required_string("pipeline");
                need.present("pipeline");
                needs.bridges += 1;
            }
        }
    }
    let extra: Vec<&str> = seen.iter().filter(|k| !allowed.contains(k)).map(|k| k.name()).collect();
    if !extra.is_empty() {
        entry.fail("bad-value", "config", format!("uses invalid types: {}", extra.join(", ")));
    }
    if pipelines > 5 || projects > 5 {
        entry.fail("too-long", "config", "must be less than or equal to 5");
    }
    let number = |n: &&Node| {
        super::check::field(n, "parallel")
            .is_some_and(|p| matches!(p.value, Value::Integer(_) | Value::Float(_)))
    };
    if let Some(item) = items.iter().find(|n| kind(n) == Some(NeedKind::Job) && number(n)) {
        entry.fail_at("bad-value", "config", "cannot use \"parallel: <number>\".", item.span);
    }
}

fn kind(node: &Node) -> Option<NeedKind> {
    if ruby::is_string(node) {
        return Some(NeedKind::Job);
    }
    let map = node.as_mapping()?;
    let has = |key| map.get(key).is_some();
    match (has("job"), has("pipeline"), has("project") || has("ref")) {
        (true, false, false) => Some(NeedKind::Job),
        (true, true, false) | (_, false, true) => Some(NeedKind::CrossDependency),
        (false, true, false) => Some(NeedKind::Bridge),
        (false, false, false) | (_, true, true) => None,
    }
}

fn job_need(entry: &mut Entry<'_, '_, '_>) -> JobNeed {
    if let Some(name) = entry.node.as_str() {
        entry.present("config");
        let need = plan::Need { job: name.to_owned(), artifacts: true, optional: false };
        return JobNeed { need, matrix: None };
    }
    entry.allowed_keys(&["job", "artifacts", "optional", "parallel"]);
    entry.required_string("job");
    entry.present("job");
    entry.boolean("artifacts");
    entry.boolean("optional");
    let parallel = entry.field("parallel").filter(|_| entry.valid);
    let parallel =
        parallel.map(|n| parallel::parallel(n, &entry.path.child("parallel"), entry.findings, true));
    let need = plan::Need {
        job: entry.text("job").unwrap_or_default(),
        artifacts: !is_bool(entry.field("artifacts"), false),
        optional: is_bool(entry.field("optional"), true),
    };
    let matrix = match parallel {
        Some(Parallel::Matrix(entries)) => Some(entries),
        Some(Parallel::Number(_)) | None => None,
    };
    JobNeed { need, matrix }
}

fn is_bool(node: Option<&Node>, wanted: bool) -> bool {
    node.is_some_and(|n| matches!(n.value, Value::Bool(b) if b == wanted))
}

/// Checks a need of another pipeline or project; gives its words for people.
fn cross_need(entry: &mut Entry<'_, '_, '_>) -> String {
    let keys: &[&str] = if entry.has("pipeline") { &["pipeline", "job"] } else { &["project", "job", "ref"] };
    entry.allowed_keys(&[keys, &["artifacts"]].concat());
    for key in keys {
        entry.required_string(key);
        entry.present(key);
    }
    entry.boolean("artifacts");
    let texts: Vec<String> = keys.iter().filter_map(|k| entry.text(k).map(|t| format!("{k} {t}"))).collect();
    texts.join(", ")
}
