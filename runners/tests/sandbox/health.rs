//! Services that say by themselves whether they are ready.

use std::time::Duration;

use runners::sandbox::{Check, Health, Process, Streams, Task};

use crate::job::{Job, eventually, runs, unique_sleep};

async fn serve(job: &Job, script: &str, check: &str, timeout: Duration, patience: Duration) -> Process {
    let Task::Run(command) = Job::command(script) else { unreachable!() };
    let check = Check { argv: ["sh", "-c", check].map(String::from).to_vec(), timeout, patience };
    job.sandbox.start(&job.spec, Task::Serve(command, check), Streams::piped()).await.unwrap()
}

/// What the checks have found once they are over.
async fn found(mut process: Process) -> Health {
    let mut health = process.health();
    let settled = health.wait_for(|health| matches!(health, Health::Healthy | Health::Unhealthy(_)));
    let settled = tokio::select! {
        settled = settled => settled.unwrap().clone(),
        ended = process.wait() => panic!("{ended:?}"),
    };
    process.kill();
    process.wait().await.unwrap();
    settled
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_service_is_healthy_once_a_check_beside_it_succeeds() {
    let job = Job::new();
    // a check sees the service's processes and files; what it prints is not the service's output
    let check = "echo noise; [ -e /tmp/ready ] && kill -0 $(cat /tmp/ready)";
    let process = serve(&job, "sleep 0.2; echo $$ >/tmp/ready; exec sleep 1000", check, LONG, LONG).await;
    assert_eq!(found(process).await, Health::Healthy);
    job.finish().await;
}

#[tokio::test]
async fn checks_that_fail_until_patience_ends_make_it_unhealthy_with_the_reason() {
    let job = Job::new();
    let sleep = unique_sleep();
    let late = format!("sleep {sleep} & wait");
    let brief = Duration::from_millis(100);
    for (check, timeout, why) in [
        ("exit 3", LONG, "fails with exit code 3"),
        ("no-such-program", LONG, "fails with exit code 127: is its program in the image?"),
        ("kill -SEGV $$", LONG, "was ended by signal 11"),
        (&late, brief, "takes longer than 0.1 s"),
    ] {
        let process = serve(&job, "exec sleep 1000", check, timeout, brief).await;
        assert_eq!(found(process).await, Health::Unhealthy(why.to_owned()), "{check}");
    }
    eventually(|| !runs(&sleep)).await;
    job.finish().await;
}

#[tokio::test]
async fn the_end_of_a_service_ends_its_checks() {
    let job = Job::new();
    let sleep = unique_sleep();
    let check = format!("echo >/tmp/asked; sleep {sleep}");
    let mut process =
        serve(&job, "while ! [ -e /tmp/asked ]; do sleep 0.01; done; exit 4", &check, LONG, LONG).await;
    assert_eq!(process.wait().await.unwrap().code(), 4);
    assert!(!runs(&sleep));
    job.finish().await;
}
