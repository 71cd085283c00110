//! Plans of configurations made by hand.

use super::*;
use crate::config::{CacheConfig, CacheKey, Changes, Config, Exists, JobConfig, NeedConfig, Policy, Rule};
use crate::config::{Inherit, KeywordSpans, VariableConfig, Workflow};
use crate::request::{self, Commit, Elsewhere, FetchError, Fetched, Files, ProjectVariable, Request};
use crate::source::{SourceMap, Span};
use indexmap::IndexMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tracked paths; a path's blob id is its name.
struct Tree(Vec<String>);

impl Files for Tree {
    fn read(&self, _: &str) -> Result<Option<Arc<str>>, String> {
        Ok(None)
    }
    fn paths(&self) -> &[String] {
        &self.0
    }
    fn blob_id(&self, path: &str) -> Option<String> {
        self.0.iter().find(|p| *p == path).cloned()
    }
    fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError> {
        match what {
            Elsewhere::Project { project, .. } if project == "g/lib" => Err(FetchError::NoFile),
            _ => Err(FetchError::NoProject),
        }
    }
    fn list(&self, project: &str, reference: Option<&str>) -> Result<Arc<[String]>, FetchError> {
        match (project, reference) {
            ("g/lib", None) => Ok(["a.md".into(), "docs/b.md".into()].into()),
            ("g/lib", Some(_)) => Err(FetchError::NoReference),
            _ => Err(FetchError::NoProject),
        }
    }
}

fn span() -> Span {
    Span::new(SourceMap::new().add("x", "", None), 0, 0)
}

fn push() -> Request {
    Request {
        project: "group/project".into(),
        reference: "main".into(),
        source: "push".into(),
        default_branch: "main".into(),
        commit: Commit { sha: "0123456789abcdef".into(), message: "cost: $CI 5".into(), ..Commit::default() },
        ..Request::default()
    }
}

fn merge_request() -> Request {
    Request { source: "merge_request_event".into(), ..push() }
}

fn variables(pairs: &[(&str, &str)]) -> IndexMap<String, VariableConfig> {
    let config = |value: &str| VariableConfig { value: value.into(), raw: false, span: span() };
    pairs.iter().map(|(name, value)| ((*name).to_owned(), config(value))).collect()
}

fn job(name: &str) -> JobConfig {
    JobConfig {
        name: name.into(),
        base_name: name.into(),
        span: span(),
        keyword_spans: KeywordSpans::default(),
        stage: "test".into(),
        when: None,
        start_in: None,
        allow_failure: None,
        has_rules: false,
        rules: Vec::new(),
        only: None,
        except: None,
        needs: None,
        dependencies: None,
        interruptible: None,
        tags: Vec::new(),
        variables: IndexMap::new(),
        matrix: IndexMap::new(),
        inherit: Inherit::All,
        environment: None,
        cache: Vec::new(),
        work: Box::new(Work { script: vec!["x".into()], ..Work::default() }),
    }
}

fn rule(condition: Option<&str>) -> Rule {
    Rule {
        span: span(),
        condition: condition.map(Arc::from),
        changes: None,
        exists: None,
        when: None,
        start_in: None,
        allow_failure: None,
        variables: IndexMap::new(),
        needs: None,
        interruptible: None,
        auto_cancel: None,
    }
}

fn with_rules(name: &str, rules: Vec<Rule>) -> JobConfig {
    JobConfig { has_rules: true, rules, ..job(name) }
}

fn need(name: &str, optional: bool) -> NeedConfig {
    NeedConfig::Job(Need { job: name.into(), artifacts: true, optional })
}

fn config(jobs: Vec<JobConfig>) -> Config {
    let stages = [".pre", "build", "test", "deploy", ".post"].map(str::to_owned).to_vec();
    Config { stages, jobs, ..Config::default() }
}

fn outcome(config: &Config, request: &Request) -> Outcome {
    let tree = Tree(["Cargo.lock", "a/b.txt", "package-lock.json"].map(str::to_owned).to_vec());
    build(config, request, &tree, &mut Vec::new())
}

