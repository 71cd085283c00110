//! The whole configuration, in GitLab's order: syntax of all entries, then expansion, then checks between jobs.

use super::check::{Entry, Findings, ROOT};
use super::inheritable::{self, Inheritable};
use super::job::{self, Draft, Scope};
use super::size::Size;
use super::types::{Config, Workflow};
use super::{logic, mixed, normalise, ruby, stages, variables, workflow};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::load::Partial;
use crate::yaml::{self, Key, Mapping, Node};

const RESERVED: [&str; 8] =
    ["include", "before_script", "image", "services", "after_script", "variables", "stages", "cache"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hidden,
    Job,
    Bridge,
}

/// Checks a configuration whose includes, `extends` and `!reference`s are resolved. The result goes as far as
/// the configuration is right; it is valid when no error has been added to `diagnostics`.
pub fn build(root: &Node, diagnostics: &mut Vec<Diagnostic>) -> Config {
    let mut findings = Findings::new(diagnostics);
    let Some(map) = root.as_mapping() else {
        findings.push(Diagnostic::error("wrong-type", "Invalid configuration format").at(root.span, ""));
        return Config::default();
    };
    let jobs: Vec<(&Key, &yaml::Entry)> =
        map.iter().filter(|(key, entry)| is_job(key, &entry.node)).collect();
    let keyword = |name: &str| {
        map.entry(name).filter(|e| !e.node.is_null() && kind(&Key::from(name), &e.node).is_none())
    };
    let default = keyword("default").map(|e| &e.node);
    let Some(defaults) = inheritable::defaults(map, default, &mut findings) else { return Config::default() };
    let mut config = globals(map, keyword("workflow").map(|e| &e.node), &mut findings);
    let errors = findings.errors();
    let stages = stages::stages(map.get("stages"), &mut findings);
    let stages_known = findings.errors() == errors;
    config.stages = stages.unique();
    let Some(drafts) = drafts(&jobs, &defaults, &config.workflow, root, &mut findings) else { return config };
    if findings.errors() > 0 {
        findings.go_beyond();
        let names: Vec<String> = jobs.iter().map(|(key, _)| key.to_string()).collect();
        let known = stages_known.then_some(&stages);
        logic::further(&drafts, &names, known).into_iter().for_each(|d| findings.push(d));
        config.jobs = drafts.into_iter().map(|d| d.config).collect();
        return config;
    }
    mixed::mixed_policies(&drafts, &mut findings);
    let jobs = normalise::normalise(drafts, &mut findings);
    if findings.errors() == 0 {
        for diagnostic in logic::check(&jobs, &stages) {
            findings.push(diagnostic);
            findings.go_beyond();
        }
    }
    config.jobs = jobs.into_values().collect();
    config
}

/// Findings that what is missing may have caused.
const GUESSES: [&str; 7] =
    ["no-script", "no-jobs", "missing-key", "need-undefined", "stage-undefined", "need-later", "on-stop"];

/// What else is wrong with a configuration that GitLab has refused before it came to these checks.
pub fn further(partial: &Partial) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    build(&partial.root, &mut found);
    found.retain(|diagnostic| partial.complete || !GUESSES.contains(&diagnostic.code));
    found.iter_mut().for_each(|diagnostic| diagnostic.gitlab = false);
    found
}

fn globals(map: &Mapping, workflow: Option<&Node>, findings: &mut Findings<'_>) -> Config {
    let mut config = Config::default();
    if let Some(node) = map.get("variables").filter(|n| !n.is_null()) {
        config.variables =
            variables::variables(node, &ROOT.child("variables"), findings, &variables::ROOT_KEYS);
    }
    if let Some(node) = workflow {
        config.workflow = workflow::workflow(node, findings);
    }
    config
}

/// Everything that is no global keyword is a job, and `default` and `workflow` are when they look like one.
fn is_job(key: &Key, node: &Node) -> bool {
    let Key::String(name) = key else { return true };
    !RESERVED.contains(&&**name) && (!matches!(&**name, "default" | "workflow") || kind(key, node).is_some())
}

fn kind(key: &Key, node: &Node) -> Option<Kind> {
    if key.as_str().is_some_and(|name| name.starts_with('.')) {
        return Some(Kind::Hidden);
    }
    let map = node.as_mapping()?;
    let has = |key| map.get(key).is_some();
    if has("script") || has("run") {
        Some(Kind::Job)
    } else if has("trigger") || has("needs") {
        Some(Kind::Bridge)
    } else {
        None
    }
}

/// None: there are more than memory should be filled with.
fn drafts(
    jobs: &[(&Key, &yaml::Entry)],
    defaults: &Inheritable,
    workflow: &Workflow,
    root: &Node,
    findings: &mut Findings<'_>,
) -> Option<Vec<Draft>> {
    let errors = findings.errors();
    for (key, entry) in jobs.iter().filter(|(key, entry)| kind(key, &entry.node).is_none()) {
        findings.push(unmatched(key, entry));
    }
    let visible = |kind| matches!(kind, Some(Kind::Job | Kind::Bridge));
    if !jobs.iter().any(|(key, entry)| visible(kind(key, &entry.node))) {
        let text = "jobs config should contain at least one visible job";
        findings.push(Diagnostic::error("no-jobs", text).at(root.span, ""));
    }
    if findings.errors() > errors {
        findings.go_beyond();
    }
    let scope = Scope { defaults, workflow_rules: workflow.rules.is_some() };
    let globals = root.as_mapping().into_iter().flat_map(|map| map.iter());
    let mut size =
        Size::new(globals.filter(|(key, entry)| !is_job(key, &entry.node)).map(|(_, entry)| &entry.node));
    let mut drafts: Vec<Draft> = Vec::with_capacity(jobs.len());
    for (key, entry) in jobs {
        let draft = match kind(key, &entry.node) {
            Some(Kind::Job) => job::job(key, entry, &scope, findings),
            Some(Kind::Bridge) => job::bridge(key, entry, &scope, findings),
            Some(Kind::Hidden) => {
                let (jobs, name) = (ROOT.child("jobs"), key.to_string());
                Entry::new(&entry.node, &jobs.child(&name), findings).present("config");
                continue;
            }
            None => continue,
        };
        if !size.add(&draft, &entry.node, findings) {
            return None;
        }
        drafts.push(draft);
    }
    Some(drafts)
}

/// GitLab makes words of the name and then, if they are plain letters, a name of the words again.
fn unmatched(key: &Key, entry: &yaml::Entry) -> Diagnostic {
    let name = key.to_string();
    let words = ruby::humanize(&name);
    let plain = words.chars().all(|c| c.is_ascii_lowercase() || c.is_whitespace());
    let shown = if plain { words.replace(' ', "_") } else { words };
    let shown = if name == "base" { String::new() } else { format!("{shown} ") };
    let text = format!("jobs {shown}config should implement the script:, run:, or trigger: keyword");
    let diagnostic = Diagnostic::error("no-script", text).at(entry.key_span, "");
    let keywords = RESERVED.iter().copied().chain(["default", "workflow"]);
    match did_you_mean(&name, keywords) {
        Some(near) => diagnostic.help(format!("if this is no job: did you mean `{near}`?")),
        None => diagnostic,
    }
}
