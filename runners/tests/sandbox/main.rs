//! The embedded container runtime against the real kernel. All tests but the last two hold for root and for
//! ordinary users alike; when run by root, `an_ordinary_user_gets_the_same` runs them again as one.
#![cfg(target_os = "linux")]
// clippy takes the functions that the tests share for production code
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test's panic is its report")]

mod confinement;
mod health;
mod image;
mod job;
mod limits;
#[path = "../support/ordinary_user.rs"]
mod ordinary_user;
mod plain;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use runners::sandbox::{
    Access, Command, Error, ExitStatus, Mode, Mount, Spec, StateDir, Streams, Task, sweep,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::job::{Job, PROJECT, eventually, first_line, is_root, pid_of, runs, sandbox, unique_sleep};
use crate::ordinary_user::same_tests_as_ordinary_user;

#[tokio::test]
async fn exit_codes_and_signals_come_out_as_they_are() {
    let job = Job::new();
    let cases = [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 3", ExitStatus::Code(3)),
        ("exit 255", ExitStatus::Code(255)),
        ("kill -KILL $$", ExitStatus::Signal(9)),
        ("kill -TERM $$", ExitStatus::Signal(15)),
    ];
    for (script, expected) in cases {
        assert_eq!(job.run(script).await.0, expected, "{script}");
    }
    job.finish().await;
}

#[tokio::test]
async fn what_keeps_a_task_from_starting_is_an_error_with_its_step() {
    let job = Job::new();
    let mut missing_program =
        Command { argv: vec!["no-such-program".into()], env: Spec::host_env(), cwd: "/".into() };
    let cases = [
        (job.spec.clone(), missing_program.clone(), "executing `no-such-program`: No such file"),
        (
            Spec {
                mounts: vec![Mount::Bind {
                    source: "/no/such/source".into(),
                    target: "/builds/x".into(),
                    access: Access::ReadOnly,
                }],
                ..job.spec.clone()
            },
            {
                missing_program.argv = vec!["true".into()];
                missing_program
            },
            "binding `/no/such/source`: No such file",
        ),
    ];
    for (spec, command, expected) in cases {
        let error = job.sandbox.start(&spec, Task::Run(command), Streams::piped()).await.unwrap_err();
        assert!(matches!(error, Error::Setup(_)) && error.to_string().contains(expected), "{error}");
    }
    job.finish().await;
}

#[tokio::test]
async fn scratch_directories_are_the_jobs_own_and_last_as_long_as_the_job() {
    let job = Job::new();
    let outside = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    for dir in ["/tmp", "/var/tmp", "/run", "/root", "$HOME"] {
        job.output(&format!("echo {dir} > {dir}/left-by-script")).await;
    }
    let seen =
        job.output("cat /tmp/left-by-script /run/left-by-script /root/left-by-script; ls -A /tmp").await;
    assert_eq!(seen, "/tmp\n/run\n/root\nleft-by-script\n");
    assert!(outside.path().exists() && !Path::new("/tmp/left-by-script").exists());
    assert_eq!(job.output("stat -c %a /tmp /var/tmp /run").await, "1777\n1777\n755\n");
    job.finish().await;
}

#[tokio::test]
async fn terminate_reaches_every_process_and_lets_them_finish() {
    let job = Job::new();
    let script = "
        trap 'wait; echo parent; exit 7' TERM
        (trap 'echo child; exit' TERM; echo; while :; do sleep 0.05; done) &
        while :; do sleep 0.05; done";
    let mut process = job.start(script).await;
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).await.unwrap();
    process.terminate();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert_eq!((process.wait().await.unwrap(), rest.as_str()), (ExitStatus::Code(7), "child\nparent\n"));
    job.finish().await;
}

#[tokio::test]
async fn kill_ends_what_ignores_everything_else() {
    let job = Job::new();
    let sleep = unique_sleep();
    let mut process = job.start(&format!("trap '' TERM; echo ready; sleep {sleep}")).await;
    first_line(&mut process).await;
    process.terminate();
    process.kill();
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Signal(9));
    assert!(!runs(&sleep));
    job.finish().await;
}

