//! What the suite for all executors can't show: images, users, services, volumes, leftovers.

use crate::registry::Registry;
use futures_util::future::{FutureExt, LocalBoxFuture, join_all};
use pipelines::plan::{Image, JobVariable, Service};
use pipelines::status::FailureReason;
use runners::conformance::{Bench, Report};
use runners::docker::{Docker, sweep};
use runners::executor::Executor;
use runners::job::Outcome;
use serde_json::json;
use std::time::{Duration, Instant};

type Seen = Result<(), String>;

/// Each that does not hold, with what was seen. All are tried at once.
pub(crate) async fn run(docker: &Docker, registry: &Registry) -> Vec<String> {
    let scenarios: [(&str, LocalBoxFuture<'_, Seen>); 10] = [
        ("one image, several ways to run it", images(docker, registry).boxed_local()),
        ("users other than root write into the project", users(docker, registry).boxed_local()),
        ("what can't be pulled fails the job", unpullable(docker, registry).boxed_local()),
        ("secrets are in no container's description", secrets(docker).boxed_local()),
        ("services are reached by their names", services(docker, registry).boxed_local()),
        ("a service that ends at once is told about", broken_service(docker, registry).boxed_local()),
        ("files go through a volume where the engine can't see ours", far_away(docker).boxed_local()),
        ("a project that became a link leads nowhere", link(docker).boxed_local()),
        ("limits hold", limits(docker, registry).boxed_local()),
        ("what a dead run left is swept, and nothing else", leftovers(docker).boxed_local()),
    ];
    let seen =
        scenarios.map(async |(name, scenario)| scenario.await.err().map(|seen| format!("{name}: {seen}")));
    join_all(seen).await.into_iter().flatten().collect()
}

/// Waits for something that comes by itself.
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await && begun.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Asked<'a> {
    script: &'a [&'a str],
    image: Option<Image>,
    services: Vec<Service>,
    variables: Vec<JobVariable>,
    after_script: &'a [&'a str],
}

/// A second step in the same container.
const AFTERWARDS: &[&str] = &["echo after''wards"];

impl Default for Asked<'_> {
    fn default() -> Self {
        Asked {
            script: &["true"],
            image: None,
            services: Vec::new(),
            variables: Vec::new(),
            after_script: &[],
        }
    }
}

async fn run_job(docker: &Docker, asked: Asked<'_>) -> Result<Report, String> {
    let bench = Bench::new(&Executor::Docker(docker.clone())).map_err(|error| error.to_string())?;
    let mut job = Bench::job("job", asked.script);
    job.work.image = asked.image;
    job.work.services = asked.services;
    job.work.after_script = asked.after_script.iter().map(|text| (*text).to_owned()).collect();
    job.environment_variables = asked.variables;
    bench.run(job).await.map_err(|error| error.to_string())
}

fn image(name: String) -> Image {
    Image { name, ..Image::default() }
}

fn expect(holds: bool, report: &Report) -> Seen {
    if holds { Ok(()) } else { Err(format!("{:?}\n{}", report.outcome, report.log)) }
}

fn fails(report: &Report, reason: FailureReason, text: &str) -> Seen {
    let as_expected = matches!(&report.outcome, Outcome::Failed { reason: got, message: Some(message), .. }
        if *got == reason && message.contains(text));
    expect(as_expected, report)
}

