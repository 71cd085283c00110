//! The variables of a job, by origin.

use super::{Environment, Instance, JobVariable, When};
use crate::config::{Config, Inherit, JobConfig, Rule, VariableConfig};
use crate::request::{ProjectVariable, Request};
use crate::variables::{Layer, Scope, Unknown, Variable, environment_slug, predefined, slug};
use indexmap::IndexMap;
use regex::{Regex, bytes};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::LazyLock;

/// What all jobs of a request share.
pub(super) struct Shared<'a> {
    request: &'a Request,
    predefined: Layer,
    user: Layer,
    /// Root variables, the workflow rule's over them.
    pub(super) root: Layer,
    pipeline: Layer,
    /// Project variables by environment name.
    project: RefCell<HashMap<Option<String>, Rc<Layer>>>,
}

/// What one job adds.
pub(super) struct Own<'s> {
    job: Layer,
    yaml: Cow<'s, Layer>,
    environment: Layer,
    project: Rc<Layer>,
}

impl Own<'_> {
    /// What a matching rule changes.
    pub(super) fn apply(&mut self, rule: &Rule) {
        if !rule.variables.is_empty() {
            add(self.yaml.to_mut(), &rule.variables);
        }
        if let Some(when) = rule.when {
            set_manual(&mut self.job, when);
        }
    }
}

impl<'a> Shared<'a> {
    pub(super) fn new(config: &Config, request: &'a Request) -> Shared<'a> {
        // a commit message with a `$` is no reference
        let (user, predefined): (Layer, Layer) = predefined(request)
            .into_iter()
            .map(|(name, value)| (name, Variable::raw(value)))
            .partition(|(name, _)| name.starts_with("GITLAB_USER_"));
        let pipeline = request.pipeline_variables().collect();
        let mut root = Layer::default();
        add(&mut root, &config.variables);
        Shared { request, predefined, user, root, pipeline, project: RefCell::default() }
    }

    /// What workflow rules and the pipeline's name see.
    pub(super) fn workflow_scope<'s>(&'s self, project: &'s Layer) -> Scope<'s> {
        Scope::new(vec![&self.predefined, &self.root, &self.user, project, &self.pipeline])
    }

    /// What a job sees, the lowest first.
    pub(super) fn scope<'s>(&'s self, own: &'s Own<'_>) -> Scope<'s> {
        let yaml = own.yaml.as_ref();
        Scope::new(vec![
            &own.job,
            &self.predefined,
            yaml,
            &self.user,
            &own.project,
            &self.pipeline,
            &own.environment,
        ])
    }

    /// The layers of a job, its environment not yet among them.
    pub(super) fn own(&self, job: &JobConfig) -> Own<'_> {
        let everything = job.variables.is_empty() && job.matrix.is_empty() && job.inherit == Inherit::All;
        let yaml = if everything { Cow::Borrowed(&self.root) } else { Cow::Owned(self.yaml(job)) };
        Own { job: job_layer(job), yaml, environment: Layer::default(), project: self.project(None) }
    }

    fn yaml(&self, job: &JobConfig) -> Layer {
        let mut yaml = match &job.inherit {
            Inherit::All => self.root.clone(),
            Inherit::None => Layer::default(),
            Inherit::Only(names) => {
                let wanted = self.root.iter().filter(|(name, _)| names.contains(name));
                wanted.map(|(name, variable)| (name.clone(), variable.clone())).collect()
            }
        };
        add(&mut yaml, &job.variables);
        for (name, value) in &job.matrix {
            yaml.insert(name.clone(), Variable::new(value.as_str()));
        }
        yaml
    }

    /// Expands the name of the job's environment, and puts it and what depends on it into the job's layers.
    pub(super) fn enter(&self, own: &mut Own<'_>, environment: &Environment) -> String {
        own.environment = Layer::default();
        own.project = self.project(None);
        let scope = self.scope(own);
        let name = scope.expand(&environment.name, Unknown::Remove);
        drop(scope);
        own.project = self.project(Some(&name));
        own.environment = environment_layer(&name, environment);
        name
    }

    /// Project variables, for jobs with this environment. Of two with one name, the narrower scope wins.
    pub(super) fn project(&self, environment: Option<&str>) -> Rc<Layer> {
        let key = environment.map(str::to_owned);
        if let Some(known) = self.project.borrow().get(&key) {
            return known.clone();
        }
        let sees = |v: &&ProjectVariable| match environment {
            Some(name) => in_scope(name, &v.environment_scope),
            None => v.environment_scope == "*",
        };
        let mut seen: Vec<_> = self.request.project_variables.iter().filter(sees).collect();
        seen.sort_by_key(|v| (!v.environment_scope.contains('*'), v.environment_scope.len()));
        let layer: Layer = seen.into_iter().map(|v| (v.key.clone(), project_variable(v))).collect();
        let layer = Rc::new(layer);
        self.project.borrow_mut().insert(key, layer.clone());
        layer
    }
}

/// `*` in an environment scope stands for any text.
fn in_scope(name: &str, scope: &str) -> bool {
    let pattern = regex::escape(scope).replace(r"\*", ".*");
    Regex::new(&format!("^{pattern}$")).is_ok_and(|regex| regex.is_match(name))
}

fn project_variable(v: &ProjectVariable) -> Variable {
    Variable { value: v.value.clone(), raw: v.raw, masked: v.masked, file: v.file }
}

/// Puts variables of the YAML over those in a layer.
pub(super) fn add(layer: &mut Layer, variables: &IndexMap<String, VariableConfig>) {
    for (name, variable) in variables {
        let VariableConfig { value, raw, .. } = variable;
        layer.insert(name.clone(), Variable { raw: *raw, ..Variable::new(value.as_str()) });
    }
}

