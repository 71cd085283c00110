//! The pipelines of `examples/{c,python,node,rust,erlang}`, run for real: offline but for a registry on loopback with the
//! images of `scripts/test-images.sh`. Each runs cold, warm (with the same results), and with a mistake in its sources.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]
#![allow(clippy::unwrap_used, reason = "the whole crate is tests")]

#[path = "support/registry.rs"]
mod registry;
#[path = "support/said.rs"]
mod said;

use registry::Registry;
use said::{Said, said};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

struct Language {
    name: &'static str,
    /// Jobs with JUnit reports, and how many tests these hold.
    tests: &'static [(&'static str, usize)],
    /// Files that jobs leave.
    files: &'static [&'static str],
    /// The same bytes whenever they are built.
    reproducible: &'static [&'static str],
    /// A job that a warm cache helps, and what it prints only then.
    warm: (&'static str, &'static str),
    /// A mistake: file, text, replacement; the job that finds it.
    mistake: (&'static str, &'static str, &'static str, &'static str),
}

#[test]
fn c() {
    runs_cold_warm_and_wrong(&Language {
        name: "c",
        tests: &[("test", 4)],
        files: &["bin/words", "dist/words.tar", "dist/words.tar.sha256"],
        reproducible: &["bin/words", "dist/words.tar"],
        warm: ("test", "Restored cache"),
        mistake: ("src/words.c", "count++", "count += 2", "test"),
    });
}

#[test]
fn python_with_postgres() {
    runs_cold_warm_and_wrong(&Language {
        name: "python",
        tests: &[("test", 4)],
        files: &["dist/tasks.pyz"],
        reproducible: &[],
        warm: ("test", "Restored cache"),
        mistake: ("tasks/store.py", "where not done", "where done", "test"),
    });
}

#[test]
fn node() {
    runs_cold_warm_and_wrong(&Language {
        name: "node",
        tests: &[("test: [parse]", 2), ("test: [format]", 2)],
        files: &["dist/duration.mjs"],
        reproducible: &["dist/duration.mjs"],
        warm: ("build", "bundle: from the cache"),
        mistake: ("src/format.mjs", "\"0s\"", "\"\"", "test: [format]"),
    });
}

#[test]
fn rust() {
    runs_cold_warm_and_wrong(&Language {
        name: "rust",
        tests: &[("test", 3)],
        files: &["dist/roman"],
        reproducible: &["dist/roman"],
        warm: ("build", "Restored cache"),
        mistake: ("src/lib.rs", "(9, \"IX\")", "(9, \"VIIII\")", "test"),
    });
}

#[test]
fn erlang() {
    runs_cold_warm_and_wrong(&Language {
        name: "erlang",
        tests: &[("eunit", 3)],
        files: &["_build/default/bin/tally"],
        reproducible: &[],
        warm: ("compile", "Restored cache"),
        mistake: ("src/tally.erl", "N + 1", "N + 2", "eunit"),
    });
}

#[track_caller]
fn runs_cold_warm_and_wrong(language: &Language) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: building images takes root");
        return;
    }
    let project = Project::of(language.name);
    let cold = project.ci(&["run"]).ended(0);
    assert!(!project.log(language.warm.0).contains(language.warm.1), "not cold: {cold}");
    let first = project.results(1);
    let files: Vec<&str> = first.files.keys().map(String::as_str).collect();
    assert_eq!(files, language.files);
    for (job, count) in language.tests {
        let report = &first.reports[*job];
        assert_eq!(report.len(), *count, "{job}: {report:?}");
        assert!(report.iter().all(|test| !test.failed), "{job}: {report:?}");
    }
    assert_eq!(first.reports.len(), language.tests.len());

    project.ci(&["run"]).ended(0);
    let log = project.log(language.warm.0);
    assert!(log.contains(language.warm.1), "{log}");
    let second = project.results(2);
    assert_eq!(second.reports, first.reports);
    assert!(second.files.keys().eq(first.files.keys()), "{:?}", second.files.keys());
    for file in language.reproducible {
        assert!(first.files[*file] == second.files[*file], "{file} differs between cold and warm");
    }

    let (file, right, wrong, job) = language.mistake;
    project.replace(file, right, wrong);
    project.ci(&["run"]).ended(1).says(&[job]);
    let third = project.results(3);
    assert!(third.reports[job].iter().any(|test| test.failed), "{:?}", third.reports);
}