#[tokio::test]
async fn nothing_outlives_the_script() {
    let job = Job::new();
    let sleep = unique_sleep();
    assert_eq!(
        job.run(&format!("setsid sleep {sleep} >/dev/null 2>&1 & exit 4")).await.0,
        ExitStatus::Code(4)
    );
    assert!(!runs(&sleep));
    job.finish().await;
}

#[tokio::test]
async fn dropping_the_process_kills_all() {
    let job = Job::new();
    let sleep = unique_sleep();
    let mut process = job.start(&format!("echo ready; sleep {sleep}")).await;
    first_line(&mut process).await;
    drop(process);
    eventually(|| !runs(&sleep)).await;
    job.finish().await;
}

#[tokio::test]
async fn killing_the_supervisor_leaves_no_process_and_is_an_error() {
    let job = Job::new();
    let sleep = unique_sleep();
    let mut process = job.start(&format!("echo; trap '' TERM; sleep {sleep}; :")).await;
    eventually(|| runs(&sleep)).await;
    let (_, supervisor) = above(pid_of(&sleep).unwrap());
    kill(supervisor);
    assert!(matches!(process.wait().await, Err(Error::Lost)));
    eventually(|| !runs(&sleep)).await;
    job.finish().await;
}

#[tokio::test]
async fn a_waiting_process_that_was_killed_is_replaced_and_what_runs_goes_on() {
    let job = Job::new();
    let sleep = unique_sleep();
    let mut process = job.start(&format!("sleep {sleep}; :")).await;
    eventually(|| runs(&sleep)).await;
    let (waiting, _) = above(pid_of(&sleep).unwrap());
    kill(waiting);
    let other = Job { sandbox: job.sandbox.clone(), ..Job::new() };
    eventually(|| !Path::new("/proc").join(waiting.to_string()).join("exe").exists()).await;
    assert_eq!(other.output("echo new").await, "new\n");
    assert!(runs(&sleep));
    process.terminate();
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Signal(15));
    job.finish().await;
    other.finish().await;
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The process that waits beside this test, and the supervisor of `pid`, which is its child.
fn above(pid: u32) -> (u32, u32) {
    let mut line = vec![pid];
    while line[line.len() - 1] != std::process::id() {
        let status = fs::read_to_string(format!("/proc/{}/status", line[line.len() - 1])).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
        line.push(parent.trim().parse().unwrap());
    }
    (line[line.len() - 2], line[line.len() - 3])
}

#[tokio::test]
async fn a_released_directory_is_as_new_to_the_next_job() {
    let job = Job::new();
    let states = job.dir.path().join("numbered");
    let look = "find /tmp /var/tmp /root -mindepth 1; stat -c '%a %n' / /tmp /root; cat src/main.txt; ls";
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (number, state) = StateDir::claim(&states).unwrap();
        assert_eq!(number, 0);
        let mut spec = Spec::host(state.path(), Path::new(env!("CARGO_BIN_EXE_sandbox-init")));
        spec.mounts.push(state.workspace(vec![job.dir.path().join("checkout")], Path::new(PROJECT)));
        let spec = Job { spec, state, ..Job::new() };
        seen.push(spec.output(look).await);
        let litter =
            "echo x > src/main.txt; mkdir -p /tmp/a/b ~/c; chmod 700 /tmp ~; echo x > new; mkdir -m 0 shut";
        spec.output(litter).await;
        spec.state.release(&job.sandbox).await.unwrap();
        assert_eq!(sweep(&job.sandbox, &states).await.unwrap(), 0);
    }
    assert_eq!(seen[0], seen[1]);
    job.finish().await;
}

#[tokio::test]
async fn killing_the_parent_with_sigkill_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let sleep = unique_sleep();
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parent_to_be_killed", "--ignored", "--nocapture"])
        .env("SLEEP", &sleep)
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().unwrap() != "ready" {}
    eventually(|| runs(&sleep)).await;
    parent.kill().await.unwrap();
    eventually(|| !runs(&sleep)).await;
    // what it left on disk is for the next one to sweep
    let states = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path().join("states");
    assert_eq!(sweep(&sandbox(), &states).await.unwrap(), 1);
    assert!(!states.join("job").exists());
}

