//! Rules about files: what comes in, what is kept, what flows from job to job.

use super::Trial;
use super::bench::{Bench, Report};
use crate::executor::Executor;
use crate::job::Outcome;
use futures_util::future::FutureExt;
use pipelines::event::Phase;
use pipelines::plan::{Cache, Job, JobVariable, Plan, When};
use pipelines::status::FailureReason;
use serde_json::json;
use std::sync::Arc;

type Seen = Result<(), String>;

/// Each rule, and how it is tried.
pub(super) fn rules(executor: &Executor) -> Vec<(&'static str, Trial<'_>)> {
    vec![
        ("phases come in gitlab-runner's order", phases(executor).boxed_local()),
        ("artifacts are selected, kept and downloaded by later jobs", artifacts(executor).boxed_local()),
        ("artifacts of a failed job are kept as `when` says", artifacts_when(executor).boxed_local()),
        ("dotenv reports hand variables on, below those of the project", dotenv(executor).boxed_local()),
        ("a bad dotenv report fails the job", bad_dotenv(executor).boxed_local()),
        ("artifacts that are gone fail the jobs that need them", gone(executor).boxed_local()),
        ("a cache comes back in the next job with its key", caches(executor).boxed_local()),
        ("file variables are private files beside the project", files(executor).boxed_local()),
        ("jobs at once do not see each other's files", parallel(executor).boxed_local()),
        ("the hook runs before the sources come in", hook(executor).boxed_local()),
        ("a dropped job leaves nothing running", dropped(executor).boxed_local()),
    ]
}

fn bench(executor: &Executor) -> Result<Bench, String> {
    Bench::new(executor).map_err(|error| error.to_string())
}

async fn go(bench: &Bench, job: Job) -> Result<Report, String> {
    bench.run(job).await.map_err(|error| error.to_string())
}

fn expect(holds: bool, what: &str, report: &Report) -> Seen {
    if holds { Ok(()) } else { Err(format!("{what}: {:?}\n{}", report.outcome, report.log)) }
}

fn succeeded(report: &Report) -> Seen {
    expect(report.outcome == Outcome::Success, "no success", report)
}

fn names(kept: &[(String, String)]) -> Vec<&str> {
    kept.iter().map(|(name, _)| name.as_str()).collect()
}

fn cache(key: &str, policy: &str) -> Cache {
    Cache {
        key: key.to_owned(),
        paths: vec!["store/".to_owned()],
        untracked: None,
        fallback_keys: Vec::new(),
        policy: policy.to_owned(),
        when: "on_success".to_owned(),
        unprotect: false,
    }
}

/// Two stages, `build` and `test`, each with one job.
fn two_jobs(first: &mut Job, second: &Job) -> Arc<Plan> {
    first.stage = "build".to_owned();
    let stages = vec!["build".to_owned(), "test".to_owned()];
    Arc::new(Plan { stages, jobs: vec![first.clone(), second.clone()], ..Plan::default() })
}

async fn phases(executor: &Executor) -> Seen {
    let mut bench = bench(executor)?;
    let mut first = Bench::job("first", &["echo x >out"]);
    first.work.artifacts = Some(Bench::artifacts(&["out"]));
    let mut second = Bench::job("second", &["mkdir store; cp out store/", "test -f README"]);
    second.work.artifacts = Some(Bench::artifacts(&["out"]));
    second.work.after_script = vec!["true".to_owned()];
    second.cache = vec![cache("k", "pull-push")];
    bench.run.plan = two_jobs(&mut first, &second);
    let report = go(&bench, first).await?;
    let simple = [Phase::Prepare, Phase::GetSources, Phase::Script, Phase::UploadArtifacts, Phase::Cleanup];
    expect(report.phases == simple, &format!("phases {:?}", report.phases), &report)?;
    let report = go(&bench, second).await?;
    let all = [
        Phase::Prepare,
        Phase::GetSources,
        Phase::RestoreCache,
        Phase::DownloadArtifacts,
        Phase::Script,
        Phase::AfterScript,
        Phase::ArchiveCache,
        Phase::UploadArtifacts,
        Phase::Cleanup,
    ];
    expect(report.phases == all, &format!("phases {:?}", report.phases), &report)?;
    let (starts, ends) =
        (report.log.matches("section_start:").count(), report.log.matches("section_end:").count());
    expect((starts, ends) == (9, 9), "sections are not paired", &report)
}

