//! A disk that is full: clear errors, nothing half done, other jobs live. Only root can mount a small one.

use crate::tree::{Said, Tree, said};
use std::fs;
use std::process::Command;

/// Runs `ci` with its state on a disk of so many MiB, in mounts of its own. What is half done is listed on standard
/// output as `LEFT path`. None: we are not root.
#[allow(clippy::print_stderr, reason = "who runs the tests should see what was not tested")]
fn on_a_small_disk(tree: &Tree, mebibytes: u32, arguments: &[&str]) -> Option<Said> {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return None;
    }
    fs::create_dir_all(tree.home()).unwrap();
    let script = r#"
        home=$1; shift
        mount -t tmpfs -o "size=$1m" tmpfs "$home" || exit 99; shift
        "$@"; code=$?
        find "$home" \( -name '.making-*' -o -name '.new-*' -o -name '.tmp*' \) | sed 's/^/LEFT /'
        find "$home" -name '*.zst' | sed 's/^/KEPT /'
        exit $code"#;
    let ci = tree.ci(arguments);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(tree.home()).arg(mebibytes.to_string());
    command.arg(ci.get_program()).args(ci.get_args()).current_dir(tree.dir());
    command.envs(ci.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(said(&mut command))
}

#[test]
fn a_job_that_fills_the_disk_fails_alone() {
    let yaml = "
stages: [one, two]
fills: {stage: one, script: ['head -c 60M /dev/zero >big']}
other: {stage: one, script: [echo fine]}
later: {stage: two, when: always, script: ['echo still >file', 'cat file']}
";
    for executor in ["sandbox", "shell"] {
        let arguments = ["run", "-j1", "--executor", executor];
        let Some(said) = on_a_small_disk(&Tree::pipeline(yaml), 24, &arguments) else { return };
        assert_eq!(said.code, 1, "{said}");
        for text in [
            "No space left on device",
            "fills  one    failed",
            "other  one    success",
            "later  two    success",
        ] {
            assert!(said.contains(text), "{executor}: {text}: {said}");
        }
        assert!(!said.contains("LEFT"), "{said}");
    }
}

#[test]
fn artifacts_and_caches_that_do_not_fit_leave_nothing() {
    // what can't be compressed takes its place twice: in the workspace and in the archive
    let yaml = "
stages: [one, two]
leaves:
  stage: one
  script: ['head -c 14M /dev/urandom >big']
  artifacts: {paths: [big]}
caches:
  stage: one
  script: ['head -c 14M /dev/urandom >big']
  cache: {key: k, paths: [big]}
later: {stage: two, when: always, script: [echo fine], needs: []}
";
    for executor in ["sandbox", "shell"] {
        let arguments = ["run", "-j1", "--executor", executor];
        let Some(said) = on_a_small_disk(&Tree::pipeline(yaml), 24, &arguments) else { return };
        assert_eq!(said.code, 1, "{said}");
        for text in [
            "No space left on device",
            "leaves  one    failed (runner_system_failure)",
            "caches  one    success",
            "later   two    success",
        ] {
            assert!(said.contains(text), "{executor}: {text}: {said}");
        }
        assert!(said.contains("could not be saved"), "{said}");
        assert!(!said.contains("LEFT") && !said.contains("KEPT"), "{said}");
    }
}

#[test]
fn sources_that_do_not_fit_are_not_half_there() {
    let tree = Tree::pipeline("j: {script: [ls]}\n");
    let noise: Vec<u8> = (0..6_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(tree.dir().join("big"), noise).unwrap();
    tree.git(&["add", "-A"]);
    tree.git(&["commit", "-q", "-m", "big"]);
    let Some(said) = on_a_small_disk(&tree, 4, &["run"]) else { return };
    assert_eq!(said.code, 2, "{said}");
    assert!(said.contains("making a snapshot of the sources") && said.contains("No space left"), "{said}");
    assert!(!said.contains("LEFT"), "{said}");
}