#[tokio::test]
#[ignore = "run by killing_the_parent_with_sigkill_leaves_no_process"]
async fn parent_to_be_killed() {
    let job = Job::new();
    let sleep = std::env::var("SLEEP").unwrap();
    let mut process = job.start(&format!("(trap '' TERM; sleep {sleep}) & echo; wait")).await;
    first_line(&mut process).await;
    println!("ready");
    process.wait().await.unwrap();
}

#[tokio::test]
async fn what_a_job_changes_in_its_workspace_leaves_the_checkout_alone() {
    let job = Job::new();
    job.output("echo changed > src/main.txt && echo new > new && rm README").await;
    assert_eq!(job.output("cat src/main.txt new; ls").await, "changed\nnew\nnew\nsrc\n");
    let checkout = job.dir.path().join("checkout");
    assert_eq!(fs::read_to_string(checkout.join("src/main.txt")).unwrap(), "original\n");
    assert!(checkout.join("README").exists() && !checkout.join("new").exists());
    job.finish().await;
}

#[tokio::test]
async fn several_checkouts_lie_over_one_another() {
    let mut job = Job::new();
    let delta = job.dir.path().join("delta, with: odd name");
    fs::create_dir_all(&delta).unwrap();
    fs::write(delta.join("README"), "newer\n").unwrap();
    let base = job.dir.path().join("checkout");
    job.spec.mounts = vec![job.state.workspace(vec![delta, base], Path::new(PROJECT))];
    assert_eq!(job.output("cat README src/main.txt").await, "newer\noriginal\n");
    job.finish().await;
}

#[tokio::test]
async fn read_only_binds_refuse_writes_and_others_pass_them_on() {
    let mut job = Job::new();
    for (name, access) in [("ro", Access::ReadOnly), ("rw", Access::ReadWrite)] {
        let source = job.dir.path().join(name);
        fs::create_dir(&source).unwrap();
        job.spec.mounts.push(Mount::Bind { source, target: format!("/cache/{name}").into(), access });
    }
    assert_ne!(job.run("touch /cache/ro/x").await.0, ExitStatus::Code(0));
    job.output("touch /cache/rw/x").await;
    assert!(job.dir.path().join("rw/x").exists() && !job.dir.path().join("ro/x").exists());
    assert_ne!(job.run("echo > /run/slipway/bin/ci").await.0, ExitStatus::Code(0), "our executable");
    job.output("test -x /run/slipway/bin/ci && command -v ci").await;
    job.finish().await;
}

#[tokio::test]
async fn stdin_is_handed_over_or_empty() {
    let job = Job::new();
    assert_eq!(job.output("cat; echo end").await, "end\n");
    let input = job.dir.path().join("input");
    fs::write(&input, "hello\n").unwrap();
    let streams = Streams { stdin: Some(fs::File::open(&input).unwrap().into()), ..Streams::piped() };
    let mut process = job.sandbox.start(&job.spec, Job::command("cat"), streams).await.unwrap();
    assert_eq!(first_line(&mut process).await, "hello\n");
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(0));
    job.finish().await;
}

