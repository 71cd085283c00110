//! `ci run`: runs the pipeline on this machine.

use super::request::{Prepared, RequestArgs};
use super::{Format, print_raw};
use crate::dispatch::{self, Journal, Options, Overrides, RunEnd};
use crate::downstream::{self, Pipeline};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::notify::{self, Channels, Event, Failure, Finished, Occasion};
use crate::report::{diagnostic, json, terminal};
use crate::settings::{RunDirectory, State};
use anstream::eprintln;
use clap::ValueEnum;
use pipelines::plan::{Plan, When};
use pipelines::schedule::{Selection, names, select};
use runners::embedded::Embedded;
use runners::executor::Executor;
use runners::job::{Run, Runner};
use runners::sandbox::{Sandbox, sweep};
use runners::shell::Shell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Time that a job's processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(super) struct RunArgs {
    /// Run only these jobs; the name of a parallel job stands for all its instances
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Also run what the named jobs need
    #[arg(long, requires = "jobs")]
    needs: bool,
    /// Start this manual job when its turn comes
    #[arg(long, value_name = "JOB")]
    manual: Vec<String>,
    /// Jobs that run at once [default: the number of cores]
    #[arg(long = "jobs", short = 'j', value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// Where jobs run
    #[arg(long, value_enum, default_value_t)]
    executor: Kind,
    /// Change all jobs: `image=host` runs them on this machine's files, `services=none` starts no services
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::request::variable)]
    set: Vec<(String, String)>,
    /// Text: a report for people; json: one event a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    request: RequestArgs,
}

/// Kinds of executors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// In containers that `ci` makes itself
    #[default]
    Sandbox,
    /// As processes of yours, without any isolation
    Shell,
}