fn only_job(jobs: Vec<JobConfig>, request: &Request) -> Job {
    let mut outcome = outcome(&config(jobs), request);
    assert_eq!(errors(&outcome), [""; 0]);
    outcome.plan.take().unwrap().jobs.remove(0)
}

fn names(outcome: &Outcome) -> Vec<&str> {
    outcome.plan.iter().flat_map(|plan| &plan.jobs).map(|job| job.name.as_str()).collect()
}

fn errors(outcome: &Outcome) -> Vec<&str> {
    outcome.creation_errors.iter().map(|d| d.message.as_str()).collect()
}

#[test]
fn jobs_without_rules_are_for_branches_and_tags() {
    let ruled = JobConfig { has_rules: true, ..job("ruled") };
    let listed = JobConfig {
        only: Some(Policy { variables: Some(vec!["$CI".into()]), ..Policy::default() }),
        ..job("listed")
    };
    let mut config = config(vec![job("plain"), ruled, listed]);
    assert_eq!(names(&outcome(&config, &push())), ["plain", "ruled", "listed"]);
    let merge = outcome(&config, &merge_request());
    assert_eq!(names(&merge), ["ruled"]);
    assert_eq!(merge.reasons[0].because, Because::DefaultRefs);
    assert_eq!(merge.reasons[2].because, Because::Only);
    config.workflow.rules = Some(vec![rule(None)]);
    assert_eq!(names(&outcome(&config, &merge_request())), ["plain", "ruled"]);
}

#[test]
fn except_excludes_by_any_of_its_parts() {
    let except = |policy: Policy| JobConfig { except: Some(policy), ..job("j") };
    let refs = except(Policy { refs: Some(vec!["main".into()]), ..Policy::default() });
    let changes = except(Policy { changes: Some(vec!["*.md".into()]), ..Policy::default() });
    let kubernetes = except(Policy { kubernetes: true, ..Policy::default() });
    let outcome = outcome(&config(vec![refs, changes, kubernetes, job("k")]), &push());
    let included: Vec<bool> = outcome.reasons.iter().map(|r| r.included).collect();
    assert_eq!(included, [false, false, true, true]);
    assert_eq!(outcome.reasons[0].because, Because::Except);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let manual = Rule { when: Some(When::Manual), ..rule(Some("$CI_COMMIT_BRANCH == 'main'")) };
    let rules = vec![rule(Some("$NOPE")), manual.clone(), Rule { when: Some(When::Never), ..rule(None) }];
    let planned = only_job(vec![with_rules("j", rules.clone())], &push());
    assert_eq!((planned.when, planned.allow_failure), (When::Manual, AllowFailure::Static(false)));

    let mut request = push();
    request.reference = "dev".into();
    let refused = outcome(&config(vec![with_rules("j", rules)]), &request);
    assert_eq!(
        errors(&refused),
        [
            "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added \
         to the pipeline."
        ]
    );
    let reason = &refused.reasons[0];
    assert_eq!(reason.because, Because::Rule(2));
    assert!(!reason.included);
    assert_eq!(reason.trials[0].parts[0].values, [("NOPE".to_owned(), None)]);
    assert_eq!(reason.trials[1].parts[0].values, [("CI_COMMIT_BRANCH".to_owned(), Some("dev".to_owned()))]);
}

