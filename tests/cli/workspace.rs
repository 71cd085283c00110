//! The sources as jobs see them: the variables `GIT_*`, submodules, LFS, and what snapshots share.

use crate::tree::{Said, Tree};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

#[track_caller]
fn good(said: Said) -> Said {
    assert_eq!(said.code, 0, "{said}");
    said
}

/// What a job's script wrote, without the echoed commands.
fn output(tree: &Tree, job: &str) -> Vec<String> {
    let log = tree.log(job);
    let script = log.lines().skip_while(|line| !line.contains(":step_script")).skip(1);
    let script = script.take_while(|line| !line.starts_with("section_end"));
    script.filter(|line| !line.starts_with('\u{1b}')).map(str::to_owned).collect()
}

fn snapshots(tree: &Tree) -> PathBuf {
    let projects = fs::read_dir(tree.home().join("projects")).unwrap();
    projects.flatten().map(|entry| entry.path().join("snapshots")).find(|path| path.is_dir()).unwrap()
}

fn head(dir: &Path) -> String {
    let output = Command::new("git").arg("-C").arg(dir).args(["rev-parse", "HEAD"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn git_variables_say_what_a_job_sees() {
    let yaml = "
whole: {script: [git log --format=%s | paste -sd' ', git describe --tags, git status --short]}
shallow:
  variables: {GIT_DEPTH: 2}
  script: [git log --format=%s | paste -sd' ', git status --short]
deep:
  variables: {GIT_DEPTH: 50}
  script: [git log --format=%s | paste -sd' ', git status --short]
no-files:
  variables: {GIT_CHECKOUT: 'false'}
  script: [ls -A, git log -1 --format=%s]
none:
  variables: {GIT_STRATEGY: none, GIT_DEPTH: 2}
  script: [ls -A]
elsewhere:
  variables: {GIT_CLONE_PATH: $CI_BUILDS_DIR/$CI_CONCURRENT_ID/other/place}
  script: [test $CI_PROJECT_DIR = $CI_BUILDS_DIR/0/other/place, test $PWD = $CI_PROJECT_DIR, ls]
outside:
  variables: {GIT_CLONE_PATH: $CI_BUILDS_DIR/../place}
  script: [ls]
  allow_failure: true
wrong:
  variables: {GIT_DEPTH: some}
  script: [ls]
  allow_failure: true
unknown:
  variables: {GIT_STRATEGY: copy}
  script: [ls]
  allow_failure: true
";
    for executor in ["sandbox", "shell"] {
        let tree = Tree::pipeline(yaml);
        tree.git(&["tag", "v1"]);
        for name in ["second", "third"] {
            tree.write(name, name);
            tree.git(&["add", "-A"]);
            tree.git(&["commit", "-q", "-m", name]);
        }
        let said = good(tree.run(&["run", "--executor", executor]));
        let short = &head(&tree.dir())[..7];
        let expected: &[(&str, &[&str])] = &[
            ("whole", &["third second first", &format!("v1-2-g{short}")]),
            ("shallow", &["third second"]),
            ("deep", &["third second first"]),
            ("no-files", &[".git", "third"]),
            ("none", &[]),
            ("elsewhere", &["second", "third"]),
        ];
        for (job, lines) in expected {
            assert_eq!(output(&tree, job), *lines, "{executor} {job}: {}", tree.log(job));
        }
        for text in [
            "has to be within `$CI_BUILDS_DIR`",
            "`GIT_DEPTH` is `some`: a number is expected",
            "unknown GIT_STRATEGY `copy`",
        ] {
            assert!(said.contains(text), "{executor}: {said}");
        }
    }
}

#[test]
fn a_new_commit_and_an_edit_share_what_did_not_change() {
    let tree = Tree::with(&[
        (".gitlab-ci.yml", "j: {script: [cat a d/b || true, git status --short, ls d || echo no d]}\n"),
        ("a", "1\n"),
        ("d/b", "1\n"),
        ("same", "1\n"),
        ("turns", "file\n"),
    ]);
    good(tree.run(&["run"]));
    let first = head(&tree.dir());

    tree.write("a", "2\n");
    fs::remove_dir_all(tree.dir().join("d")).unwrap();
    good(tree.run(&["run"]));
    let told = output(&tree, "j");
    for line in ["2", " M a", " D d/b", "no d"] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }

    fs::remove_file(tree.dir().join("turns")).unwrap();
    tree.write("turns/into", "directory\n");
    tree.git(&["add", "-A"]);
    tree.git(&["commit", "-q", "-m", "second"]);
    good(tree.run(&["run"]));
    let told = output(&tree, "j");
    assert!(
        !told.iter().any(|line| line.starts_with(" M") || line.starts_with(" D") || line.starts_with("??")),
        "{told:?}"
    );
    let (old, new) = (snapshots(&tree).join(&first), snapshots(&tree).join(head(&tree.dir())));
    let inode = |dir: &Path| fs::metadata(dir.join("same")).unwrap().ino();
    assert_eq!(inode(&old), inode(&new));
    assert_eq!(fs::read_to_string(old.join("a")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(old.join("turns")).unwrap(), "file\n");
    assert_eq!(fs::read_to_string(new.join("turns/into")).unwrap(), "directory\n");
    assert!(!new.join("d").exists());

    // what attributes say about line ends holds for files that did not change, too
    tree.write(".gitattributes", "same text eol=crlf\n");
    tree.git(&["add", "-A"]);
    tree.git(&["commit", "-q", "-m", "third"]);
    good(tree.run(&["run", "--committed"]));
    assert_eq!(fs::read(snapshots(&tree).join(head(&tree.dir())).join("same")).unwrap(), b"1\r\n");
}

#[test]
fn submodules_come_from_the_clones_that_are_here() {
    let inner = Tree::with(&[("deep.txt", "deep\n")]);
    let lib = Tree::with(&[("lib.txt", "lib\n")]);
    let add = |tree: &Tree, of: &Tree, path: &str| {
        let url = of.dir();
        tree.git(&[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "add",
            "-q",
            url.to_str().unwrap(),
            path,
        ]);
        tree.git(&["commit", "-q", "-m", "submodule"]);
    };
    add(&lib, &inner, "inner");
    let yaml = "
none: {script: [ls -A libs/one]}
normal:
  variables: {GIT_SUBMODULE_STRATEGY: normal}
  script: [cat libs/one/lib.txt, ls -A libs/one/inner, git submodule status, git status --short]
recursive:
  variables: {GIT_SUBMODULE_STRATEGY: recursive}
  script: [cat libs/one/inner/deep.txt, 'git -C libs/one log -1 --format=%s', git status --short]
not-this:
  variables: {GIT_SUBMODULE_STRATEGY: normal, GIT_SUBMODULE_PATHS: ':(exclude)libs/one'}
  script: [ls -A libs/one]
";
    let tree = Tree::pipeline(yaml);
    add(&tree, &lib, "libs/one");
    let said = tree.run(&["run", "recursive"]);
    assert!(said.code == 1 && said.contains("git submodule update --init --recursive"), "{said}");
    tree.git(&["-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", "--recursive"]);
    good(tree.run(&["run"]));
    let told = |job: &str| output(&tree, job);
    assert_eq!(told("none"), Vec::<String>::new());
    assert_eq!(told("not-this"), Vec::<String>::new());
    assert_eq!(told("recursive"), ["deep", "submodule"], "{}", tree.log("recursive"));
    let normal = told("normal");
    assert_eq!(normal[0], "lib", "{normal:?}");
    assert!(
        normal.len() == 2 && normal[1].starts_with(&format!(" {} libs/one", head(&lib.dir()))),
        "{normal:?}"
    );
}

#[test]
fn lfs_files_are_what_they_stand_for() {
    let content = "large content\n".repeat(200);
    let id = slipway::digest::sha256_hex(content.as_bytes());
    let pointer = |id: &str, size: usize| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {size}\n")
    };
    let yaml = "
content: {script: [cksum <big.bin, git status --short]}
pointers:
  variables: {GIT_LFS_SKIP_SMUDGE: 1}
  script: [head -1 big.bin]
";
    let tree = Tree::with(&[
        (".gitlab-ci.yml", yaml),
        (".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n"),
        ("big.bin", &pointer(&id, content.len())),
        ("absent.bin", &pointer(&"0".repeat(64), 12)),
    ]);
    tree.write(&format!(".git/lfs/objects/{}/{}/{id}", &id[..2], &id[2..4]), &content);
    good(tree.run(&["run", "--committed"]));
    let size = content.len().to_string();
    let told = output(&tree, "content");
    assert!(told.iter().any(|line| line.split(' ').nth(1) == Some(&size)), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with(" M")), "{told:?}");
    assert!(tree.log("content").contains("`absent.bin` in Git LFS: the contents are not in this clone"));
    assert!(output(&tree, "pointers").iter().any(|line| line.starts_with("version https://git-lfs")));
}

#[test]
fn shallow_clones_worktrees_and_borrowed_objects_can_be_run() {
    let origin = Tree::pipeline(
        "j: {script: [git log --format=%s | paste -sd' ', git status --short, test -f two]}\n",
    );
    for name in ["one", "two"] {
        origin.write(name, name);
        origin.git(&["add", "-A"]);
        origin.git(&["commit", "-q", "-m", name]);
    }
    let url = format!("file://{}", origin.dir().display());
    let from = origin.dir().to_string_lossy().into_owned();
    let clones: [(&[&str], &str); 2] = [
        (&["clone", "-q", "--depth", "2", &url, "."], "two one"),
        (&["clone", "-q", "--shared", &from, "."], "two one first"),
    ];
    for (arguments, history) in clones {
        let tree = Tree::bare();
        tree.git(arguments);
        good(tree.run(&["run"]));
        assert!(output(&tree, "j").contains(&history.to_owned()), "{arguments:?}: {}", tree.log("j"));
    }
    let beside = origin.dir().join("../beside");
    origin.git(&["worktree", "add", "-q", "-b", "other", beside.to_str().unwrap()]);
    let said = good(origin.run(&["run", "-C", beside.to_str().unwrap()]));
    assert!(said.contains("two one first"), "{said}");
}