async fn artifacts(executor: &Executor) -> Seen {
    let mut bench = bench(executor)?;
    let script =
        ["mkdir -p out/deep; echo a >out/a.txt; echo b >out/deep/b.log; ln -s a.txt out/link; echo e >extra"];
    let mut first = Bench::job("first", &script);
    let mut chosen = Bench::artifacts(&["${DIR:-none}/", "README", "nothing*"]);
    chosen.exclude = Some(vec!["**/*.log".to_owned()]);
    chosen.untracked = Some(true);
    first.work.artifacts = Some(chosen);
    first.environment_variables = vec![Bench::variable("DIR", "out")];
    let second =
        Bench::job("second", &["cat out/link extra", "test ! -e out/deep/b.log", "test -L out/link"]);
    bench.run.plan = two_jobs(&mut first, &second);
    let report = go(&bench, first).await?;
    succeeded(&report)?;
    let kept = report.kept()?;
    expect(names(&kept) == ["README", "extra", "out/a.txt"], &format!("kept {kept:?}"), &report)?;
    expect(report.log.contains("nothing*: no matching files"), "no warning about `nothing*`", &report)?;
    let report = go(&bench, second).await?;
    succeeded(&report)?;
    expect(report.log.contains("a\ne\n"), "the files are not the same", &report)
}

async fn artifacts_when(executor: &Executor) -> Seen {
    let bench = bench(executor)?;
    let table = [(None, 0), (Some(When::OnFailure), 1), (Some(When::Always), 1), (Some(When::OnSuccess), 0)];
    for (index, (when, count)) in table.into_iter().enumerate() {
        let mut job = Bench::job(&format!("job{index}"), &["echo x >out", "exit 5"]);
        let mut chosen = Bench::artifacts(&["out"]);
        chosen.when = when;
        job.work.artifacts = Some(chosen);
        let report = go(&bench, job).await?;
        expect(report.kept()?.len() == count, &format!("{when:?} keeps {:?}", report.kept()), &report)?;
        let code = matches!(report.outcome, Outcome::Failed { exit_code: Some(5), .. });
        expect(code, "the exit code is lost", &report)?;
    }
    Ok(())
}

fn reporting(script: &str) -> Job {
    let mut job = Bench::job("first", &[script]);
    let mut chosen = Bench::artifacts(&[]);
    chosen.paths = None;
    chosen.reports = Some([("dotenv".to_owned(), json!(["build.env"]))].into_iter().collect());
    job.work.artifacts = Some(chosen);
    job
}

async fn dotenv(executor: &Executor) -> Seen {
    let mut bench = bench(executor)?;
    let mut first = reporting("printf 'FROM_JOB=1 $X\\nYAML=new\\nPROJECT=new\\n' >build.env");
    let mut second =
        Bench::job("second", &["echo \"<$FROM_JOB|$YAML|$PROJECT|$REFERS>\"", "test ! -e build.env"]);
    second.environment_variables = ["YAML", "PROJECT"].map(|name| Bench::variable(name, "old")).to_vec();
    second.environment_variables.push(Bench::variable("REFERS", "$YAML"));
    bench.run.plan = two_jobs(&mut first, &second);
    bench.run.fixed = ["PROJECT".to_owned()].into_iter().collect();
    succeeded(&go(&bench, first).await?)?;
    let report = go(&bench, second).await?;
    succeeded(&report)?;
    expect(report.log.contains("<1 $X|new|old|new>"), "wrong values", &report)
}

async fn bad_dotenv(executor: &Executor) -> Seen {
    let report = go(&bench(executor)?, reporting("printf 'A=1\\n# comment\\n' >build.env")).await?;
    let failed = matches!(&report.outcome, Outcome::Failed { reason: FailureReason::DataIntegrityFailure, message: Some(message), .. } if message.contains("Invalid Format"));
    expect(failed, "accepted", &report)
}

