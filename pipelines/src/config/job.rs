//! Jobs: the keywords that stand in a job, with what it inherits applied.

use super::check::{Entry, Findings, Path, ROOT, Syntax, field, is_nested, texts};
use super::inherit::Inheritance;
use super::inheritable::{self, Inheritable};
use super::needs::{self, NeedKind, Needs};
use super::parallel::{self, Parallel};
use super::types::{JobConfig, KeywordSpans, Rule};
use super::{
    cache, environment, inherit, pages, policy, release, retry, ruby, rules, script, stages, tokens,
    variables,
};
use crate::diagnostic::Diagnostic;
use crate::plan::{AllowFailure, When, Work};
use crate::yaml::{self, Key, Node, Value};
use indexmap::IndexMap;
use std::sync::Arc;

const WARNING: &str = "may allow multiple pipelines to run for a single action due to `rules:when` clause with no \
    `workflow:rules` - read more: https://docs.gitlab.com/ee/ci/jobs/job_troubleshooting.html\
    #job-may-allow-multiple-pipelines-to-run-for-a-single-action-warning";
const JOB_KEYS: [&str; 38] = [
    "tags",
    "script",
    "image",
    "services",
    "start_in",
    "artifacts",
    "cache",
    "dependencies",
    "before_script",
    "after_script",
    "hooks",
    "coverage",
    "retry",
    "parallel",
    "timeout",
    "release",
    "id_tokens",
    "publish",
    "pages",
    "manual_confirmation",
    "run",
    "inputs",
    "dast_configuration",
    "identity",
    "secrets",
    "extends",
    "stage",
    "only",
    "except",
    "rules",
    "variables",
    "inherit",
    "allow_failure",
    "when",
    "needs",
    "resource_group",
    "environment",
    "interruptible",
];
const BRIDGE_KEYS: [&str; 15] = [
    "trigger",
    "parallel",
    "extends",
    "stage",
    "only",
    "except",
    "rules",
    "variables",
    "inherit",
    "allow_failure",
    "when",
    "needs",
    "resource_group",
    "environment",
    "interruptible",
];
const JOB_WHEN: [&str; 5] = ["on_success", "on_failure", "always", "manual", "delayed"];
const BRIDGE_WHEN: [&str; 4] = ["on_success", "on_failure", "always", "manual"];

/// What jobs need to know about the rest of the configuration.
pub(super) struct Scope<'a> {
    /// `default`.
    pub(super) defaults: &'a Inheritable,
    /// Is there `workflow:rules`?
    pub(super) workflow_rules: bool,
}

/// A job before parallel ones are expanded and needs are fanned out.
pub(super) struct Draft {
    /// All but `needs`.
    pub(super) config: JobConfig,
    /// As in the YAML.
    pub(super) needs: Option<Needs>,
    /// As in the YAML.
    pub(super) parallel: Option<Parallel>,
}

/// The word of a `when`.
pub(super) fn moment(word: &str) -> Option<When> {
    Some(match word {
        "on_success" => When::OnSuccess,
        "on_failure" => When::OnFailure,
        "always" => When::Always,
        "manual" => When::Manual,
        "delayed" => When::Delayed,
        "never" => When::Never,
        _ => return None,
    })
}

