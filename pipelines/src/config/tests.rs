//! Texts and forms that the whole module answers with.

use super::{Config, Inherit, JobConfig, NeedConfig, build};
use crate::diagnostic::Diagnostic;
use crate::source::SourceMap;
use crate::yaml;
use std::collections::BTreeSet;

fn check(text: &str) -> (Config, Vec<Diagnostic>) {
    let mut sources = SourceMap::new();
    let file = sources.add(".gitlab-ci.yml", text, None);
    let mut diagnostics = Vec::new();
    let documents = yaml::parse(text, file, &mut diagnostics).unwrap();
    let config = build(&documents[0], &mut diagnostics);
    (config, diagnostics)
}

fn errors(text: &str) -> BTreeSet<String> {
    check(text).1.into_iter().filter(|d| d.is_error() && d.gitlab).map(|d| d.message).collect()
}

fn valid(text: &str) -> Config {
    let (config, diagnostics) = check(text);
    let found: Vec<_> = diagnostics.iter().filter(|d| d.is_error()).collect();
    assert!(found.is_empty(), "{text}\n{found:?}");
    config
}

fn job<'c>(config: &'c Config, name: &str) -> &'c JobConfig {
    config.jobs.iter().find(|j| j.name == name).unwrap()
}

fn needs(job: &JobConfig) -> Vec<&str> {
    job.needs
        .iter()
        .flatten()
        .map(|n| match n {
            NeedConfig::Job(need) => need.job.as_str(),
            NeedConfig::Elsewhere(words) => words.as_str(),
        })
        .collect()
}

/// A keyword of a job with a script, and all errors that it gives.
#[test]
fn job_keywords_fail_in_gitlabs_words() {
    let table: &[(&str, &[&str])] = &[
        ("tags: x", &["jobs:j:tags config should be an array of strings"]),
        ("stage: [a]", &["jobs:j:stage config should be a string"]),
        ("rules: []", &["jobs:j:rules config can't be blank"]),
        ("rules: [{if: '$A =='}]", &["jobs:j:rules:rule if invalid expression syntax"]),
        (
            "rules:\n    - when:\n        - a\n        - :b",
            &["jobs:j:rules:rule when unknown value: [\"a\", :b]"],
        ),
        ("rules: [{variables: {A: {value: x}}}]", &["jobs:j:rules:rule:variables:a config must be a string"]),
        (
            "rules: [{exists: 1}]",
            &["jobs:j:rules:rule:exists should be a string, an array of strings, or a hash"],
        ),
        (
            "rules: [{exists: {ref: main, paths: [a]}}]",
            &["jobs:j:rules:rule:exists config missing required keys: project"],
        ),
        (
            "when: delayed",
            &["jobs:j start in should be a duration", "jobs:j start in should not exceed the limit"],
        ),
        ("when: []", &["jobs:j when should be a string"]),
        ("retry: {max: x}", &["retry max is not a number"]),
        ("retry: {max: 1.5}", &["retry max must be an integer"]),
        ("retry: {when: nope}", &["retry when is not included in the list"]),
        ("image: {name: r, ports: [80]}", &["jobs:j:image config contains disallowed keys: ports"]),
        ("image: {name: r, pull_policy: []}", &["jobs:j:image:pull_policy config can't be blank"]),
        (
            "image: {name: r, docker: {foo: x}}",
            &[
                "jobs:j:image executor opts object property at `/docker/foo` is a disallowed additional property",
            ],
        ),
        (
            "cache: {key: {files: abc}}",
            &[
                "jobs:j:cache:key:files config should be an array of strings",
                "jobs:j:cache:key:files config has too many items (maximum is 2)",
            ],
        ),
        ("cache: {policy: [push]}", &["jobs:j:cache policy should be a string"]),
        (
            "artifacts: {public: true, access: all}",
            &["jobs:j:artifacts config these keys cannot be used together: public, access"],
        ),
        (
            "artifacts: {reports: {junit: 1}}",
            &["jobs:j:artifacts:reports junit should be an array of strings or a string"],
        ),
        ("variables: {A: [x]}", &["variable definition must be either a string or a hash"]),
        (
            "variables: {A: {value: x, description: d}}",
            &["jobs:j:variables:a config uses invalid data keys: description"],
        ),
        ("variables: {A: {expand: x}}", &["jobs:j:variables:a config expand should be a boolean value"]),
        ("parallel: {}", &["jobs:j:parallel config missing required keys: matrix"]),
        ("parallel: {matrix: [{}]}", &["jobs:j:parallel:matrix:variables config requires at least 1 items"]),
        ("parallel: 2.5", &["jobs:j:parallel config must be an integer"]),
        ("needs: {}", &["jobs:j:needs config can not be an empty hash"]),
        ("needs: [{pipeline: g/p}]", &["jobs:j:needs config uses invalid types: bridge"]),
        ("inherit: {default: [imag]}", &["jobs:j:inherit:default config contains unknown values: imag"]),
        ("only: {kubernetes: x}", &["jobs:j:only kubernetes unknown value: x"]),
        (
            "trigger: g/p",
            &[
                "jobs:j config these keys cannot be used together: script, trigger",
                "jobs:j config contains unknown keys: trigger",
            ],
        ),
        ("needs: [a]\n  dependencies: [b]", &["jobs:j dependencies the b should be part of needs"]),
    ];
    for (keyword, expected) in table {
        let text = format!("j:\n  script: x\n  {keyword}\n");
        let found = errors(&text);
        assert_eq!(found, expected.iter().map(|e| (*e).to_owned()).collect(), "{keyword}");
    }
}