#[test]
fn rules_override_what_the_job_says() {
    let base = JobConfig {
        when: Some(When::Manual),
        allow_failure: Some(AllowFailure::ExitCodes { exit_codes: vec![3] }),
        needs: Some(vec![need("a", false)]),
        variables: variables(&[("V", "job"), ("W", "$V")]),
        ..with_rules("j", Vec::new())
    };
    let over = Rule {
        when: Some(When::Delayed),
        start_in: Some("1 hour".into()),
        allow_failure: Some(AllowFailure::Static(true)),
        variables: variables(&[("V", "rule")]),
        needs: Some(vec![need("b", false)]),
        interruptible: Some(true),
        ..rule(None)
    };
    let jobs = vec![JobConfig { rules: vec![over], ..base.clone() }, job("a"), job("b")];
    let planned = only_job(jobs, &push());
    assert_eq!(planned.start_in.as_deref(), Some("1 hour"));
    assert!(planned.environment_variables.iter().any(|v| v.key == "CI_JOB_MANUAL"));
    assert_eq!(planned.allow_failure, AllowFailure::Static(true));
    assert_eq!(planned.needs.unwrap()[0].job, "b");
    assert_eq!((planned.variables["V"].as_str(), planned.variables["W"].as_str()), ("rule", "rule"));
    assert!(planned.interruptible);

    let plain = Rule { needs: Some(Vec::new()), ..rule(None) };
    let planned = only_job(vec![JobConfig { rules: vec![plain], ..base }, job("a")], &push());
    assert_eq!(planned.when, When::Manual);
    assert_eq!(planned.allow_failure, AllowFailure::ExitCodes { exit_codes: vec![3] });
    assert_eq!(planned.needs.unwrap()[0].job, "a");
}

#[test]
fn a_manual_job_may_fail_unless_a_rule_made_it_manual() {
    let manual = JobConfig { when: Some(When::Manual), ..job("j") };
    assert_eq!(only_job(vec![manual], &push()).allow_failure, AllowFailure::Static(true));
    let ruled = Rule { when: Some(When::OnSuccess), ..rule(None) };
    let overridden = JobConfig { when: Some(When::Manual), ..with_rules("j", vec![ruled]) };
    assert_eq!(only_job(vec![overridden], &push()).allow_failure, AllowFailure::Static(true));
}

#[test]
fn changes_and_exists_see_variables_of_the_instance() {
    let changes = Changes { paths: vec!["$D/*".into()], compare_to: None };
    let exists = Exists { paths: vec!["$D/b.txt".into()], project: None, reference: None };
    let on = |name: &str, dir: &str, rule: Rule| JobConfig {
        matrix: IndexMap::from([("D".to_owned(), dir.to_owned())]),
        ..with_rules(name, vec![rule])
    };
    let changed = Rule { changes: Some(changes), ..rule(None) };
    let there = Rule { exists: Some(exists), ..rule(None) };
    let jobs = vec![
        on("c-a", "a", changed.clone()),
        on("c-b", "b", changed),
        on("e-a", "a", there.clone()),
        on("e-b", "b", there),
    ];
    let request = Request { changes: Some(vec!["b/x".into()]).into(), ..push() };
    assert_eq!(names(&outcome(&config(jobs), &request)), ["c-b", "e-a"]);
}