/// A job with a script (or `run`).
pub(super) fn job(key: &Key, item: &yaml::Entry, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Draft {
    let name = key.to_string();
    let jobs = ROOT.child("jobs");
    let path = jobs.child(if name.is_empty() { "job" } else { &name });
    let mark = findings.mark();
    let mut entry = Entry::new(&item.node, &path, findings);
    entry.allowed_keys(&JOB_KEYS);
    check_shared(&mut entry, key, item);
    check_job(&mut entry, &name);
    let sound = entry.valid;
    let before = findings.look_on(sound, item.node.span, mark);
    let draft = composed(&name, item, &path, scope, findings);
    findings.look_back(&before);
    draft
}

/// The job, its keywords looked at one by one.
fn composed(
    name: &str,
    item: &yaml::Entry,
    path: &Path<'_>,
    scope: &Scope<'_>,
    findings: &mut Findings<'_>,
) -> Draft {
    let mut draft = Draft { config: start(name, item), needs: None, parallel: None };
    let Some(map) = item.node.as_mapping() else { return draft };
    let inheritance = shared(&mut Entry::new(&item.node, path, findings), &mut draft.config, scope);
    let mut own = Inheritable::read(map, path, findings, &inheritable::KEYS);
    own.inherit(scope.defaults, &inheritance);
    work(&item.node, path, findings, &mut draft.config.work);
    take(&mut draft.config, own);
    if let Some(node) = field(&item.node, "allow_failure") {
        draft.config.allow_failure = Some(allow_failure(node, &path.child("allow_failure"), findings));
    }
    if let Some(node) = field(&item.node, "needs") {
        let kinds = [NeedKind::Job, NeedKind::CrossDependency];
        draft.needs = Some(needs::needs(node, &path.child("needs"), findings, &kinds));
    }
    draft.parallel =
        field(&item.node, "parallel").map(|n| parallel::parallel(n, &path.child("parallel"), findings, true));
    draft.config.dependencies = field(&item.node, "dependencies").map(texts);
    pages::publish(&item.node, name, path, findings, &mut draft.config.work);
    check_dependencies(&mut Entry::new(&item.node, path, findings), &draft);
    draft
}

/// A job that triggers a pipeline, or mirrors one.
pub(super) fn bridge(key: &Key, item: &yaml::Entry, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Draft {
    let name = key.to_string();
    let jobs = ROOT.child("jobs");
    let path = jobs.child(if name.is_empty() { "bridge" } else { &name });
    let mark = findings.mark();
    let mut entry = Entry::new(&item.node, &path, findings);
    entry.allowed_keys(&BRIDGE_KEYS);
    check_shared(&mut entry, key, item);
    entry.one_of("when", &BRIDGE_WHEN, "should be one of: on_success, on_failure, always, manual");
    entry.boolean("allow_failure");
    let mut draft = Draft { config: start(&name, item), needs: None, parallel: None };
    let mut bridges = 0;
    let composed = entry.valid;
    let before = entry.findings.look_on(composed, item.node.span, mark);
    if item.node.as_mapping().is_some() {
        let inheritance = shared(&mut entry, &mut draft.config, scope);
        if draft.config.interruptible.is_none() && inheritance.takes("interruptible") {
            draft.config.interruptible = scope.defaults.interruptible;
        }
        draft.config.allow_failure = field(&item.node, "allow_failure")
            .map(|n| AllowFailure::Static(matches!(n.value, Value::Bool(true))));
        let trigger = field(&item.node, "trigger");
        draft.config.work.trigger =
            trigger.map(|n| super::trigger::trigger(n, &path.child("trigger"), entry.findings));
        if let Some(node) = field(&item.node, "needs") {
            let kinds = [NeedKind::Job, NeedKind::Bridge];
            let needs = needs::needs(node, &path.child("needs"), entry.findings, &kinds);
            bridges = if needs.valid { needs.bridges } else { 0 };
            draft.needs = Some(needs).filter(|n| n.bridges == 0);
        }
        draft.parallel = field(&item.node, "parallel")
            .map(|n| parallel::parallel(n, &path.child("parallel"), entry.findings, false));
    }
    entry.findings.look_back(&before);
    if !composed || (field(&item.node, "trigger").is_none() && bridges == 0) {
        entry.fail("missing-key", "config", "should contain either a trigger or a needs:pipeline");
    }
    if composed && bridges > 1 {
        entry.fail("conflict", "config", "should contain at most one bridge need");
    }
    draft
}

fn start(name: &str, item: &yaml::Entry) -> JobConfig {
    let keywords = match &item.node.value {
        Value::Mapping(keywords) => keywords.clone(),
        _ => Arc::default(),
    };
    JobConfig {
        name: name.to_owned(),
        base_name: Arc::from(name),
        span: item.key_span,
        keyword_spans: KeywordSpans(keywords),
        stage: "test".to_owned(),
        when: field(&item.node, "when").and_then(Node::as_str).and_then(moment),
        start_in: field(&item.node, "start_in").and_then(Node::as_str).map(str::to_owned),
        allow_failure: None,
        has_rules: item.node.as_mapping().is_some_and(|m| m.get("rules").is_some()),
        rules: Vec::new(),
        only: None,
        except: None,
        needs: None,
        dependencies: None,
        interruptible: None,
        tags: Vec::new(),
        variables: IndexMap::new(),
        matrix: IndexMap::new(),
        inherit: super::types::Inherit::All,
        environment: None,
        cache: Vec::new(),
        work: Box::default(),
    }
}

/// Validations of jobs and trigger jobs alike.
fn check_shared(entry: &mut Entry<'_, '_, '_>, key: &Key, item: &yaml::Entry) {
    let name = key.to_string();
    if name.is_empty() {
        entry.fail_at("job-name", "name", "can't be blank", item.key_span);
    }
    if !matches!(key, Key::String(_)) {
        entry.fail_at("job-name", "name", "should be a symbol", item.key_span);
    }
    if name.chars().count() > 255 {
        entry.fail_at("job-name", "name", "is too long (maximum is 255 characters)", item.key_span);
    }
    entry.exclusive_keys(&["script", "trigger"]);
    entry.exclusive_keys(&["run", "trigger"]);
    if entry.field("rules").is_some() {
        let old = ["only", "except", "start_in"];
        let given: Vec<String> =
            entry.present_keys(&old).into_iter().filter(|k| entry.field(k).is_some()).collect();
        if !given.is_empty() {
            entry.fail(
                "conflict",
                "config",
                format!("key may not be used with `rules`: {}", given.join(", ")),
            );
        }
    }
    entry.strings_or_string("extends");
    let map = |n: &Node| n.as_mapping().is_some();
    entry.is(
        "rules",
        |n| is_nested(n, 10, &map),
        "should be an array containing hashes and arrays of hashes",
    );
    entry.string("resource_group");
}

fn check_job(entry: &mut Entry<'_, '_, '_>, name: &str) {
    entry.exclusive_keys(&["script", "run"]);
    if !entry.has("run") {
        entry.present("script");
    }
    entry.string("when");
    entry.one_of("when", &JOB_WHEN, "should be one of: on_success, on_failure, always, manual, delayed");
    entry.strings("dependencies");
    let map_or_bool = |n: &Node| n.as_mapping().is_some() || ruby::is_boolean(n);
    entry.is("allow_failure", map_or_bool, "should be a hash or a boolean value");
    entry.string("manual_confirmation");
    entry.is("run", |n| n.as_sequence().is_some(), "value at root is not an array");
    let delayed = entry.field("when").and_then(Node::as_str) == Some("delayed");
    if delayed {
        entry.duration("start_in", rules::START_IN_LIMIT);
    }
    let start_in = entry.field("start_in").is_some_and(|n| !ruby::is_blank(n));
    if start_in && (entry.has("rules") || !delayed) {
        entry.fail("conflict", "start_in", "must be blank");
    }
    if !pages::is_pages(entry.node, name) && entry.field("publish").is_some_and(|n| !ruby::is_blank(n)) {
        entry.fail("conflict", "publish", "can only be used within a `pages` job");
    }
}

/// Keywords of jobs and trigger jobs alike; gives what the job inherits.
fn shared(entry: &mut Entry<'_, '_, '_>, config: &mut JobConfig, scope: &Scope<'_>) -> Inheritance {
    let (node, path) = (entry.node, entry.path);
    let findings = &mut *entry.findings;
    if let Some(n) = field(node, "stage") {
        config.stage = stages::stage(n, &path.child("stage"), findings);
    }
    config.only = field(node, "only").map(|n| policy::policy(n, &path.child("only"), findings));
    config.except = field(node, "except").map(|n| policy::policy(n, &path.child("except"), findings));
    if let Some(n) = field(node, "rules") {
        config.rules = job_rules(n, path, findings, scope, config);
    }
    if let Some(n) = field(node, "variables") {
        config.variables = variables::variables(n, &path.child("variables"), findings, &variables::JOB_KEYS);
    }
    let inherited = field(node, "inherit").map(|n| inherit::inherit(n, &path.child("inherit"), findings));
    let inheritance = inherited.unwrap_or_default();
    config.inherit = inheritance.variables.clone();
    config.environment =
        field(node, "environment").map(|n| environment::environment(n, &path.child("environment"), findings));
    config.interruptible =
        field(node, "interruptible").map(|n| cache::boolean(n, &path.child("interruptible"), findings));
    config.work.resource_group = field(node, "resource_group").and_then(Node::as_str).map(str::to_owned);
    inheritance
}

fn job_rules(
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    scope: &Scope<'_>,
    config: &JobConfig,
) -> Vec<Rule> {
    let errors = findings.errors();
    let all = rules::rules(node, &path.child("rules"), findings, &rules::JOB);
    let sound = findings.errors() == errors;
    if sound && !scope.workflow_rules && rules::ends_in_bare_when(node) {
        let last = all.last().map_or(config.span, |r| r.span);
        findings.push(Diagnostic::warning("duplicate-pipelines", format!("{path} {WARNING}")).at(last, ""));
    }
    all
}

/// Keywords that only jobs with a script have, and that they don't inherit.
fn work(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>, work: &mut Work) {
    if let Some(n) = field(node, "script") {
        work.script = script::commands(n, &path.child("script"), findings);
    }
    if let Some(n) = field(node, "coverage") {
        work.coverage = coverage(n, &path.child("coverage"), findings);
    }
    if let Some(n) = field(node, "release") {
        release::release(n, &path.child("release"), findings);
        work.release = Some(n.to_json());
    }
    if let Some(n) = field(node, "secrets") {
        tokens::secrets(n, &path.child("secrets"), findings);
        work.secrets = Some(n.to_json());
    }
    if let Some(n) = field(node, "dast_configuration") {
        tokens::dast_configuration(n, &path.child("dast_configuration"), findings);
    }
    if let Some(n) = field(node, "inputs") {
        Entry::new(n, &path.child("inputs"), findings).hash();
    }
    work.run = field(node, "run").map(Node::to_json);
    work.manual_confirmation = field(node, "manual_confirmation").and_then(Node::as_str).map(str::to_owned);
    let timeout = field(node, "timeout").and_then(Node::as_str);
    work.timeout = timeout.and_then(crate::duration::parse);
}

fn take(config: &mut JobConfig, own: Inheritable) {
    config.interruptible = config.interruptible.or(own.interruptible);
    config.tags = own.tags.unwrap_or_default();
    config.cache = own.cache.unwrap_or_default();
    let work = &mut config.work;
    work.before_script = own.before_script.unwrap_or_default();
    work.after_script = own.after_script.unwrap_or_default();
    work.image = own.image;
    work.services = own.services.unwrap_or_default();
    work.hooks = own.hooks;
    work.artifacts = own.artifacts;
    work.retry = own.retry;
    work.id_tokens = own.id_tokens;
}

fn coverage(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let text = node.as_str().filter(|_| ruby::is_string(node));
    let pattern =
        text.filter(|t| policy::looks_like_regexp(t) && findings.mistake(Syntax::Regexp, t).is_none());
    if pattern.is_none() {
        let mut entry = Entry::new(node, path, findings);
        entry.fail("bad-regexp", "config", "must be a regular expression with re2 syntax");
    }
    // GitLab cuts the first and the last character off, whatever they are: flags keep their slash
    let mut chars = pattern?.chars();
    chars.next();
    chars.next_back();
    Some(chars.as_str().to_owned())
}

fn allow_failure(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> AllowFailure {
    let mut entry = Entry::new(node, path, findings);
    entry.allowed_keys(&["exit_codes"]);
    entry.integers("exit_codes");
    match entry.field("exit_codes") {
        Some(codes) => AllowFailure::ExitCodes { exit_codes: retry::integers(codes) },
        None => AllowFailure::Static(matches!(node.value, Value::Bool(true))),
    }
}

/// With `needs`, artifacts can only come from what is needed.
fn check_dependencies(entry: &mut Entry<'_, '_, '_>, draft: &Draft) {
    let dependencies = draft.config.dependencies.as_deref().unwrap_or_default();
    let Some(needs) = draft.needs.as_ref().filter(|n| n.valid && !n.is_empty()) else { return };
    if dependencies.is_empty() {
        return;
    }
    if needs.jobs.is_empty() {
        return entry.fail(
            "conflict",
            "needs",
            "corresponding to dependencies must be from the same pipeline",
        );
    }
    let needed = |name: &&String| needs.jobs.iter().any(|n| n.need.job == **name);
    let missing: Vec<&str> = dependencies.iter().filter(|d| !needed(d)).map(String::as_str).collect();
    if !missing.is_empty() {
        entry.fail("conflict", "dependencies", format!("the {} should be part of needs", missing.join(", ")));
    }
}
