//! What runs leave: `ci artifacts`, `ci clean`, expiry, limits, releases and their tags.

use crate::tree::{Said, Tree};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const YAML: &str = "
build:
  script:
    - mkdir -p out/deep; echo one >out/a; echo two >out/deep/b; ln -s /etc/passwd out/link
    - echo '<testsuite/>' >junit.xml
    - echo SECRET_NAME=hidden-value >vars
  artifacts:
    paths: [out]
    expire_in: 1 day
    reports: {junit: junit.xml, dotenv: vars}
matrix:
  parallel: 2
  script: [echo $CI_NODE_INDEX >n$CI_NODE_INDEX]
  artifacts: {paths: ['n*'], expire_in: never}
nothing:
  script: ['true']
";

#[track_caller]
fn good(said: Said) -> Said {
    assert_eq!(said.code, 0, "{said}");
    said
}

fn project(tree: &Tree) -> PathBuf {
    let run = tree.newest_run().unwrap();
    run.parent().and_then(Path::parent).unwrap().to_owned()
}

fn runs(tree: &Tree) -> Vec<String> {
    let entries = fs::read_dir(project(tree).join("runs")).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Makes a file look as if it was written so many days ago.
fn age(path: &Path, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn artifacts_are_listed_and_extracted() {
    let tree = Tree::pipeline(YAML);
    let none = tree.run(&["artifacts"]);
    assert!(none.code == 2 && none.contains("nothing was run here yet"), "{none}");
    good(tree.run(&["run"]));

    let list = good(tree.run(&["artifacts"]));
    for text in ["run 1\n", "build", "matrix 2/2", "never expires", "reports: dotenv, junit"] {
        assert!(list.contains(text), "{text}: {list}");
    }
    assert!(!list.contains("nothing") && !list.contains("hidden-value"), "{list}");
    let files = good(tree.run(&["artifacts", "build"]));
    assert!(files.contains("out/deep/b") && files.contains("junit.xml  (junit)"), "{files}");
    let json = good(tree.run(&["artifacts", "matrix", "--format", "json"]));
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(document["jobs"][0]["artifacts"][0]["files"][0]["path"], "n1");
    assert!(!json.contains("hidden-value"));

    let to = tree.dir().join("../taken");
    good(tree.run(&["artifacts", "--extract", to.to_str().unwrap()]));
    assert_eq!(fs::read_to_string(to.join("out/deep/b")).unwrap(), "two\n");
    assert_eq!(fs::read_link(to.join("out/link")).unwrap(), Path::new("/etc/passwd"));
    assert!(to.join("n1").exists() && to.join("n2").exists() && to.join("junit.xml").exists());

    for (arguments, text) in [
        (["artifacts", "nothing"].as_slice(), "job `nothing` has left no artifacts"),
        (&["artifacts", "--run", "9"], "there is no run 9"),
        (&["artifacts", "buidl"], "these have: build, matrix 1/2, matrix 2/2"),
    ] {
        let said = tree.run(arguments);
        assert!(said.code == 2 && said.contains(text), "{arguments:?}: {said}");
    }
}

#[test]
fn extracting_never_leaves_the_directory() {
    let tree = Tree::pipeline(YAML);
    good(tree.run(&["run", "build"]));
    let parent = tree.dir().join("..");
    fs::create_dir_all(parent.join("outside")).unwrap();
    let to = parent.join("taken");
    fs::create_dir(&to).unwrap();
    std::os::unix::fs::symlink("../outside", to.join("out")).unwrap();
    let said = tree.run(&["artifacts", "--extract", to.to_str().unwrap()]);
    assert!(said.code == 1 && said.contains("leads out of the directory"), "{said}");
    assert_eq!(fs::read_dir(parent.join("outside")).unwrap().count(), 0);
}

#[test]
fn artifacts_expire_but_those_of_the_newest_run_stay() {
    let tree = Tree::pipeline(YAML);
    good(tree.run(&["run"]));
    let index = tree.newest_run().unwrap().join("jobs/build/1/artifacts.json");
    age(&index, 2);
    fs::remove_file(tree.newest_run().unwrap().join("kept.json")).unwrap();
    good(tree.run(&["run"]));
    let old = good(tree.run(&["artifacts", "--run", "1"]));
    assert!(old.contains("expired") && old.contains("never expires"), "{old}");
    assert!(!index.with_file_name("artifacts.tar.zst").exists());
    assert!(index.with_file_name("job.log").exists());
    let taken = tree.dir().join("../taken");
    let said = good(tree.run(&["artifacts", "build", "--run", "1", "--extract", taken.to_str().unwrap()]));
    assert!(said.contains("build: expired"), "{said}");
    // nothing newer than run 2: its artifacts stay
    age(&tree.newest_run().unwrap().join("jobs/build/1/artifacts.json"), 2);
    good(tree.run(&["clean", "--older-than", "1d"]));
    assert!(tree.newest_run().unwrap().join("jobs/build/1/artifacts.tar.zst").exists());
}

#[test]
fn cleaning_obeys_its_limits() {
    let yaml = "j:\n  cache: {key: k, paths: [c]}\n  script: [mkdir -p c, date >c/x]\n";
    let tree = Tree::pipeline(yaml);
    for _ in 0..3 {
        good(tree.run(&["run"]));
    }
    let dry = good(tree.run(&["clean", "--keep-runs", "1", "--dry-run"]));
    assert!(dry.contains("nothing was removed") && runs(&tree) == ["1", "2", "3"], "{dry}");
    let json = good(tree.run(&["clean", "--keep-runs", "2", "--format", "json"]));
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&document["removed"][0]["kind"], &document["removed"][0]["name"]),
        (&"run".into(), &"1".into())
    );
    assert_eq!(runs(&tree), ["2", "3"]);

    let cache = project(&tree).join("cache");
    let archives = || fs::read_dir(&cache).unwrap().flatten().map(|entry| entry.path());
    archives().for_each(|path| age(&path, 9));
    age(&project(&tree).join("runs/2/journal.jsonl"), 9);
    let table = good(tree.run(&["clean", "--older-than", "7d"]));
    assert!(table.contains("caches            1"), "{table}");
    assert_eq!((runs(&tree), archives().count()), (vec!["3".to_owned()], 0));
    assert!(
        !tree.home().join("trash").exists() || fs::read_dir(tree.home().join("trash")).unwrap().count() == 0
    );

    for (arguments, text) in [
        (["clean", "--older-than", "soon"].as_slice(), "`soon` is not a duration"),
        (&["clean", "--max-size", "big"], "`big` is not a size"),
    ] {
        let said = tree.run(arguments);
        assert!(said.code == 2 && said.contains(text), "{arguments:?}: {said}");
    }
    good(tree.run(&["clean", "--all", "--max-size", "0"]));
    assert_eq!(runs(&tree), ["3"], "the newest run stays");
}