#[test]
fn changes_are_found_out_only_when_a_rule_asks() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let find = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Some(vec!["b/x".to_owned()])
    };
    let request = Request { changes: request::Changes::when_asked(find), ..push() };
    let unless = Changes { paths: vec!["b/*".into()], compare_to: None };
    let never = Rule { changes: Some(unless.clone()), ..rule(Some("$CI_COMMIT_TAG")) };
    assert_eq!(names(&outcome(&config(vec![job("j"), with_rules("k", vec![never])]), &request)), ["j"]);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let rules = vec![Rule { changes: Some(unless), ..rule(None) }];
    let jobs = vec![with_rules("a", rules.clone()), with_rules("b", rules)];
    assert_eq!(names(&outcome(&config(jobs), &request)), ["a", "b"]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn an_outline_is_the_plan_without_environments() {
    let own = JobConfig { variables: variables(&[("A", "$CI_JOB_NAME")]), ..job("j") };
    let config = config(vec![own, with_rules("k", vec![rule(Some("$CI_COMMIT_BRANCH"))])]);
    let mut whole = outcome(&config, &push()).plan.unwrap();
    assert!(whole.jobs.iter().all(|job| job.environment_variables.iter().any(|v| v.key == "CI_JOB_NAME")));
    whole.jobs.iter_mut().for_each(|job| job.environment_variables.clear());
    let outline = outline(&config, &push(), &Tree(Vec::new()), &mut Vec::new());
    assert_eq!(outline.plan.as_ref(), Some(&whole));
    whole.jobs.iter_mut().for_each(|job| job.variables.clear());
    let sketch = sketch(&config, &push(), &Tree(Vec::new()), &mut Vec::new());
    assert_eq!(sketch.plan, Some(whole));
}

#[test]
fn a_comparison_needs_a_ref_that_exists() {
    let compare = |to: &str| {
        let changes = Changes { paths: vec!["*".into()], compare_to: Some(to.into()) };
        with_rules("j", vec![Rule { changes: Some(changes), ..rule(None) }])
    };
    let request = Request { known_refs: Some(vec!["main".into()]), ..push() };
    for known in ["main", "refs/heads/main", "$CI_DEFAULT_BRANCH", "0123456789", "HEAD"] {
        assert_eq!(names(&outcome(&config(vec![compare(known)]), &request)), ["j"], "{known}");
    }
    assert_eq!(
        errors(&outcome(&config(vec![compare("nope"), job("k")]), &request)),
        ["Failed to parse rule for j: rules:changes:compare_to is not a valid ref"]
    );
    assert_eq!(names(&outcome(&config(vec![compare("nope")]), &push())), ["j"], "no refs are known");
}

#[test]
fn exists_looks_into_other_projects() {
    let planned = |project: &str, path: &str, reference: Option<&str>| {
        let (project, reference) = (Some(project.into()), reference.map(str::to_owned));
        let exists = Exists { paths: vec![path.into()], project, reference };
        let job = with_rules("j", vec![Rule { exists: Some(exists), ..rule(None) }]);
        outcome(&config(vec![job, self::job("k")]), &push())
    };
    for (path, there) in [("a.md", true), ("docs/*.md", true), ("*.txt", false), ("docs/", true)] {
        let outcome = planned("G/lib", path, None);
        assert_eq!(names(&outcome).contains(&"j"), there, "{path}");
        assert_eq!(errors(&outcome), [""; 0]);
    }
    assert!(
        errors(&planned("g/none", "x", None))[0]
            .ends_with("rules:exists:project `g/none` is not a valid project path")
    );
    assert!(
        errors(&planned("g/lib", "x", Some("v9")))[0]
            .ends_with("rules:exists:ref `v9` is not a valid ref in project `g/lib`")
    );
}

#[test]
fn workflow_rules_filter_and_give_variables() {
    let named = |rules: Vec<Rule>| Config {
        variables: variables(&[("N", "root")]),
        workflow: Workflow {
            name: Some(" $N for ${CI_COMMIT_BRANCH} ".into()),
            rules: Some(rules),
            auto_cancel: Some(AutoCancel {
                on_new_commit: Some("none".into()),
                on_job_failure: Some("all".into()),
            }),
        },
        ..config(vec![job("j")])
    };
    let matching = Rule {
        variables: variables(&[("N", "rule")]),
        auto_cancel: Some(AutoCancel { on_new_commit: Some("interruptible".into()), on_job_failure: None }),
        ..rule(Some("$N == 'root'"))
    };
    let plan = outcome(&named(vec![matching]), &push()).plan.unwrap();
    assert_eq!(plan.name.as_deref(), Some("rule for main"));
    let cancel = plan.auto_cancel.unwrap();
    assert_eq!(cancel.on_new_commit.as_deref(), Some("interruptible"));
    assert_eq!(cancel.on_job_failure.as_deref(), Some("all"));
    assert_eq!(plan.jobs[0].variables["N"], "rule");
    for rules in [vec![rule(Some("$CI_JOB_NAME"))], vec![Rule { when: Some(When::Never), ..rule(None) }]] {
        let refused = outcome(&named(rules), &push());
        assert_eq!(errors(&refused), ["Pipeline filtered out by workflow rules."]);
        assert_eq!(refused.workflow.len(), 1);
    }
}

#[test]
fn variables_come_from_all_levels() {
    let mut j = JobConfig {
        variables: variables(&[
            ("J", "$R-$CI_JOB_NAME"),
            ("P", "yaml"),
            ("SECRET", "x"),
            ("USES", "is $SECRET"),
        ]),
        matrix: IndexMap::from([("M".to_owned(), "$J".to_owned())]),
        environment: Some(Environment { name: "review/$J$NOPE".into(), ..Environment::default() }),
        tags: vec!["$R".into(), "${NOPE}".into(), "$J".into()],
        ..job("j")
    };
    let mut config = config(vec![j.clone()]);
    config.variables = variables(&[("R", "root"), ("UNSEEN", "u")]);
    let setting = |key: &str, value: &str, scope: &str| ProjectVariable {
        key: key.into(),
        value: value.into(),
        masked: key == "SECRET",
        file: false,
        raw: false,
        environment_scope: scope.into(),
    };
    let request = Request {
        variables: IndexMap::from([("P".to_owned(), "pipeline $R".to_owned())]),
        project_variables: vec![
            setting("SECRET", "review-secret", "review/*"),
            setting("SECRET", "any-secret", "*"),
            setting("OTHER", "o", "production"),
        ],
        ..push()
    };
    let planned = outcome(&config, &request).plan.unwrap().jobs.remove(0);
    let shown = |name: &str| planned.variables.get(name).map(String::as_str);
    assert_eq!(shown("J"), Some("root-j"));
    assert_eq!(shown("M"), Some("root-j"));
    assert_eq!(shown("P"), Some("pipeline root"));
    assert_eq!(shown("SECRET"), Some("[MASKED]"));
    assert_eq!(shown("USES"), Some("is [MASKED]"));
    assert_eq!(planned.environment.unwrap().name, "review/root-j");
    assert_eq!(planned.tags, ["root", "${NOPE}", "$R-$CI_JOB_NAME"]);
    let handed = |name: &str| planned.environment_variables.iter().find(|v| v.key == name);
    assert_eq!(handed("USES").unwrap().value, "is review-secret");
    assert!(handed("SECRET").unwrap().masked);
    assert_eq!(handed("OTHER"), None);
    assert_eq!(handed("CI_ENVIRONMENT_TIER").unwrap().value, "development");
    let message = handed("CI_COMMIT_MESSAGE").unwrap();
    assert!(message.raw && message.value == "cost: $CI 5");

    j.inherit = Inherit::Only(vec!["UNSEEN".into()]);
    config.jobs = vec![j];
    let planned = outcome(&config, &request).plan.unwrap().jobs.remove(0);
    assert_eq!(planned.variables["UNSEEN"], "u");
    assert_eq!(planned.variables["J"], "-j");
}

#[test]
fn needs_must_be_in_the_pipeline() {
    let out = with_rules("out", vec![rule(Some("$NOPE"))]);
    let needing = |optional| JobConfig { needs: Some(vec![need("out", optional)]), ..job("j") };
    let planned = only_job(vec![needing(true), out.clone()], &push());
    assert_eq!(planned.needs.unwrap()[0].job, "out");
    assert_eq!(
        errors(&outcome(&config(vec![needing(false), out.clone()]), &push())),
        [
            "'j' job needs 'out' job, but 'out' does not exist in the pipeline. This might be because of the only, except, \
         or rules keywords. To need a job that sometimes does not exist in the pipeline, use needs:optional."
        ]
    );
    let many = (0..51).map(|i| need(&format!("n{i}"), true)).collect();
    let j = JobConfig { needs: Some(many), ..job("j") };
    assert_eq!(
        errors(&outcome(&config(vec![j]), &push())),
        [
            "j: one job can only need 50 others, but you have listed 51. See needs keyword documentation for more details"
        ]
    );
    let hidden = JobConfig { needs: Some(vec![need("out", false)]), ..out };
    assert_eq!(
        names(&outcome(&config(vec![hidden, job("k")]), &push())),
        ["k"],
        "nobody misses what is not there"
    );
}

#[test]
fn needs_of_a_rule_are_not_checked_but_hinted_at() {
    let over = Rule { needs: Some(vec![need("none", false)]), ..rule(None) };
    let mut hints = Vec::new();
    let outcome = build(&config(vec![with_rules("j", vec![over])]), &push(), &Tree(Vec::new()), &mut hints);
    assert_eq!(names(&outcome), ["j"]);
    assert_eq!(
        hints[0].message,
        "job `j` needs job `none` through a rule, but that job is not in the pipeline"
    );
    assert!(!hints[0].gitlab);
}

#[test]
fn circular_variables_prevent_the_pipeline() {
    let j = JobConfig { variables: variables(&[("A", "$B"), ("B", "$A"), ("S", "$S")]), ..job("x") };
    let errors = errors(&outcome(&config(vec![j]), &push())).join("|");
    assert_eq!(errors, "x: circular variable reference detected: [\"A\", \"B\"]");
}

#[test]
fn pipelines_of_edge_stages_alone_are_not_created() {
    let pre = JobConfig { stage: ".pre".into(), ..job("a") };
    assert_eq!(errors(&outcome(&config(vec![pre.clone()]), &push())).len(), 1);
    let plan = outcome(&config(vec![job("b"), pre]), &push()).plan.unwrap();
    assert_eq!(plan.stages, [".pre", "test"]);
}

#[test]
fn cache_keys_are_digests_of_blob_ids() {
    let cache = |files: &[&str], prefix: Option<&str>, commits: bool| CacheConfig {
        key: Some(CacheKey::Files {
            files: files.iter().map(|f| (*f).to_owned()).collect(),
            prefix: prefix.map(str::to_owned),
            commits,
        }),
        cache: Cache {
            key: String::new(),
            paths: Vec::new(),
            untracked: None,
            fallback_keys: Vec::new(),
            policy: "pull-push".into(),
            when: "on_success".into(),
            unprotect: false,
        },
    };
    // sha1sum of `Cargo.lock`, of `Cargo.lock-package-lock.json`, and of the commit
    let (one, two, commit) = (
        "14a5af756bb04b4a26c80cf95acf32f0f8b9f30f",
        "b220e1996068b8df8248b5271308c8973aa29632",
        "fe5567e8d769550852182cdf69d74bb16dff8e29",
    );
    let j = JobConfig {
        cache: vec![
            cache(&["Cargo.lock"], Some("$X"), false),
            cache(&["package-lock.json", "Cargo.lock", "none"], None, false),
            cache(&["none"], Some("p"), false),
            cache(&["Cargo.lock"], None, true),
            CacheConfig { key: None, ..cache(&[], None, false) },
            cache(&["Cargo.*"], Some(""), false),
        ],
        ..job("j")
    };
    let keys: Vec<String> = only_job(vec![j], &push()).cache.into_iter().map(|c| c.key).collect();
    assert_eq!(
        keys,
        [
            format!("$X-{one}"),
            format!("1_package-lock_Cargo_none-{two}"),
            "p-default".to_owned(),
            format!("3-{commit}"),
            "default".to_owned(),
            one.to_owned(),
        ]
    );
}

#[test]
fn the_document_tells_valid_from_created() {
    use crate::diagnostic::Diagnostic;
    let mut j = job("j");
    j.work.timeout = Some(90.0);
    j.work.secrets = Some(serde_json::json!({}));
    let outcome = outcome(&config(vec![j]), &push());
    let warning = Diagnostic::warning("w", "careful");
    let json = document(&[warning.clone(), Diagnostic::hint("h", "ours")], Some(&outcome));
    assert_eq!(
        json,
        serde_json::json!({
            "valid": true, "errors": [], "warnings": ["careful"], "created": true, "creation_errors": [],
            "stages": ["test"],
            "jobs": [{"name": "j", "stage": "test", "when": "on_success", "allow_failure": false, "script": ["x"],
                      "timeout": 90}]
        })
    );
    let json = document(&[warning, Diagnostic::error("e", "wrong")], Some(&outcome));
    assert_eq!(
        json,
        serde_json::json!({
            "valid": false, "errors": ["wrong"], "warnings": ["careful"], "created": false, "creation_errors": []
        })
    );
}
