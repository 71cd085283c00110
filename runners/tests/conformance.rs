//! The behavioural suite against the executors that need nothing.
// clippy takes the functions that the tests share for production code
#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use runners::conformance::{Bench, suite};
use runners::executor::Executor;
use runners::image::Store;
use runners::job::Outcome;
use runners::sandbox::{Limits, Mode, Sandbox};
use runners::services::Networking;
use runners::{embedded::Embedded, fake::Fake, shell::Shell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn sandbox() -> Sandbox {
    Sandbox::with_init(PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init")))
}

#[tokio::test(flavor = "multi_thread")]
async fn shell_conforms() {
    let builds = tempfile::tempdir().unwrap();
    let (tried, broken) =
        suite(&Executor::Shell(Shell { builds: builds.path().join("b"), sandbox: sandbox() })).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 25, "{tried}");
    let left: Vec<_> = std::fs::read_dir(builds.path().join("b"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    // the job that is dropped half-way leaves its slot to the next one
    assert!(left.len() <= 1, "{left:?}");
}

#[tokio::test]
async fn fake_conforms() {
    let (tried, broken) = suite(&Executor::Fake(Fake)).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 8, "{tried}");
}

fn embedded(dir: &Path) -> Embedded {
    Embedded {
        sandbox: sandbox(),
        states: dir.join("s"),
        ci: PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init")),
        images: Arc::new(Store::open(&dir.join("images"), sandbox(), BTreeMap::new()).unwrap()),
        image: String::new(),
        limits: Limits::default(),
        networking: Networking::default(),
        hidden: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = embedded(dir.path());
    let capability = embedded.sandbox.probe(&embedded.states).await;
    assert!(capability.works.is_ok(), "no sandboxes here: {:?}", capability.works);
    let (tried, broken) = suite(&Executor::Embedded(embedded)).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 25, "{tried}");
}

/// Busybox and nothing else, with the user `app`.
fn busybox(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for name in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox, of package busybox-static");
    let listed = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(listed.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:7:8::/tmp:/bin/sh\n").unwrap();
    let entry = "#!/bin/sh\necho entrypoint as $(id -u) in $PWD\nexec \"$@\"\n";
    std::fs::write(root.join("bin/entry"), entry).unwrap();
    std::fs::set_permissions(root.join("bin/entry"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    root
}

/// What `docker save` would write of an image of that one layer.
fn saved(dir: &Path, root: &Path) -> PathBuf {
    let saved = dir.join("saved");
    std::fs::create_dir(&saved).unwrap();
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let layer = saved.join("layer.tar");
    run("tar", &["-C".as_ref(), root.as_ref(), "-cf".as_ref(), layer.as_ref(), ".".as_ref()]);
    let digest = run("sha256sum", &[layer.as_ref()]).split(' ').next().unwrap().to_owned();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": ["FROM_IMAGE=yes", "REF=image"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"]}]);
    std::fs::write(saved.join("config.json"), config.to_string()).unwrap();
    std::fs::write(saved.join("manifest.json"), manifest.to_string()).unwrap();
    saved
}

async fn in_image(dir: &Path) -> Embedded {
    let mut embedded = embedded(dir);
    let saved = saved(dir, &busybox(dir));
    embedded.images.import(&saved, Some("busybox:test"), &|_| {}).await.unwrap();
    embedded.image = "busybox:test".to_owned();
    embedded
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms_in_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let (tried, broken) = suite(&Executor::Embedded(in_image(dir.path()).await)).await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(tried > 25, "{tried}");
}

/// A job of image `busybox:test` with these options.
fn job(script: &[&str], options: serde_json::Value) -> pipelines::plan::Job {
    let mut job = Bench::job("job", script);
    let mut image = serde_json::json!({"name": "busybox:test"});
    image.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    job.work.image = Some(serde_json::from_value(image).unwrap());
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_used_as_gitlab_uses_them() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = in_image(dir.path()).await;
    let users = embedded.sandbox.probe(&embedded.states).await.mode != Mode::RootlessOneId;
    let bench = Bench::new(&Executor::Embedded(embedded)).unwrap();
    let own = ["id -u", "test -w README", "echo x > made", "test $(stat -c %u README) = $(id -u)"];
    let table: [(serde_json::Value, &[&str], bool, &str); 9] = [
        (serde_json::json!({}), &["echo $FROM_IMAGE $CI_JOB_IMAGE"], true, "yes busybox:test\n"),
        (serde_json::json!({}), &["test -e /bin/entry", "pwd"], true, "/builds/group/app\n"),
        (serde_json::json!({"entrypoint": ["/bin/entry"]}), &["echo script"], true, "entrypoint as 0 in /\n"),
        (serde_json::json!({"entrypoint": [""]}), &["echo plain"], true, "plain\n"),
        (
            serde_json::json!({"entrypoint": ["/bin/nothing"]}),
            &["true"],
            false,
            "the entrypoint `/bin/nothing`",
        ),
        (serde_json::json!({"docker": {"user": "app"}}), &own, users, "\n7\n"),
        (serde_json::json!({"docker": {"user": "nobody-here"}}), &["true"], false, "user `nobody-here`"),
        (
            serde_json::json!({"docker": {"platform": "linux/s390x"}, "pull_policy": ["never"]}),
            &["true"],
            false,
            "image `busybox:test` is not on this machine",
        ),
        (serde_json::json!({"name": "absent:1", "pull_policy": ["never"]}), &["true"], false, "`absent:1`"),
    ];
    for (options, script, good, shown) in table {
        let report = bench.run(job(script, options.clone())).await.unwrap();
        assert_eq!(report.outcome == Outcome::Success, good, "{options}: {}", report.log);
        assert!(
            report.log.contains(shown) || (!users && options.to_string().contains("app")),
            "{options}: {}",
            report.log
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_out_of_memory_is_told_from_one_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut embedded = embedded(dir.path());
    embedded.limits.memory = Some(64 << 20);
    if !embedded.sandbox.probe_limits(&embedded.states).await.unwrap().is_empty() {
        return;
    }
    let bench = Bench::new(&Executor::Embedded(embedded)).unwrap();
    let report = bench.run(Bench::job("greedy", &["head -c 300000000 /dev/zero | tail"])).await.unwrap();
    assert!(report.log.contains("out of memory: the job reached `limits: {memory}`"), "{}", report.log);
    let report = bench.run(Bench::job("killed", &["kill -KILL $$; sleep 1000"])).await.unwrap();
    assert!(report.log.contains("exit code 137: SIGKILL"), "{}", report.log);
}
