//! Sandboxes over the layers of images. The images are made of busybox, which needs nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use runners::archive::Selection;
use runners::sandbox::{Error, ExitStatus, Mode, Output, Spec, StateDir, Streams, Task};
use tempfile::TempDir;

use crate::job::{Job, PROJECT};

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 14] = [
    "cat", "chown", "echo", "grep", "hostname", "id", "ls", "mkdir", "rm", "sh", "sleep", "stat", "test",
    "touch",
];

/// Layers of images, and where they are.
struct Image {
    dir: TempDir,
    layers: Vec<PathBuf>,
}

impl Image {
    /// One layer with a shell, and the users `root` and `app`.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut image = Self { dir, layers: Vec::new() };
        let base = image.layer("base");
        for name in ["bin", "etc", "tmp", "home/app"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, base.join("bin/busybox")).expect("busybox, of package busybox-static");
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(base.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\n")
            .unwrap();
        fs::write(base.join("etc/group"), "root:x:0:\napp:x:8:\nextra:x:9:app\n").unwrap();
        image
    }

    /// A new uppermost layer, empty.
    fn layer(&mut self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        self.layers.insert(0, path.clone());
        path
    }

    fn job(&self) -> Job {
        let mut job = Job::new();
        let workspace = job.spec.mounts.pop().unwrap();
        job.spec = Spec::image(job.state.path(), self.layers.clone());
        job.spec.mounts.push(workspace);
        job
    }
}

/// With one id only there are no other users, and nothing to test.
async fn has_users(job: &Job) -> bool {
    job.sandbox.probe(&job.dir.path().join("states")).await.mode != Mode::RootlessOneId
}

#[tokio::test]
async fn a_job_sees_the_images_files_and_none_of_the_hosts() {
    let image = Image::new();
    let job = image.job();
    assert_eq!(job.output("ls /").await, "bin\nbuilds\ndev\netc\nhome\nproc\nsys\ntmp\n");
    job.output("echo new > /bin/new && rm /etc/group").await;
    assert_eq!(job.output("cat /bin/new; test -e /etc/group || echo gone").await, "new\ngone\n", "kept");
    let base = &image.layers[0];
    assert!(base.join("etc/group").exists() && !base.join("bin/new").exists(), "the layer stays as it is");
    assert_eq!(job.output("cat README && echo changed > README && cat README").await, "read me\nchanged\n");
    job.finish().await;
}

#[tokio::test]
async fn a_hundred_and_thirty_layers_lie_over_one_another() {
    let mut image = Image::new();
    for number in 0..130 {
        let layer = image.layer(&format!("sha256-{number:064}"));
        fs::write(layer.join("top"), format!("{number}\n")).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
    }
    let job = image.job();
    assert_eq!(job.output("cat /top; echo /file-*").await.split_whitespace().count(), 131);
    assert_eq!(job.output("cat /top").await, "129\n");
    job.finish().await;
}

#[tokio::test]
async fn names_of_this_machine_are_in_etc_even_where_links_lead_nowhere() {
    let mut image = Image::new();
    let layer = image.layer("links");
    fs::create_dir(layer.join("etc")).unwrap();
    symlink("../run/systemd/resolve/stub.conf", layer.join("etc/resolv.conf")).unwrap();
    let job = image.job();
    assert_eq!(
        job.output("cat /etc/hostname; hostname; grep -c slipway /etc/hosts").await,
        "slipway\nslipway\n1\n"
    );
    let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(job.output("cat /etc/resolv.conf").await, host);
    job.finish().await;
}