#[test]
fn messages_are_lower_case_but_places_without_a_validator_are_not() {
    assert_eq!(
        errors("MyJob:\n  script: x\n  only: 1\n").first().unwrap(),
        "jobs:MyJob:only has to be either an array of conditions or a hash"
    );
    assert_eq!(
        errors("MyJob:\n  script: x\n  Foo: 1\n").first().unwrap(),
        "jobs:myjob config contains unknown keys: foo"
    );
    let words = "config should implement the script:, run:, or trigger: keyword";
    for (name, shown) in [("my_job", "my_job "), ("My Job", "my_job "), ("job-1_b", "job-1 b "), ("base", "")]
    {
        assert!(errors(&format!("{name}: 1\n")).contains(&format!("jobs {shown}{words}")), "{name}");
    }
}

#[test]
fn an_entry_that_is_wrong_itself_hides_what_is_wrong_inside() {
    let found = errors("j:\n  script: x\n  foo: 1\n  artifacts: {bar: 1}\nk:\n  script: x\n  cache: 1\n");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn syntax_errors_hide_logic_errors_and_the_first_logic_error_hides_the_rest() {
    let text = "a:\n  stage: nope\n  script: x\nb:\n  script: x\n  needs: [zzz]\n";
    let listed = "available stages are .pre, build, test, deploy, .post";
    assert_eq!(errors(text), BTreeSet::from([format!("a job: chosen stage nope does not exist; {listed}")]));
    let both = format!("{text}c:\n  script: x\n  retry: 5\n");
    assert_eq!(errors(&both), BTreeSet::from(["retry config must be less than or equal to 2".to_owned()]));
}

#[test]
fn a_keyword_in_default_and_at_the_top_is_the_only_error() {
    let found = errors("image: a\ndefault: {image: b}\nj:\n  script: 1\n");
    assert_eq!(found, BTreeSet::from(["image is defined in top-level and `default:` entry".to_owned()]));
}

#[test]
fn unknown_keys_and_stages_get_a_suggestion_and_a_place() {
    for (text, near) in [
        ("j:\n  script: x\n  befor_script: y\n", "before_script"),
        ("j:\n  script: x\n  stage: biuld\n", "build"),
        ("compile:\n  script: x\nj:\n  script: x\n  needs: [compil]\n", "compile"),
    ] {
        let (_, diagnostics) = check(text);
        let help = diagnostics[0].help.as_deref().unwrap();
        assert!(help.contains(&format!("`{near}`")), "{help}");
        assert_eq!(diagnostics[0].labels.len(), 1);
    }
}

#[test]
fn defaults_fill_only_what_a_job_does_not_say_and_inherits() {
    let config = valid(
        "default: {image: r, tags: [d], retry: 1, before_script: [b], interruptible: true}\nafter_script: [a]\n\
         a: {script: x, tags: []}\nb: {script: x, inherit: {default: [image], variables: [V]}}\nc: {trigger: g/p}\n",
    );
    let a = job(&config, "a");
    assert_eq!((a.tags.len(), a.work.before_script.len(), a.work.after_script.len()), (0, 1, 1));
    assert_eq!(a.work.image.as_ref().unwrap().name, "r");
    let b = job(&config, "b");
    assert_eq!((b.tags.len(), b.work.before_script.len(), b.work.retry.is_none()), (0, 0, true));
    assert_eq!(b.inherit, Inherit::Only(vec!["V".to_owned()]));
    let c = job(&config, "c");
    assert_eq!((c.interruptible, c.work.image.is_none()), (Some(true), true));
}

#[test]
fn needs_of_parallel_jobs_are_fanned_out() {
    let config = valid(
        "p: {stage: build, script: x, parallel: {matrix: [{OS: [l, m], A: [1, 2]}]}}\n\
         n: {stage: build, script: x, parallel: 2}\n\
         all: {script: x, needs: [p, n 1/2]}\n\
         artifacts: {script: x, dependencies: [n]}\n\
         one: {script: x, needs: [{job: p, parallel: {matrix: [{OS: l, A: 2}]}}]}\n\
         same:\n  script: x\n  parallel: {matrix: [{OS: [l, m]}]}\n  needs: ['p: [$[[ matrix.OS ]], 1]']\n",
    );
    assert_eq!(needs(job(&config, "all")), ["p: [l, 1]", "p: [l, 2]", "p: [m, 1]", "p: [m, 2]", "n 1/2"]);
    assert_eq!(job(&config, "artifacts").dependencies.as_deref().unwrap(), ["n 1/2", "n 2/2"]);
    assert_eq!(needs(job(&config, "one")), ["p: [l, 2]"]);
    assert_eq!(needs(job(&config, "same: [m]")), ["p: [m, 1]"]);
    assert_eq!(job(&config, "same: [m]").work.parallel.unwrap().index, 2);
}

#[test]
fn cycles_are_named_as_ruby_names_them() {
    for (text, reason) in [
        (
            "a: {script: x, needs: [b]}\nb: {script: x, needs: [c]}\nc: {script: x, needs: [b]}\n",
            "topological sort failed: [\"b\", \"c\"]",
        ),
        ("a: {script: x, needs: [a]}\n", "self-dependency: a"),
        (
            "a: {script: x, needs: [c]}\nb: {script: x, needs: [a]}\nc: {script: x, needs: [b]}\n",
            "topological sort failed: [\"a\", \"c\", \"b\"]",
        ),
    ] {
        let expected = format!("The pipeline has circular dependencies: {reason}");
        assert_eq!(errors(text), BTreeSet::from([expected]), "{text}");
    }
}

#[test]
fn a_long_chain_of_needs_is_no_cycle_and_no_stack_overflow() {
    let mut text = "j0: {script: x}\n".to_owned();
    for i in 1..5_000 {
        text.push_str(&format!("j{i}: {{script: x, needs: [j{}]}}\n", i - 1));
    }
    assert_eq!(valid(&text).jobs.len(), 5_000);
    let closed = text.replacen("j0: {script: x}", "j0: {script: x, needs: [j4999]}", 1);
    assert_eq!(errors(&closed).len(), 1);
}

#[test]
fn edge_stages_go_to_the_ends_and_duplicates_collapse() {
    let config = valid("stages: [.post, b, [a, b], .pre]\nj: {stage: a, script: x}\n");
    assert_eq!(config.stages, [".pre", "b", "a", ".post"]);
    assert!(errors("stages: []\nj: {script: x}\n").first().unwrap().ends_with("available stages are "));
}

#[test]
fn a_pages_job_publishes_its_directory() {
    for (text, paths) in [
        ("pages: {script: x}\n", vec!["public"]),
        ("j: {script: x, pages: {publish: d}, artifacts: {paths: [a]}}\n", vec!["a", "d"]),
        ("pages: {script: x, pages: false}\n", vec![]),
    ] {
        let config = valid(text);
        let artifacts = config.jobs[0].work.artifacts.clone().unwrap_or_default();
        assert_eq!(artifacts.paths.unwrap_or_default(), paths, "{text}");
    }
}

#[test]
fn own_hint_for_only_beside_rules() {
    let (_, diagnostics) = check("a: {script: x, only: [main]}\nb: {script: x, rules: [{if: $A}]}\n");
    let codes: Vec<_> = diagnostics.iter().map(|d| (d.code, d.gitlab)).collect();
    assert_eq!(codes, [("only-with-rules", false)]);
}

#[test]
fn what_multiplies_is_refused_before_it_fills_the_memory() {
    let long = "x".repeat(100_000);
    let jobs = |range: std::ops::Range<u32>, job: &str| -> String {
        range.map(|i| format!("j{i}: {{parallel: 200, {job}}}\n")).collect()
    };
    let all = (0..200).map(|i| format!("j{i}")).collect::<Vec<_>>().join(", ");
    let table = [
        format!("variables: {{A: {long}}}\n{}", jobs(0..15, "script: x")),
        jobs(0..15, &format!("script: {long}")),
        jobs(0..200, "script: x") + &jobs(200..210, &format!("script: x, needs: [{all}]")),
        jobs(0..200, "script: x") + &jobs(200..210, &format!("script: x, dependencies: [{all}]")),
        jobs(0..2000, "script: x"),
    ];
    for text in table {
        assert_eq!(errors(&text), BTreeSet::from(["The parsed YAML is too big".to_owned()]));
    }
    valid(&jobs(0..2, &format!("script: {long}")));
}