async fn images(docker: &Docker, registry: &Registry) -> Seen {
    let base = image(registry.image("base"));
    let with = |entrypoint: &[&str]| Image {
        entrypoint: Some(entrypoint.iter().map(|text| (*text).to_owned()).collect()),
        ..base.clone()
    };
    // an entrypoint runs before each script and hands on what it exports; an empty one is none
    let entry = with(&["sh", "-c", "export FROM_ENTRY=\"entered $CI_JOB_NAME\"; exec \"$@\"", "entry"]);
    let script = ["echo \"<$FROM_ENTRY>\"", "echo $0 $BASH_VERSION | grep -q bash"];
    let asked = Asked { script: &script, image: Some(entry), after_script: AFTERWARDS, ..Asked::default() };
    let report = run_job(docker, asked).await?;
    expect(report.outcome == Outcome::Success && report.log.contains("<entered job>\n"), &report)?;
    expect(report.log.contains("afterwards\n"), &report)?;
    let report = run_job(docker, Asked { image: Some(with(&[""])), ..Asked::default() }).await?;
    expect(report.outcome == Outcome::Success, &report)?;
    // the shell of an image without bash; its entrypoint
    let tiny = image(registry.image("tiny"));
    let script = ["[ -z \"$BASH_VERSION\" ] && echo no ba''sh"];
    let report = run_job(docker, Asked { script: &script, image: Some(tiny), ..Asked::default() }).await?;
    expect(report.outcome == Outcome::Success && report.log.contains("no bash\n"), &report)?;
    let none = image(registry.image("noshell"));
    let report = run_job(docker, Asked { image: Some(none), ..Asked::default() }).await?;
    fails(&report, FailureReason::RunnerSystemFailure, "has no `sh`")?;
    let mut bare = docker.clone();
    bare.image = None;
    let report = run_job(&bare, Asked::default()).await?;
    fails(&report, FailureReason::RunnerUnsupported, "needs an image")
}

async fn users(docker: &Docker, registry: &Registry) -> Seen {
    let script = ["id -u; id -un || true", "echo new >README; mkdir made; echo x >made/f", "chmod 700 made"];
    let user = Image { docker: Some(json!({"user": "1234"})), ..image(registry.image("base")) };
    let by_image = image(registry.image("tiny:user"));
    for (image, shown) in [(user, "1234\n"), (by_image, "app\n")] {
        let report = run_job(
            docker,
            Asked { script: &script, image: Some(image), after_script: AFTERWARDS, ..Asked::default() },
        )
        .await?;
        let log = &report.log;
        expect(
            report.outcome == Outcome::Success && log.contains(shown) && log.contains("afterwards"),
            &report,
        )?;
    }
    Ok(())
}

async fn unpullable(docker: &Docker, registry: &Registry) -> Seen {
    let absent = image(registry.image("absent:1"));
    let report = run_job(docker, Asked { image: Some(absent.clone()), ..Asked::default() }).await?;
    fails(&report, FailureReason::ImagePullFailure, "with specified policies [if-not-present]")?;
    let never = Image { pull_policy: vec!["never".into()], ..absent };
    let report = run_job(docker, Asked { image: Some(never), ..Asked::default() }).await?;
    fails(&report, FailureReason::ImagePullFailure, "No such image")?;
    // nobody listens there; what is present comes second
    let far = Image { pull_policy: vec!["always".into()], ..image("127.0.0.1:1/x:1".into()) };
    let report = run_job(docker, Asked { image: Some(far), ..Asked::default() }).await?;
    fails(&report, FailureReason::ImagePullFailure, "can't reach the registry")?;
    let both = vec!["always".to_owned(), "if-not-present".to_owned()];
    let present = Image { pull_policy: both, ..image(registry.image("base")) };
    let report = run_job(docker, Asked { image: Some(present), ..Asked::default() }).await?;
    expect(report.outcome == Outcome::Success && report.log.contains("Pulling docker image"), &report)
}

async fn secrets(docker: &Docker) -> Seen {
    let masked = |key: &str, value: &str| JobVariable { masked: true, ..Bench::variable(key, value) };
    let variables = vec![
        masked("TOKEN", "hunter2hunter2"),
        Bench::variable("HEADER", "Bearer $TOKEN"),
        JobVariable { file: true, ..Bench::variable("KEYFILE", "hunter3hunter3") },
        Bench::variable("PLAIN", "not hidden"),
    ];
    // process 1 has what the container's description has
    let script = [
        "tr '\\0' '\\n' </proc/1/environ >seen; tr '\\0' ' ' </proc/1/cmdline >>seen",
        "grep -q 'PLAIN=not hidden' seen; ! grep -E 'hunter|KEYFILE' seen",
        "[ \"$HEADER\" = \"Bearer $TOKEN\" ]; grep -q hunter3 \"$KEYFILE\"",
    ];
    let report = run_job(docker, Asked { script: &script, variables, ..Asked::default() }).await?;
    expect(report.outcome == Outcome::Success, &report)
}

