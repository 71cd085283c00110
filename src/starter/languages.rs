//! What a project is written in, as its files tell.

use std::fs;
use std::path::Path;

/// Files that tell a language, for people.
pub const MARKERS: &str =
    "Cargo.toml, package.json, pyproject.toml, setup.py, go.mod, rebar.config, mix.exs, Dockerfile";

/// Jobs of the templates for releases that a project without releases has no use for.
pub(super) const DEPLOYMENT: [&str; 7] =
    [".release", ".deploy", "deploy_dev", "deploy_sit", ".bundle", "bundle_uat", "bundle_prod"];

/// A language, and what its template means for this project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// For people.
    pub name: &'static str,
    /// Name of the template.
    pub template: &'static str,
    /// Jobs of the template that make no sense here.
    pub without: Vec<&'static str>,
    /// What the project lacks for its jobs to succeed.
    pub notes: Vec<String>,
}

/// The languages of the project in `root`.
pub fn languages(root: &Path) -> Vec<Language> {
    let project = Files { root };
    let all = [
        project.rust(),
        project.go(),
        project.python(),
        project.node(),
        project.erlang(),
        project.elixir(),
        project.docker(),
    ];
    all.into_iter().flatten().collect()
}

struct Files<'r> {
    root: &'r Path,
}

impl Files<'_> {
    fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }

    fn says(&self, name: &str, text: &str) -> bool {
        fs::read_to_string(self.root.join(name)).is_ok_and(|content| content.contains(text))
    }

    /// Whether pytest may find something at the top or one directory below.
    fn tests_python(&self) -> bool {
        let is_test = |name: &str| {
            matches!(name, "tests" | "test" | "test.py")
                || name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py"))
        };
        let names = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
        };
        let top = names(self.root);
        let below =
            top.iter().filter(|name| !name.starts_with('.')).flat_map(|name| names(&self.root.join(name)));
        top.iter().any(|name| is_test(name)) || below.into_iter().any(|name| is_test(&name))
    }

    /// A note when a file that the jobs need is not there.
    fn needs(&self, name: &str, why: &str) -> Option<String> {
        (!self.has(name)).then(|| format!("`{name}` is missing: {why}"))
    }

    fn rust(&self) -> Option<Language> {
        self.has("Cargo.toml").then(|| Language {
            name: "Rust",
            template: "Rust.gitlab-ci.yml",
            without: Vec::new(),
            notes: Vec::from_iter(
                self.needs(
                    "Cargo.lock",
                    "the jobs use `--locked`: run `cargo generate-lockfile` and commit it",
                ),
            ),
        })
    }

    fn go(&self) -> Option<Language> {
        self.has("go.mod").then(|| Language {
            name: "Go",
            template: "Go.gitlab-ci.yml",
            without: Vec::new(),
            notes: Vec::new(),
        })
    }

    fn python(&self) -> Option<Language> {
        (self.has("pyproject.toml") || self.has("setup.py")).then(|| {
            let mut notes = Vec::new();
            if !self.tests_python() {
                notes.push(
                    "no directory `tests` and no `test_*.py` was found: pytest fails where it finds no test"
                        .to_owned(),
                );
            }
            Language { name: "Python", template: "Python.gitlab-ci.yml", without: Vec::new(), notes }
        })
    }

    fn node(&self) -> Option<Language> {
        self.has("package.json").then(|| {
            let mut notes = Vec::from_iter(
                self.needs("package-lock.json", "the jobs use `npm ci`: run `npm install` and commit it"),
            );
            let missing: Vec<&str> = ["lint", "test", "build"]
                .into_iter()
                .filter(|script| !self.says("package.json", &format!("\"{script}\"")))
                .collect();
            if !missing.is_empty() {
                let names = missing.join(", ");
                notes.push(format!(
                    "package.json has no scripts named {names}: their jobs do nothing until it has"
                ));
            }
            let without = Vec::new();
            Language { name: "Node", template: "Node.gitlab-ci.yml", without, notes }
        })
    }

    fn erlang(&self) -> Option<Language> {
        self.has("rebar.config").then(|| {
            let releases = self.says("rebar.config", "relx");
            let without = if releases { Vec::new() } else { DEPLOYMENT.to_vec() };
            let notes = if releases {
                vec![
                    "`deploy_dev` needs to know its target: set DEV_SSH_USER_HOST; see `ci deploy --help`"
                        .to_owned(),
                ]
            } else {
                Vec::new()
            };
            Language { name: "Erlang", template: "Erlang-Release.gitlab-ci.yml", without, notes }
        })
    }

    fn elixir(&self) -> Option<Language> {
        self.has("mix.exs").then(|| {
            let releases = self.says("mix.exs", "releases:");
            let without = if releases { Vec::new() } else { DEPLOYMENT.to_vec() };
            Language { name: "Elixir", template: "Elixir-Release.gitlab-ci.yml", without, notes: Vec::new() }
        })
    }

    fn docker(&self) -> Option<Language> {
        self.has("Dockerfile").then(|| Language {
            name: "Docker",
            template: "Docker-Build.gitlab-ci.yml",
            without: Vec::new(),
            notes: vec![
                "`docker:build` needs a runner that allows Docker in Docker, and a registry".to_owned(),
            ],
        })
    }
}