pub(super) fn run(args: &RunArgs) -> CliResult {
    let prepared = args.request.prepare()?;
    if args.format == Format::Text {
        print_raw(diagnostic::render(&prepared.loaded.sources, &prepared.shown()).as_bytes())?;
    }
    let mut plan = prepared.plan()?.clone();
    overrides(&args.set)?.apply(&mut plan);
    let selection = Selection { jobs: args.jobs.clone(), needs: args.needs };
    let plan = select(&plan, &selection).map_err(|e| CliError::usage(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::usage(format!("starting the runtime: {e}")))?;
    let channels = prepared.channels();
    let begun = tell_start(&channels, &prepared);
    let (end, directory) = runtime.block_on(run_plan(args, &prepared, Arc::new(plan)))?;
    tell_end(&channels, begun, &prepared, end, &directory);
    match end.exit_code() {
        0 => Ok(()),
        code => Err(CliError::silent(ErrorKind::Code(code))),
    }
}

fn overrides(set: &[(String, String)]) -> CliResult<Overrides> {
    let mut overrides = Overrides::default();
    for (key, value) in set {
        match (key.as_str(), value.as_str()) {
            ("image", name) => overrides.image = Some(name.to_owned()),
            ("services", "none") => overrides.no_services = true,
            _ => {
                return Err(CliError::usage(format!(
                    "`--set {key}={value}` is not known: `image=NAME` and `services=none` are"
                )));
            }
        }
    }
    Ok(overrides)
}

/// Manual jobs to play: whoever names a job wants it to run.
fn manual(args: &RunArgs, plan: &Plan) -> Vec<String> {
    let is_manual = |name: &&String| plan.jobs.iter().any(|j| j.when == When::Manual && names(j, name));
    args.manual.iter().chain(args.jobs.iter().filter(is_manual)).cloned().collect()
}

async fn run_plan(args: &RunArgs, prepared: &Prepared, plan: Arc<Plan>) -> CliResult<(RunEnd, RunDirectory)> {
    let state = State::of(&prepared.project.state_name())?;
    let executor = executor(args.executor, &state).await?;
    let commit = &prepared.facts.commit;
    let snapshot = prepared.project.snapshot(&commit.sha, args.request.committed, &state.snapshots())?;
    let directory = state.new_run()?;
    let doing = |e: std::io::Error| CliError::usage(format!("writing to `{}`: {e}", directory.dir.display()));
    let mut journal = Journal::create(&directory.dir.join("journal.jsonl")).map_err(doing)?;
    let events = journal.subscribe();
    let format = args.format;
    // a thread of its own: a slow terminal must not hold up the run
    let report = std::thread::spawn(move || {
        let mut out = std::io::stdout();
        match format {
            Format::Text => terminal::report(&events, terminal::Mode::of_stdout(), &mut out),
            Format::Json => json::report(&events, &mut out),
        }
    });
    let slots = args.slots.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let pipeline = Arc::new(Pipeline {
        request: prepared.request.clone(),
        run: Arc::new(shared(prepared, &plan, &state, &directory, &snapshot.dir)?),
        executor,
        ids: Arc::new(AtomicU64::new(directory.number * 10_000)),
        slots: Arc::new(Semaphore::new(slots.get().min(Semaphore::MAX_PERMITS))),
        locks: state.resource_groups(),
        manual: manual(args, &plan),
        overrides: overrides(&args.set)?,
        depth: 0,
    });
    let options = Options {
        slots: pipeline.slots.clone(),
        manual: pipeline.manual.clone(),
        run: directory.number,
        reference: prepared.facts.reference.clone(),
        sha: commit.sha.clone(),
        dirty: snapshot.uncommitted > 0,
    };
    let interrupts =
        dispatch::interrupts().map_err(|e| CliError::usage(format!("listening for Ctrl-C: {e}")))?;
    let start = |job| downstream::start(pipeline.clone(), job);
    let end = dispatch::dispatch(plan, options, journal, interrupts, start).await;
    // a reader that has gone (`ci run | head`) is no failure of the run
    let _ = report.join();
    let end = end.map_err(|e| CliError::usage(e.to_string()))?;
    if format == Format::Text {
        eprintln!("logs and artifacts: {}", directory.dir.display());
    }
    Ok((end, directory))
}

/// Tells that the run begins, while it does.
fn tell_start(channels: &Channels, prepared: &Prepared) -> JoinHandle<Vec<Failure>> {
    let mut event = Event::pipeline(Occasion::Started, &prepared.request.project);
    event.reference = Some(prepared.facts.reference.clone());
    channels.tell_meanwhile(event)
}

/// Tells how the run ended. Who has no URL here is not warned about: on a developer's machine that is usual.
fn tell_end(
    channels: &Channels,
    begun: JoinHandle<Vec<Failure>>,
    prepared: &Prepared,
    end: RunEnd,
    directory: &RunDirectory,
) {
    let mut failures = begun.join().unwrap_or_default();
    let finished = Finished {
        runs: directory.dir.parent().unwrap_or(&directory.dir),
        number: directory.number,
        project: &prepared.request.project,
        reference: &prepared.facts.reference,
        sha: &prepared.facts.commit.sha,
        status: end.status,
    };
    if !channels.is_empty()
        && !end.interrupted
        && let Some(event) = notify::finished(&finished)
    {
        failures.extend(channels.tell(&event.placed(|name| std::env::var(name).ok())));
    }
    failures.retain(|failure| !failure.unset);
    super::notify::warn(&failures);
}

/// What all jobs of the run share.
fn shared(
    prepared: &Prepared,
    plan: &Arc<Plan>,
    state: &State,
    directory: &RunDirectory,
    checkout: &Path,
) -> CliResult<Run> {
    let request = &prepared.request;
    let fixed =
        request.variables.keys().cloned().chain(request.project_variables.iter().map(|v| v.key.clone()));
    Ok(Run {
        id: directory.number,
        parent: None,
        dir: directory.dir.clone(),
        cache: state.cache(),
        project: request.project.clone(),
        plan: plan.clone(),
        checkout: checkout.to_owned(),
        tracked: Arc::new(prepared.project.tracked()?),
        variables: Vec::new(),
        fixed: fixed.collect(),
        runner: Runner {
            id: 1,
            description: "this machine".to_owned(),
            tags: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        output_limit: Run::OUTPUT_LIMIT,
        grace: GRACE,
        timeout: Run::TIMEOUT,
    })
}

/// The executor, proved to work here; what dead runs left of it is removed first.
async fn executor(kind: Kind, state: &State) -> CliResult<Arc<Executor>> {
    if kind == Kind::Shell {
        return Ok(Arc::new(Executor::Shell(Shell { builds: state.builds() })));
    }
    let sandbox = Sandbox::default();
    let states = state.sandboxes();
    let making = |e: &dyn std::fmt::Display| CliError::usage(format!("making `{}`: {e}", states.display()));
    std::fs::create_dir_all(&states).map_err(|e| making(&e))?;
    sweep(&sandbox, &states).await.map_err(|e| making(&e))?;
    let found = sandbox.probe(&states).await;
    if let Err(error) = found.works {
        let refused = CliError::usage(format!("jobs can't run in containers on this machine: {error}"));
        let told = found.missing.into_iter().map(|m| format!("{}: {}", m.what, m.cure));
        return Err(told
            .fold(refused, CliError::hint)
            .hint("`--executor shell` runs jobs as your own processes, without any isolation"));
    }
    let ci =
        std::env::current_exe().map_err(|e| CliError::usage(format!("finding our own executable: {e}")))?;
    Ok(Arc::new(Executor::Embedded(Embedded { sandbox, states, ci })))
}
