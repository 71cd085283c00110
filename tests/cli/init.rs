//! `ci init` on a small real project of every language: what it writes is valid, without a warning, and plans.

use crate::tree::{Tree, said};
use std::fs;
use std::process::Command;

/// A language or a program, files of a project, and the jobs that it gets.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

const RUST: &[(&str, &str)] = &[
    ("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
    ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"small\"\nversion = \"0.1.0\"\n"),
    ("src/main.rs", "fn main() {}\n\n#[test]\nfn holds() {}\n"),
];
const NODE: &[(&str, &str)] = &[
    (
        "package.json",
        "{\"name\": \"small\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"node test.js\", \"build\": \"mkdir -p dist && echo 1 > dist/a\", \"lint\": \"node --check test.js\"}}\n",
    ),
    (
        "package-lock.json",
        "{\"name\": \"small\", \"version\": \"1.0.0\", \"lockfileVersion\": 3, \"packages\": {\"\": {\"name\": \"small\", \"version\": \"1.0.0\"}}}\n",
    ),
    ("test.js", "require('assert').equal(1 + 1, 2);\n"),
];
const ERLANG: &[(&str, &str)] = &[
    ("rebar.config", "{erl_opts, [debug_info]}.\n{relx, [{release, {small, \"0.1.0\"}, [small]}]}.\n"),
    (
        "src/small.app.src",
        "{application, small, [{vsn, \"0.1.0\"}, {modules, []}, {applications, [kernel, stdlib]}]}.\n",
    ),
    ("src/small.erl", "-module(small).\n-export([one/0]).\none() -> 1.\n"),
    (
        "test/small_tests.erl",
        "-module(small_tests).\n-include_lib(\"eunit/include/eunit.hrl\").\none_test() -> ?assertEqual(1, small:one()).\n",
    ),
];
const ERLANG_LIBRARY: &[(&str, &str)] =
    &[("rebar.config", "{erl_opts, [debug_info]}.\n"), ("src/a.erl", "-module(a).\n")];
const PYTHON: &[(&str, &str)] = &[
    ("pyproject.toml", "[project]\nname = \"small\"\nversion = \"0.1.0\"\n"),
    ("tests/test_small.py", "def test_one():\n    assert True\n"),
];
const GO: &[(&str, &str)] = &[
    ("go.mod", "module example.org/small\n\ngo 1.24\n"),
    ("go.sum", ""),
    ("main.go", "package main\n\nfunc main() {}\n"),
];
const ELIXIR: &[(&str, &str)] = &[(
    "mix.exs",
    "defmodule Small.MixProject do\n  use Mix.Project\n  def project, do: [app: :small, version: \"0.1.0\", releases: [small: []]]\nend\n",
)];
const DOCKER: &[(&str, &str)] = &[("Dockerfile", "FROM scratch\nCOPY . /\n")];

#[test]
fn every_language_gets_a_pipeline_that_is_valid_and_plans() {
    let rows: [Row<'_>; 8] = [
        ("Rust", RUST, &["rust:format", "rust:lint", "rust:test", "rust:build"]),
        ("Node", NODE, &["node:lint", "node:test", "node:build"]),
        ("Erlang", ERLANG, &["build", "test", "deploy_dev", "deploy_sit"]),
        ("Erlang", ERLANG_LIBRARY, &["build", "test"]),
        (
            "Python",
            PYTHON,
            &[
                "python:lint",
                "python:test: [3.11]",
                "python:test: [3.12]",
                "python:test: [3.13]",
                "python:build",
            ],
        ),
        ("Go", GO, &["go:vet", "go:test", "go:build"]),
        ("Elixir", ELIXIR, &["build", "test", "deploy_dev", "deploy_sit"]),
        ("Docker", DOCKER, &["docker:build"]),
    ];
    for (name, files, jobs) in rows {
        let tree = Tree::with(files);
        let init = tree.run(&["init"]).ended(0).says(&["wrote ", &format!("for {name}"), "next: `ci plan`"]);
        let text = fs::read_to_string(tree.dir().join(".gitlab-ci.yml")).unwrap();
        assert!(init.stdout.starts_with(&text), "{name}: what was written is shown: {init}");
        let lint = tree.run(&["lint"]).ended(0);
        assert!(lint.stdout.lines().count() == 1 && lint.contains("is valid"), "{name}: {lint}");
        let plan = tree.run(&["plan", "--format", "json"]).ended(0).json();
        let planned: Vec<&str> =
            plan["jobs"].as_array().unwrap().iter().map(|j| j["name"].as_str().unwrap()).collect();
        assert_eq!(planned, jobs, "{name}");
    }
}

#[test]
fn several_languages_share_one_file() {
    let files = [RUST, NODE, DOCKER].concat();
    let tree = Tree::with(&files);
    tree.run(&["init"]).ended(0).says(&[
        "for Rust, Node, Docker",
        "# Rust\n",
        "stages: [check, test, build]\n",
    ]);
    let lint = tree.run(&["lint"]).ended(0);
    assert!(lint.contains("8 jobs") && lint.stdout.lines().count() == 1, "{lint}");
}

#[test]
fn nothing_is_overwritten_and_nothing_is_guessed() {
    let tree = Tree::with(&[("README", "hello")]);
    tree.run(&["init"]).ended(2).says(&["no files that tell its language", "Cargo.toml"]);
    assert!(!tree.dir().join(".gitlab-ci.yml").exists());
    tree.write(".gitlab-ci.yml", "mine: {script: [x]}\n");
    tree.write("go.mod", "module x\n");
    tree.run(&["init"]).ended(3).says(&["is there already", "`ci lint`"]);
    assert_eq!(fs::read_to_string(tree.dir().join(".gitlab-ci.yml")).unwrap(), "mine: {script: [x]}\n");
    let lacking = Tree::with(&[("Cargo.toml", "[package]\nname = \"x\"\n"), ("package.json", "{}")]);
    let notes = [
        "note: `Cargo.lock` is missing",
        "`package-lock.json` is missing",
        "no scripts named lint, test, build",
    ];
    lacking.run(&["init"]).ended(0).says(&notes);
}

/// Ends the test where the program isn't there: one that says nothing would be taken for one that holds.
#[track_caller]
fn needs(program: &str) {
    let there = Command::new(program).arg("--version").output().is_ok();
    assert!(there, "`{program}` is missing; `scripts/setup.sh test` installs it");
}

#[test]
fn the_jobs_of_the_template_run_on_this_machine() {
    // those whose tools come without a network
    let rows: [Row<'_>; 2] =
        [("npm", NODE, &["node:lint", "node:test", "node:build"]), ("cargo", RUST, &["rust:test"])];
    for (program, files, jobs) in rows {
        needs(program);
        let tree = Tree::with(files);
        tree.run(&["init"]).ended(0);
        let arguments = [&["run", "--executor", "shell"], jobs].concat();
        said(&mut tree.ci(&arguments)).ended(0).says(&["pipeline success"]);
    }
}