async fn services(docker: &Docker, registry: &Registry) -> Seen {
    let redis = |alias: &str| Service {
        image: image(registry.image("redis:7")),
        alias: Some(alias.to_owned()),
        ..Service::default()
    };
    // two on one port, each under its own names
    let services = vec![redis("cache, store"), redis("queue")];
    let script = [
        "ask() { exec 3<>/dev/tcp/$1/6379; printf \"$2\\r\\n\" >&3; read -r -t 5 answer <&3; exec 3>&-; echo \"$1: $answer\"; }",
        "ask cache 'set who cache'; ask queue 'set who queue'; ask store ping; ask 127.0.0.1__redis ping",
        "exec 3<>/dev/tcp/queue/6379; printf 'get who\\r\\n' >&3; read -r size <&3; read -r value <&3; echo \"queue has $value\"",
    ];
    let variables = vec![Bench::variable("CI_DEBUG_SERVICES", "true")];
    // its directory, with the logs, lasts as long as it
    let bench = Bench::new(&Executor::Docker(docker.clone())).map_err(|error| error.to_string())?;
    let mut job = Bench::job("job", &script);
    (job.work.services, job.environment_variables) = (services, variables);
    let report = bench.run(job).await.map_err(|error| error.to_string())?;
    let log = std::fs::read_to_string(report.dir.join("services/queue.log")).unwrap_or_default();
    expect(log.contains("Ready to accept connections") && report.log.contains("[service:cache]"), &report)?;
    let all = ["store: +PONG", "127.0.0.1__redis: +PONG", "queue has queue"];
    let heard = all.iter().all(|text| report.log.contains(text));
    expect(report.outcome == Outcome::Success && heard && !report.log.contains("properly"), &report)
}

async fn broken_service(docker: &Docker, registry: &Registry) -> Seen {
    let service = Service {
        image: image(registry.image("redis:7")),
        command: Some(["sh", "-c", "echo no luck with $WHAT; exit 3"].map(str::to_owned).to_vec()),
        variables: [("WHAT".to_owned(), "$CI_JOB_NAME".to_owned())].into_iter().collect(),
        ..Service::default()
    };
    let report = run_job(docker, Asked { services: vec![service], ..Asked::default() }).await?;
    let told =
        ["probably didn't start properly", "no luck with job"].iter().all(|text| report.log.contains(text));
    expect(report.outcome == Outcome::Success && told, &report)
}

async fn far_away(docker: &Docker) -> Seen {
    let mut far = Docker::new(docker.engine.clone(), docker.builds.clone());
    far.image = docker.image.clone();
    far.share(false);
    let bench = Bench::new(&Executor::Docker(far)).map_err(|error| error.to_string())?;
    let script = [
        "grep -q 'read me' README; ls src/main.c",
        "mkdir -p out/deep; echo kept >out/deep/file; ln out/deep/file out/hard; ln -s deep/file out/soft",
        "[ \"$(stat -c %a \"$KEY\")\" = 600 ]; cat \"$KEY\"",
        "rm -rf src",
    ];
    let mut job = Bench::job("job", &script);
    job.work.artifacts = Some(Bench::artifacts(&["$CI_PROJECT_DIR/out/", "src"]));
    job.environment_variables =
        vec![JobVariable { file: true, ..Bench::variable("KEY", "content of the file\n") }];
    let report = bench.run(job).await.map_err(|error| error.to_string())?;
    expect(report.outcome == Outcome::Success && report.log.contains("content of the file"), &report)?;
    let kept = report.kept()?;
    let has = |name: &str| kept.iter().any(|(path, content)| path == name && content == "kept\n");
    expect(has("out/deep/file") && has("out/hard"), &report)
}