async fn gone(executor: &Executor) -> Seen {
    let mut bench = bench(executor)?;
    let mut first = Bench::job("first", &["echo x >out"]);
    first.work.artifacts = Some(Bench::artifacts(&["out"]));
    let second = Bench::job("second", &["true"]);
    bench.run.plan = two_jobs(&mut first, &second);
    let report = go(&bench, first).await?;
    std::fs::remove_file(report.dir.join(crate::artifacts::ARCHIVE)).map_err(|error| error.to_string())?;
    let report = go(&bench, second).await?;
    let missing =
        matches!(report.outcome, Outcome::Failed { reason: FailureReason::MissingDependencyFailure, .. });
    expect(missing, "not noticed", &report)
}

async fn caches(executor: &Executor) -> Seen {
    let bench = bench(executor)?;
    let job = |name: &str, script: &str, key: &str, policy: &str| {
        let mut job = Bench::job(name, &[script]);
        job.cache = vec![cache(key, policy)];
        job.environment_variables = vec![Bench::variable("REF", "main")];
        job
    };
    let fill = "test ! -e store; mkdir store; echo kept >store/f";
    succeeded(&go(&bench, job("fill", fill, "$REF-x", "pull-push")).await?)?;
    let failing = go(&bench, job("failing", "echo broken >store/f; exit 1", "main-x", "pull-push")).await?;
    expect(failing.outcome != Outcome::Success, "it succeeded", &failing)?;
    let read = "cat store/f; echo changed >store/f";
    let report = go(&bench, job("pull", read, "main-x", "pull")).await?;
    expect(report.log.contains("kept\n"), "the cache is not there, or a failed job saved it", &report)?;
    succeeded(&go(&bench, job("push", fill, "main-x", "push")).await?)?;
    succeeded(&go(&bench, job("other", "test ! -e store", "other", "pull-push")).await?)?;
    let mut fallback = job("fallback", "grep -q kept store/f", "absent", "pull");
    fallback.cache[0].fallback_keys = vec!["nor this".to_owned(), "main-x".to_owned()];
    succeeded(&go(&bench, fallback).await?)
}

async fn files(executor: &Executor) -> Seen {
    let bench = bench(executor)?;
    let script = [
        "test \"$KEY\" = \"$CI_PROJECT_DIR.tmp/KEY\"",
        "test \"$(stat -c %a \"$KEY\")\" = 600",
        "test \"$(wc -l <\"$KEY\")\" = 2",
        "cat \"$KEY\"",
        "case \"$USES\" in \"$KEY\"*) ;; *) exit 9 ;; esac",
    ];
    let mut job = Bench::job("job", &script);
    let key = Bench::variable("KEY", "first secret line\nsecond secret line\n");
    job.environment_variables =
        vec![JobVariable { file: true, masked: true, ..key }, Bench::variable("USES", "$KEY!")];
    let report = go(&bench, job).await?;
    succeeded(&report)?;
    expect(!report.log.contains("secret line"), "the content is in the log", &report)
}

async fn parallel(executor: &Executor) -> Seen {
    let bench = bench(executor)?;
    let script = ["test ! -e mine", "echo $CI_JOB_NAME >mine", "sleep 0.2", "grep -qx \"$CI_JOB_NAME\" mine"];
    let jobs = (0..4).map(|index| go(&bench, Bench::job(&format!("job{index}"), &script)));
    let mut jobs: Vec<_> = jobs.map(Box::pin).collect();
    let (a, b, c, d) = match jobs.as_mut_slice() {
        [a, b, c, d] => tokio::join!(a, b, c, d),
        _ => return Err("four jobs are wanted".to_owned()),
    };
    for report in [a?, b?, c?, d?] {
        succeeded(&report)?;
    }
    Ok(())
}

async fn hook(executor: &Executor) -> Seen {
    let bench = bench(executor)?;
    let mut job = Bench::job("job", &["test -f README", "cat \"$CI_BUILDS_DIR/from-hook\""]);
    let commands = vec!["echo hook''ed >\"$CI_BUILDS_DIR/from-hook\"".to_owned()];
    job.work.hooks = Some(pipelines::plan::Hooks { pre_get_sources_script: commands });
    let report = go(&bench, job).await?;
    succeeded(&report)?;
    expect(report.log.contains("hooked\n"), "the hook left nothing", &report)
}

async fn dropped(executor: &Executor) -> Seen {
    let bench = bench(executor)?;
    let job = Bench::job("job", &["echo read''y", "sleep 1000"]);
    bench.abandon(job, "ready\n").await.map_err(|error| error.to_string())
}