#[tokio::test]
async fn a_large_environment_arrives_and_no_argument_shows_it() {
    let job = Job::new();
    let value = "v".repeat(100_000);
    let Task::Run(mut command) = Job::command("printf %s \"$A$B$C$D\" | wc -c; cat /proc/1/cmdline") else {
        unreachable!()
    };
    command.env.extend(["A", "B", "C", "D"].map(|name| (name.to_owned(), value.clone())));
    let mut process = job.sandbox.start(&job.spec, Task::Run(command), Streams::piped()).await.unwrap();
    let mut text = String::new();
    process.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "400000\nci-sandbox\0__init\0");
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(0));
    job.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_run_at_once() {
    let jobs: Vec<_> = (0..20)
        .map(|i| {
            tokio::spawn(async move {
                let job = Job::new();
                let text = job.output(&format!("echo {i} > src/mine; cat src/mine; ls src | wc -l")).await;
                assert_eq!(text, format!("{i}\n2\n"));
                job.finish().await;
            })
        })
        .collect();
    for job in jobs {
        job.await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_takes_the_dead_and_leaves_the_living() {
    let job = Job::new();
    let states = job.state.path().parent().unwrap().to_owned();
    job.output("true").await;
    // as a crash leaves it: used, then unlocked
    let dead = StateDir::create(&states, "dead").unwrap();
    let mut spec = Spec::host(dead.path(), Path::new(env!("CARGO_BIN_EXE_sandbox-init")));
    spec.mounts.push(dead.workspace(vec![job.dir.path().join("checkout")], Path::new(PROJECT)));
    let mut process = job.sandbox.start(&spec, Job::command("mkdir -m 0 x"), Streams::piped()).await.unwrap();
    process.wait().await.unwrap();
    drop(dead);
    assert_eq!(sweep(&job.sandbox, &states).await.unwrap(), 1);
    assert!(!states.join("dead").exists() && states.join("job").exists());
    assert_eq!(sweep(&job.sandbox, &states).await.unwrap(), 0);
    assert!(StateDir::create(&states, "job").is_err(), "taken");
    job.finish().await;
    assert_eq!(sweep(&sandbox(), Path::new("/no/such/directory")).await.unwrap(), 0);
}

#[tokio::test]
async fn the_probe_says_that_it_works_here() {
    let dir = tempfile::tempdir().unwrap();
    let found = sandbox().probe(dir.path()).await;
    found.works.unwrap();
    assert_eq!(found.mode == Mode::Root, is_root());
    assert_eq!(found.missing.is_empty(), found.mode != Mode::RootlessOneId);
}

#[tokio::test]
async fn an_ordinary_user_gets_the_same() {
    if !is_root() {
        return;
    }
    same_tests_as_ordinary_user(&[]).await;
}

/// `cargo test -p runners --test sandbox -- --ignored --nocapture how_long`
#[tokio::test]
#[ignore = "prints how long things take, asserts nothing"]
async fn how_long_a_start_takes() {
    let job = Job::new();
    let namespaces: &[&str] = if is_root() { &["-muipf"] } else { &["-Urmuipf"] };
    let unshare = [&["unshare"], namespaces, &["true"]].concat();
    let mut times: [(&str, Vec<Duration>); 4] = [
        ("fork and exec", vec![]),
        ("unshare(1)", vec![]),
        ("sandbox: started", vec![]),
        ("sandbox: ended", vec![]),
    ];
    for _ in 0..50 {
        let start = std::time::Instant::now();
        tokio::process::Command::new("true").status().await.unwrap();
        times[0].1.push(start.elapsed());

        let start = std::time::Instant::now();
        assert!(
            tokio::process::Command::new(unshare[0]).args(&unshare[1..]).status().await.unwrap().success()
        );
        times[1].1.push(start.elapsed());

        let (_, state) = StateDir::claim(&job.dir.path().join("timed")).unwrap();
        let mut spec = Spec::host(state.path(), Path::new(env!("CARGO_BIN_EXE_sandbox-init")));
        spec.mounts.push(state.workspace(vec![job.dir.path().join("checkout")], Path::new(PROJECT)));
        let Task::Run(mut command) = Job::command("") else { unreachable!() };
        command.argv = vec!["true".into()];
        let start = std::time::Instant::now();
        let mut process = job.sandbox.start(&spec, Task::Run(command), Streams::piped()).await.unwrap();
        times[2].1.push(start.elapsed());
        process.wait().await.unwrap();
        times[3].1.push(start.elapsed());
        state.release(&job.sandbox).await.unwrap();
    }
    for (name, mut times) in times {
        times.sort();
        println!("{name:18} min {:?}, median {:?}", times[0], times[times.len() / 2]);
    }
    job.finish().await;
}