#[tokio::test]
async fn links_of_an_image_lead_nowhere_outside_of_it() {
    let mut image = Image::new();
    let outside = image.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let layer = image.layer("hostile");
    fs::create_dir(layer.join("etc")).unwrap();
    for (link, target) in [
        ("builds", outside.clone()),
        ("dev", outside.clone()),
        ("proc", outside.join("proc")),
        ("etc/hosts", Path::new("/../../../../..").join(outside.strip_prefix("/").unwrap()).join("hosts")),
        ("etc/passwd", PathBuf::from("/proc/1/root/etc/passwd")),
        ("etc/group", PathBuf::from("/dev/zero")),
    ] {
        symlink(target, layer.join(link)).unwrap();
    }
    let job = image.job();
    // whether such an image works is its own business
    let script = Task::Run(runners::sandbox::Command {
        argv: ["sh", "-c", "echo > /etc/hosts; touch /builds/x"].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: "/".into(),
    });
    if let Ok(mut process) = job.sandbox.start(&job.spec, script, Streams::piped()).await {
        process.wait().await.unwrap();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    job.finish().await;
}

#[tokio::test]
async fn files_of_users_that_are_none_are_not_read() {
    let mut image = Image::new();
    let layer = image.layer("pipe");
    fs::create_dir(layer.join("etc")).unwrap();
    // reading it would wait for ever
    let made = std::process::Command::new("mkfifo").arg(layer.join("etc/passwd")).status().unwrap();
    assert!(made.success());
    let mut job = image.job();
    assert_eq!(job.output("echo runs").await, "runs\n");
    job.spec.user = "app".to_owned();
    let error = job.sandbox.start(&job.spec, Job::command("true"), Streams::piped()).await.unwrap_err();
    assert!(error.to_string().contains("user `app`"), "{error}");
    job.finish().await;
}

#[tokio::test]
async fn the_images_user_has_its_ids_groups_home_and_workspace() {
    let image = Image::new();
    let mut job = image.job();
    if !has_users(&job).await {
        return;
    }
    job.spec.user = "app".to_owned();
    let Task::Run(mut command) =
        Job::command("id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status")
    else {
        unreachable!()
    };
    command.env.retain(|(name, _)| name != "HOME");
    let mut process = job.sandbox.start(&job.spec, Task::Run(command), Streams::piped()).await.unwrap();
    let mut text = String::new();
    let mut stdout = process.stdout.take().unwrap();
    tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut text).await.unwrap();
    process.wait().await.unwrap();
    assert_eq!(text, "7\n8\n8 9\n/home/app\nCapEff:\t0000000000000000\n");

    job.output("echo mine > README; mkdir made; echo x > made/new; rm src/main.txt").await;
    assert_eq!(job.output("stat -c %u:%g . README made made/new src").await, "7:8\n".repeat(5));
    assert_ne!(job.run("echo > /etc/passwd").await.0, ExitStatus::Code(0));
    let checkout = job.dir.path().join("checkout");
    assert_eq!(fs::read_to_string(checkout.join("README")).unwrap(), "read me\n");
    let ours = rustix::process::geteuid().as_raw();
    assert_eq!(fs::metadata(checkout.join("src")).unwrap().uid(), ours, "the checkout's owner is the same");
    job.finish().await;
}

#[tokio::test]
async fn what_is_unpacked_belongs_to_the_images_user() {
    let image = Image::new();
    let mut job = image.job();
    if !has_users(&job).await {
        return;
    }
    job.spec.user = "app".to_owned();
    job.output("mkdir kept; echo 1 > kept/file").await;
    let archive = tempfile::tempfile().unwrap();
    let selection = Selection { paths: vec!["kept".to_owned()], ..Selection::default() };
    let task = Task::Archive { dir: PROJECT.into(), selection };
    let streams = Streams { stdin: None, stdout: archive.try_clone().unwrap().into(), stderr: Output::Null };
    job.sandbox.start(&job.spec, task, streams).await.unwrap().wait().await.unwrap();
    job.output("rm -r kept").await;
    let mut archive = archive;
    std::io::Seek::rewind(&mut archive).unwrap();
    let streams = Streams { stdin: Some(archive.into()), stdout: Output::Null, stderr: Output::Null };
    let task = Task::Restore { dir: PROJECT.into() };
    job.sandbox.start(&job.spec, task, streams).await.unwrap().wait().await.unwrap();
    assert_eq!(job.output("echo 2 >> kept/file; stat -c %u kept kept/file").await, "7\n7\n");
    job.finish().await;
}

#[tokio::test]
async fn an_image_without_a_shell_or_the_user_says_so() {
    let mut image = Image::new();
    image.layers.clear();
    image.layer("empty");
    let job = image.job();
    let error = job.sandbox.start(&job.spec, Job::command("true"), Streams::piped()).await.unwrap_err();
    assert!(matches!(error, Error::Setup(_)) && error.to_string().contains("executing `sh`"), "{error}");
    job.finish().await;
}

#[tokio::test]
async fn programs_of_an_image_may_become_root_by_their_mode() {
    let image = Image::new();
    let job = image.job();
    let mounts = job.output("cat /proc/self/mountinfo").await;
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.contains(" overlay ") && root.contains("nodev") && !root.contains("nosuid"), "{root}");
    job.finish().await;
}

#[tokio::test]
async fn layers_on_long_paths_with_odd_names_work() {
    let mut image = Image::new();
    let mut name = String::from("with, comma: and \\ ");
    name.push_str(&"x".repeat(200));
    let layer = image.layer(&name);
    fs::write(layer.join("odd"), "odd\n").unwrap();
    let deep = image.dir.path().join("y".repeat(200));
    let state = StateDir::create(&deep, "job").unwrap();
    let job = image.job();
    let mut spec = Spec::image(state.path(), image.layers.clone());
    spec.mounts.push(state.workspace(vec![job.dir.path().join("checkout")], Path::new(PROJECT)));
    let mut process =
        job.sandbox.start(&spec, Job::command("grep odd /odd README"), Streams::piped()).await.unwrap();
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(0));
    state.remove(&job.sandbox).await.unwrap();
    job.finish().await;
}