static GROUP_SUFFIX: LazyLock<bytes::Regex> = LazyLock::new(|| {
    // only ASCII counts as space and digit, as in Ruby; and a `.` of bytes compiles in no time
    let pattern = r"(?-u)(?:[\t-\r :]+(?:\[.*\]|[0-9]+[\t-\r :/\\]+[0-9]+)){1,3}[\t-\r ]*$";
    bytes::Regex::new(pattern).expect("the pattern is a constant")
});

/// The name of a parallel job without what tells its instances apart.
fn group_name(name: &str) -> &str {
    let may_have_suffix = name.trim_end().ends_with(|c: char| c == ']' || c.is_ascii_digit());
    let suffix = if may_have_suffix { GROUP_SUFFIX.find(name.as_bytes()) } else { None };
    name[..suffix.map_or(name.len(), |suffix| suffix.start())].trim()
}

fn job_layer(job: &JobConfig) -> Layer {
    let mut layer = Layer::default();
    let mut set = |name: &str, value: &str| drop(layer.insert(name.to_owned(), Variable::raw(value)));
    set("CI_JOB_NAME", &job.name);
    set("CI_JOB_NAME_SLUG", &slug(&job.name));
    set("CI_JOB_GROUP_NAME", group_name(&job.name));
    set("CI_JOB_STAGE", &job.stage);
    let total = job.work.parallel.map_or(1, |Instance { total, .. }| total);
    set("CI_NODE_TOTAL", &total.to_string());
    if let Some(Instance { index, .. }) = job.work.parallel {
        set("CI_NODE_INDEX", &index.to_string());
    }
    set_manual(&mut layer, job.when.unwrap_or_default());
    layer
}

/// `CI_JOB_MANUAL` exists for jobs that something has to start.
fn set_manual(layer: &mut Layer, when: When) {
    if matches!(when, When::Manual | When::Delayed) {
        layer.insert("CI_JOB_MANUAL".to_owned(), Variable::raw("true"));
    } else {
        layer.shift_remove("CI_JOB_MANUAL");
    }
}

fn environment_layer(name: &str, environment: &Environment) -> Layer {
    let mut layer = Layer::default();
    let tier = environment.deployment_tier.as_deref().unwrap_or_else(|| guess_tier(name));
    for (key, value) in [
        ("CI_ENVIRONMENT_NAME", name),
        ("CI_ENVIRONMENT_SLUG", &environment_slug(name)),
        ("CI_ENVIRONMENT_ACTION", environment.action.as_deref().unwrap_or("start")),
    ] {
        layer.insert(key.to_owned(), Variable::raw(value));
    }
    layer.insert("CI_ENVIRONMENT_TIER".to_owned(), Variable::new(tier));
    if let Some(url) = &environment.url {
        layer.insert("CI_ENVIRONMENT_URL".to_owned(), Variable::new(url.as_str()));
    }
    layer
}

/// The tier that GitLab guesses from an environment's name.
fn guess_tier(name: &str) -> &'static str {
    let name = name.to_lowercase();
    let tiers: [(&str, &[&str]); 4] = [
        ("development", &["dev", "review", "trunk"]),
        ("testing", &["test", "tst", "int", "acpt", "accept", "qa", "qc", "control", "quality"]),
        ("staging", &["stg", "stag", "modl", "model", "pre", "demo", "non"]),
        ("production", &["prd", "prod", "live"]),
    ];
    tiers
        .iter()
        .find(|(_, words)| words.iter().any(|word| name.contains(word)))
        .map_or("other", |(tier, _)| tier)
}

/// The values that the YAML's names have in the job, for people: secrets are hidden.
pub(super) fn shown_variables(shared: &Shared<'_>, own: &Own<'_>) -> IndexMap<String, String> {
    let secret = |v: &Variable| v.masked || v.file;
    if !own.project.values().any(secret) {
        return expanded(&own.yaml, &shared.scope(own));
    }
    let shown = |v: &Variable| if secret(v) { Variable::raw(v.shown()) } else { v.clone() };
    let own = Own {
        job: own.job.clone(),
        yaml: Cow::Borrowed(own.yaml.as_ref()),
        environment: own.environment.clone(),
        project: Rc::new(own.project.iter().map(|(name, v)| (name.clone(), shown(v))).collect()),
    };
    expanded(&own.yaml, &shared.scope(&own))
}

fn expanded(names: &Layer, scope: &Scope<'_>) -> IndexMap<String, String> {
    names.keys().map(|name| (name.clone(), scope.expanded(name).unwrap_or_default())).collect()
}

/// What a trigger job hands on: the YAML's variables with the YAML's own values, whatever stands above them here.
/// References to what is not known before the job runs stay.
pub(super) fn forwarded_variables(shared: &Shared<'_>, own: &Own<'_>) -> Vec<JobVariable> {
    let scope = shared.scope(own);
    let one = |(key, variable): (&String, &Variable)| JobVariable {
        key: key.clone(),
        value: match variable.raw {
            true => variable.value.clone(),
            false => scope.expand(&variable.value, Unknown::Keep),
        },
        file: false,
        masked: variable.masked,
        raw: variable.raw,
    };
    own.yaml.iter().map(one).collect()
}

/// Everything for the job's environment, by precedence.
pub(super) fn environment_variables(scope: &Scope<'_>) -> Vec<JobVariable> {
    let value = |name: &str, variable: &Variable| match variable.raw {
        true => variable.value.clone(),
        false => scope.for_runner(name).unwrap_or_default(),
    };
    let all = scope.iter().map(|(name, variable)| JobVariable {
        key: name.to_owned(),
        value: value(name, variable),
        file: variable.file,
        masked: variable.masked,
        raw: variable.raw,
    });
    all.collect()
}