async fn link(docker: &Docker) -> Seen {
    let bench = Bench::new(&Executor::Docker(docker.clone())).map_err(|error| error.to_string())?;
    let mut job =
        Bench::job("job", &["cd /; mv /builds/group/app /builds/group/old; ln -s /etc /builds/group/app"]);
    job.work.artifacts = Some(Bench::artifacts(&["passwd"]));
    let report = bench.run(job).await.map_err(|error| error.to_string())?;
    let kept = report.kept().is_ok_and(|kept| kept.is_empty());
    expect(kept && report.log.contains("the job replaced it"), &report)
}

async fn limits(docker: &Docker, registry: &Registry) -> Seen {
    let mut small = docker.clone();
    small.limits.pids = Some(40);
    small.limits.memory = Some(256 << 20);
    // a shell that gives up at once: bash waits for half a minute until it may fork
    let (script, tiny) = (["for i in $(seq 100); do sleep 1000 & done"], image(registry.image("tiny")));
    let report = run_job(&small, Asked { script: &script, image: Some(tiny), ..Asked::default() }).await?;
    expect(report.log.contains("can't fork") && report.outcome != Outcome::Success, &report)?;
    let script = ["head -c 600000000 /dev/zero | tail"];
    let report = run_job(&small, Asked { script: &script, ..Asked::default() }).await?;
    expect(matches!(report.outcome, Outcome::Failed { .. }), &report)
}

/// A run that is killed can't be had in this process: what it would leave is made by hand.
async fn leftovers(docker: &Docker) -> Seen {
    let socket = docker.engine.address.strip_prefix("unix://").unwrap_or_default().to_owned();
    let image = docker.image.clone().unwrap_or_default();
    // the image has to be there
    let report = run_job(docker, Asked::default()).await?;
    expect(report.outcome == Outcome::Success, &report)?;
    let post = |path: String, body: serde_json::Value| {
        let out = std::process::Command::new("curl")
            .args(["-s", "--unix-socket", &socket, "-H", "Content-Type: application/json", "-d"])
            .arg(body.to_string())
            .arg(format!("http://engine/v1.40/{path}"))
            .output();
        out.map_err(|error| error.to_string())
    };
    let machine = Docker::new(docker.engine.clone(), docker.builds.clone());
    // podman services share their networks: those of a test that was ended go first
    sweep(&machine.engine).await?;
    let dead = runners::docker::label_of(u32::MAX);
    let alive = runners::docker::label_of(std::process::id());
    for (name, label) in [("dead", &dead), ("alive", &alive)] {
        let labels = json!({"slipway.owner": label});
        let body = json!({"Image": image, "Cmd": ["sleep", "1000"], "Labels": labels});
        post(format!("containers/create?name={name}"), body)?;
        post(format!("containers/{name}/start"), json!({}))?;
        post("networks/create".into(), json!({"Name": format!("net-{name}"), "Labels": labels}))?;
        post("volumes/create".into(), json!({"Name": format!("vol-{name}"), "Labels": labels}))?;
    }
    let removed = sweep(&machine.engine).await?;
    if removed != 3 {
        return Err(format!("{removed} things were removed"));
    }
    if sweep(&machine.engine).await? != 0 {
        return Err("something was there twice".to_owned());
    }
    // these are ours; the test removes them as a person would
    for path in ["containers/alive?force=true", "networks/net-alive", "volumes/vol-alive"] {
        let url = format!("http://engine/v1.40/{path}");
        let done = std::process::Command::new("curl")
            .args(["-s", "--unix-socket", &socket, "-X", "DELETE", &url])
            .status();
        done.map_err(|error| error.to_string())?;
    }
    Ok(())
}