/// A repository with a copy of an example.
struct Project {
    parent: TempDir,
}

impl Project {
    fn of(name: &str) -> Self {
        let project = Self { parent: tempfile::tempdir().unwrap() };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        done(Command::new("cp").arg("-r").arg(example).arg(project.dir()));
        let git = |arguments: &[&str]| {
            done(
                Command::new("git")
                    .current_dir(project.dir())
                    .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
                    .args(arguments),
            );
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "An example"]);
        let settings = format!("registries: {{docker.io: {{mirror: \"{}\"}}}}\n", registry().address);
        fs::create_dir(project.parent.path().join("slipway")).unwrap();
        fs::write(project.parent.path().join("slipway/settings.yml"), settings).unwrap();
        project
    }

    fn dir(&self) -> PathBuf {
        self.parent.path().join("app")
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        said(
            Command::new(env!("CARGO_BIN_EXE_ci"))
                .args(arguments)
                .current_dir(self.dir())
                .stdin(Stdio::null())
                .env("SLIPWAY_HOME", home())
                .env("XDG_CONFIG_HOME", self.parent.path())
                .env("NO_COLOR", "1"),
        )
    }

    fn log(&self, job: &str) -> String {
        self.ci(&["logs", job, "--unfold"]).ended(0).stdout
    }

    #[track_caller]
    fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.dir().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "`{from}` is not in {file}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// What the jobs of a run have left.
    fn results(&self, run: u32) -> Results {
        let run = run.to_string();
        let kept = self.ci(&["artifacts", "--run", &run, "--format", "json"]).ended(0).json();
        let mut results = Results::default();
        for job in kept["jobs"].as_array().unwrap() {
            let name = job["job"].as_str().unwrap();
            let place = self.parent.path().join(format!("artifacts-{run}-{}", name.replace('/', "-")));
            self.ci(&["artifacts", name, "--run", &run, "--extract", place.to_str().unwrap()]).ended(0);
            for set in job["artifacts"].as_array().unwrap() {
                let files =
                    set["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap());
                for path in files.filter(|path| place.join(path).is_file()) {
                    let content = fs::read(place.join(path)).unwrap();
                    match set["type"].as_str().unwrap() {
                        "junit" => {
                            let tests = tests_of(&String::from_utf8(content).unwrap());
                            results.reports.entry(name.to_owned()).or_default().extend(tests);
                        }
                        "archive" => {
                            results.files.insert(path.to_owned(), content);
                        }
                        _ => {}
                    }
                }
            }
        }
        results
    }
}

#[derive(Default)]
struct Results {
    /// Contents by path.
    files: BTreeMap<String, Vec<u8>>,
    /// By job.
    reports: BTreeMap<String, Vec<Test>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    name: String,
    failed: bool,
}

/// Tests of a JUnit report, sorted.
fn tests_of(report: &str) -> Vec<Test> {
    let test = |text: &str| {
        let name = text.split_once(" name=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
        let inner = text.split_once("</testcase>").map_or("", |(inner, _)| inner);
        Test { name, failed: inner.contains("<failure") || inner.contains("<error") }
    };
    let mut tests: Vec<Test> = report.split("<testcase").skip(1).map(test).collect();
    tests.sort();
    tests
}

/// Until this process ends.
fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::with(&["base", "gcc", "python", "postgres", "node", "rust", "erlang"]))
}

/// `SLIPWAY_HOME` of all projects: its images are pulled and unpacked once, also for the next run of these tests.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages");
        let _absent = fs::remove_dir_all(home.join("projects"));
        home
    })
}

#[track_caller]
fn done(command: &mut Command) {
    let said = said(command);
    assert_eq!(said.code, 0, "{command:?}: {said}");
}