#[test]
fn the_end_of_a_run_keeps_to_the_settings() {
    let tree =
        Tree::with(&[(".gitlab-ci.yml", "j: {script: [date]}\n"), (".ci/settings.yml", "keep: {runs: 2}\n")]);
    for _ in 0..4 {
        good(tree.run(&["run"]));
    }
    assert_eq!(runs(&tree), ["3", "4"]);
    tree.write(".ci/settings.yml", "keep: {size: lots}\n");
    let said = tree.run(&["run"]);
    assert!(said.code == 2 && said.contains("`lots` is not a size"), "{said}");
}

#[test]
fn the_same_artifacts_are_kept_once() {
    let yaml = "j:\n  script: [cp other same, date +%N >changes]\n  artifacts: {paths: [same], reports: {junit: changes}}\n";
    let tree = Tree::with(&[(".gitlab-ci.yml", yaml), ("other", "content\n")]);
    good(tree.run(&["run"]));
    good(tree.run(&["run"]));
    let inode = |run: &str, file: &str| {
        let dir = project(&tree).join("runs").join(run).join("jobs/j/1");
        fs::metadata(dir.join(file)).unwrap().ino()
    };
    assert_eq!(inode("1", "artifacts.tar.zst"), inode("2", "artifacts.tar.zst"));
    assert_ne!(inode("1", "report-junit.tar.zst"), inode("2", "report-junit.tar.zst"));
    good(tree.run(&["clean", "--keep-runs", "1"]));
    let to = tree.dir().join("../taken");
    good(tree.run(&["artifacts", "--extract", to.to_str().unwrap()]));
    assert_eq!(fs::read_to_string(to.join("same")).unwrap(), "content\n");
}

#[test]
fn a_release_is_checked_written_and_tagged() {
    let yaml = "
release:
  variables: {VERSION: '1.2'}
  script: [echo 'What is new' >NOTES.md]
  release:
    tag_name: v$VERSION
    description: NOTES.md
    assets:
      links:
        - {name: package, url: 'https://example.org/$VERSION/app.tar.gz', filepath: /bin/app, link_type: package}
";
    let tree = Tree::with(&[(".gitlab-ci.yml", yaml), (".ci/settings.yml", "release: {git_tag: true}\n")]);
    let said = good(tree.run(&["run"]));
    assert!(said.contains("made tag v1.2 at") && said.contains("nothing was sent"), "{said}");
    let text = fs::read_to_string(tree.newest_run().unwrap().join("jobs/release/1/release.json")).unwrap();
    let release: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(release["tag_name"], "v1.2");
    assert_eq!(release["description"], "What is new\n");
    assert_eq!(release["assets"]["links"][0]["url"], "https://example.org/1.2/app.tar.gz");
    assert_eq!(release["assets"]["links"][0]["direct_asset_path"], "/bin/app");
    tree.git(&["rev-parse", "--verify", "refs/tags/v1.2"]);
    assert!(good(tree.run(&["run"])).contains("tag v1.2 is there already"));

    tree.write(".gitlab-ci.yml", &yaml.replace("v$VERSION", "$UNSET"));
    let said = tree.run(&["run"]);
    assert!(said.code == 1 && said.contains("`tag_name` is empty after expansion"), "{said}");
}

#[test]
fn secrets_and_tokens_say_where_they_come_from() {
    let yaml = "
job:
  id_tokens:
    ONE: {aud: https://vault.example.org}
    TWO: {aud: https://vault.example.org}
  script: [test \"$ONE\" = given]
";
    let tree = Tree::with(&[(".gitlab-ci.yml", yaml), (".ci/variables.yml", "ONE: given\n")]);
    let said = good(tree.run(&["run"]));
    assert!(said.contains("ID token ONE: taken from the variables of this project"), "{said}");
    assert!(said.contains("ID token `TWO` is not set, no tokens are issued here"), "{said}");
}
