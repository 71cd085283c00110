//! `ci run`: runs the pipeline on this machine.
//!
//! | file | what |
//! |---|---|
//! | `run/choice` | which jobs: named ones, stages, what failed |
//! | `run/ending` | what is left for machines: JUnit, annotations |
//! | `run/telling` | `notify` of the settings |
//! | `run/watch` | again when files change |

mod choice;
mod ending;
mod telling;
mod watch;

use super::request::{Prepared, RequestArgs};
use super::runtime::runtime;
use super::{Format, engine, networking, print_json, print_raw};
use crate::dispatch::{self, Journal, Options, Overrides, RunEnd};
use crate::downstream::{self, Pipeline};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::report::terminal::{Estimates, Mode};
use crate::report::{diagnostic, json, terminal};
use crate::runs;
use crate::settings::{ExecutorKind, RunDirectory, Settings, State};
use crate::storage;
use anstream::eprintln;
use choice::{Choice, choose};
use ending::Annotations;
use pipelines::plan::{Plan, When};
use pipelines::schedule::names;
use runners::bucket::Bucket;
use runners::docker::Kind;
use runners::embedded::Embedded;
use runners::executor::Executor;
use runners::image::Store;
use runners::job::{Run, Runner};
use runners::sandbox::{Sandbox, sweep};
use runners::shell::Shell;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;
use telling::Telling;
use tokio::sync::Semaphore;

/// Time that a job's processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Run the pipeline on this machine
///
/// The work tree is taken as it is, with its uncommitted changes; what git ignores is left out. Jobs run at the same
/// time where the pipeline allows it. Ctrl-C once cancels them and lets their after_script run; twice kills them.
#[derive(Clone, clap::Args)]
pub(super) struct RunArgs {
    /// Run only these jobs; the name of a parallel job stands for all its instances
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Also run what the named jobs need
    #[arg(long, requires = "jobs", help_heading = "Jobs")]
    needs: bool,
    /// Run all jobs of this stage
    #[arg(long = "stage", value_name = "STAGE", help_heading = "Jobs")]
    stages: Vec<String>,
    /// Run the pipeline as far as this job: the stages before it, what it needs, and itself
    #[arg(long, value_name = "JOB", help_heading = "Jobs")]
    until: Vec<String>,
    /// Run only what failed in the last run and what was not reached; artifacts of the other jobs are taken from there
    #[arg(long, conflicts_with_all = ["jobs", "stages", "until", "watch"], help_heading = "Jobs")]
    failed: bool,
    /// Start this manual job when its turn comes
    #[arg(long, value_name = "JOB", help_heading = "Jobs")]
    manual: Vec<String>,
    /// Show which jobs would run, and run nothing
    #[arg(long, conflicts_with = "watch", help_heading = "Jobs")]
    dry_run: bool,
    /// Run again whenever files change. Jobs with `changes` run again only when these match; others always do
    #[arg(long, conflicts_with_all = ["changed", "no_changes", "changes_since", "committed"], help_heading = "Jobs")]
    watch: bool,
    /// Jobs that run at once [default: the number of cores]
    #[arg(long = "jobs", short = 'j', value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// Where jobs run [default: `executor` in `.ci/settings.yml`, else sandbox, else an engine that is there]
    #[arg(long, value_enum)]
    executor: Option<ExecutorKind>,
    /// Change all jobs: `image=host` runs them on this machine's files, `services=none` starts no services
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::request::variable)]
    set: Vec<(String, String)>,
    /// When this job's script fails, open a shell in its very container (`--executor shell`: in its directory) before
    /// that is removed
    #[arg(long, value_name = "JOB", conflicts_with = "format")]
    debug: Option<String>,
    /// Text: a report for people; json: one event a line
    #[arg(long, value_enum, default_value_t, help_heading = "Report")]
    format: Format,
    /// Print every line of every job as it comes, behind the job's name; without a terminal that is so anyway
    #[arg(long, short = 'v', conflicts_with = "quiet", help_heading = "Report")]
    verbose: bool,
    /// Print only what failed, and how it ended
    #[arg(long, short = 'q', help_heading = "Report")]
    quiet: bool,
    /// Write a JUnit report, one test case for each job
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    junit: Option<PathBuf>,
    /// Print failures in a form that a web page shows beside the code
    #[arg(long, value_enum, value_name = "FORM", help_heading = "Report")]
    annotations: Option<Annotations>,
    #[command(flatten)]
    request: RequestArgs,
}

pub(super) fn run(args: &RunArgs) -> CliResult {
    if args.annotations.is_some() && args.format == Format::Json {
        return Err(CliError::usage(
            "`--annotations` and `--format json` would both write to standard output",
        )
        .hint("`--junit FILE` goes well with either"));
    }
    if args.watch {
        return watch::run(args);
    }
    once(args, &args.request.prepare()?)
}

/// One run of a pipeline.
fn once(args: &RunArgs, prepared: &Prepared) -> CliResult {
    if args.format == Format::Text {
        print_raw(diagnostic::render(&prepared.loaded.sources, &prepared.shown()).as_bytes())?;
    }
    let mut plan = prepared.plan()?.clone();
    overrides(&args.set)?.apply(&mut plan);
    debuggable(args, &plan)?;
    let state = State::of(&prepared.project.state_name())?;
    let Some(choice) = choose(args, plan, &state)? else { return Ok(()) };
    if args.dry_run {
        return dry_run(args, prepared, &choice);
    }
    let end = runtime()?.block_on(run_choice(args, prepared, &state, choice))?;
    match end.exit_code() {
        0 => Ok(()),
        code => Err(CliError::silent(ErrorKind::Code(code))),
    }
}

/// `--debug` needs a job of the plan and a terminal.
fn debuggable(args: &RunArgs, plan: &Plan) -> CliResult {
    use std::io::IsTerminal;
    let Some(job) = &args.debug else { return Ok(()) };
    if !plan.jobs.iter().any(|planned| planned.name == *job) {
        let error = CliError::usage(format!("`--debug {job}`: the pipeline has no such job"));
        return Err(error.hint("`ci plan` lists the jobs"));
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(CliError::usage("`--debug` opens a shell for you: it needs a terminal"));
    }
    Ok(())
}

fn dry_run(args: &RunArgs, prepared: &Prepared, choice: &Choice) -> CliResult {
    if args.format == Format::Json {
        return print_json(&choice.plan);
    }
    let mut text = super::plan::table(prepared, &choice.plan);
    if let Some(reused) = &choice.reused {
        text += &format!("\n{}\n", reused.told());
    }
    print_raw(format!("{text}\nnothing was run (--dry-run)\n").as_bytes())
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

async fn run_choice(args: &RunArgs, prepared: &Prepared, state: &State, choice: Choice) -> CliResult<RunEnd> {
    let Choice { plan, flow, reused } = choice;
    let (plan, flow) = (Arc::new(plan), Arc::new(flow));
    let settings = &prepared.settings;
    let chosen = args.executor.or(settings.executor);
    let executor = Arc::new(executor(chosen, state, settings, Vec::new()).await?);
    let commit = &prepared.facts.commit;
    let snapshot = prepared.project.snapshot(&commit.sha, args.request.committed, &state.snapshots())?;
    let directory = state.new_run()?;
    let doing = |e: std::io::Error| CliError::usage(format!("writing to `{}`: {e}", directory.dir.display()));
    if let Some(reused) = &reused {
        reused.bring(&directory.dir)?;
        if args.format == Format::Text && !args.quiet {
            eprintln!("{}", reused.told());
        }
    }
    let journal_path = directory.dir.join("journal.jsonl");
    let telling = Telling::begin(args, prepared);
    let times = estimates_of(args, state);
    let mut journal = Journal::create(&journal_path).map_err(doing)?;
    let events = journal.subscribe();
    let mode = mode(args);
    // a thread of its own: a slow terminal must not hold up the run
    let report = std::thread::spawn(move || {
        let mut out = std::io::stdout();
        match mode {
            Some(mode) => {
                let times = times.and_then(|times| times.join().ok()).unwrap_or_default();
                terminal::report_with(&events, mode, times, &mut out)
            }
            None => json::report(&events, &mut out),
        }
    });
    let slots = args.slots.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let pipeline = Arc::new(Pipeline {
        request: prepared.request.clone(),
        run: Arc::new(shared(args, prepared, &flow, state, &directory, &snapshot.dir)?),
        executor,
        ids: Arc::new(AtomicU64::new(directory.number * 10_000)),
        slots: Arc::new(Semaphore::new(slots.get().min(Semaphore::MAX_PERMITS))),
        locks: state.resource_groups(),
        resource_groups: prepared.resource_groups(),
        created: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
        manual: manual(args, &plan),
        overrides: overrides(&args.set)?,
        snapshot: Arc::new(snapshot.clone()),
        git_tag: prepared.settings.release.git_tag == Some(true),
        depth: 0,
        lineage: vec![(prepared.request.project.clone(), prepared.request.reference.clone())],
        projects: Arc::new(prepared.projects()),
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
    let (keep, newest, state) = (prepared.settings.keep.clone(), directory.dir.clone(), state.clone());
    let tidied = tokio::task::spawn_blocking(move || storage::tidy(&state, &keep, &newest)).await;
    if let Ok(Err(error)) = tidied {
        tracing::warn!("removing old runs: {error}");
    }
    if args.format == Format::Text && !args.quiet {
        eprintln!("logs and artifacts: {}", directory.dir.display());
    }
    if let Some(telling) = telling {
        telling.end(prepared, end, &directory);
    }
    ending::write(args, prepared, &journal_path)?;
    Ok(end)
}

/// How people are told; none: machines are.
fn mode(args: &RunArgs) -> Option<Mode> {
    let mode = Mode::of_stdout();
    // the moving region and a person's shell can't share a terminal
    let mode = if args.debug.is_some() { mode.but(|colour| Mode::Plain { colour }) } else { mode };
    match args.format {
        Format::Json => None,
        Format::Text if args.quiet => Some(mode.but(|colour| Mode::Quiet { colour })),
        Format::Text if args.verbose => Some(mode.but(|colour| Mode::Plain { colour })),
        Format::Text => Some(mode),
    }
}

/// How long jobs usually take, being read while the run begins; only a live report shows it.
fn estimates_of(args: &RunArgs, state: &State) -> Option<JoinHandle<Estimates>> {
    let state = state.clone();
    let live = matches!(mode(args), Some(Mode::Live { .. }));
    live.then(|| std::thread::spawn(move || runs::estimates(&state)))
}

/// What all jobs of the run share.
fn shared(
    args: &RunArgs,
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
        bucket: bucket(prepared),
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
        debug: args.debug.clone(),
    })
}

/// The bucket of caches; one that can't be used is said and left out.
fn bucket(prepared: &Prepared) -> Option<Arc<Bucket>> {
    let s3 = prepared.settings.cache.s3.as_ref()?;
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    match Bucket::new(&s3.address(&prepared.request.project, &machine)) {
        Ok(bucket) => Some(Arc::new(bucket)),
        Err(why) => {
            eprintln!("warning: the bucket of caches can't be used: {why}");
            None
        }
    }
}

/// The executor, proved to work here; what dead runs left of it is removed first. Jobs on this machine's own files don't
/// see what is in `hidden`.
pub(super) async fn executor(
    chosen: Option<ExecutorKind>,
    state: &State,
    settings: &Settings,
    hidden: Vec<PathBuf>,
) -> CliResult<Executor> {
    match chosen {
        Some(ExecutorKind::Shell) => {
            return Ok(Executor::Shell(Shell { builds: state.builds(), sandbox: Sandbox::default() }));
        }
        Some(ExecutorKind::Docker) => return engine::asked(Kind::Docker, state, settings).await,
        Some(ExecutorKind::Podman) => return engine::asked(Kind::Podman, state, settings).await,
        Some(ExecutorKind::Sandbox) | None => {}
    }
    let sandbox = Sandbox::default();
    let network = networking::begin(settings.network, &sandbox).await;
    let states = state.sandboxes();
    let making = |e: &dyn std::fmt::Display| CliError::usage(format!("making `{}`: {e}", states.display()));
    std::fs::create_dir_all(&states).map_err(|e| making(&e))?;
    sweep(&sandbox, &states).await.map_err(|e| making(&e))?;
    let found = sandbox.probe(&states).await;
    if let Err(error) = found.works {
        // who asked for our own containers gets them or an error
        if chosen.is_none()
            && let Some(executor) = engine::instead(&error.to_string(), state, settings).await?
        {
            return Ok(executor);
        }
        let refused = CliError::usage(format!("jobs can't run in containers on this machine: {error}"));
        let told = found.missing.into_iter().map(|m| format!("{}: {}", m.what, m.cure));
        return Err(told
            .fold(refused, CliError::hint)
            .hint("`--executor shell` runs jobs as your own processes, without any isolation"));
    }
    let ci =
        std::env::current_exe().map_err(|e| CliError::usage(format!("finding our own executable: {e}")))?;
    let image = settings.image.clone().unwrap_or_default();
    let registries = settings.registries.clone().into_inner();
    let images = Store::open(&State::images()?, sandbox.clone(), registries)
        .map_err(|e| CliError::usage(format!("opening the store of images: {e}")))?;
    let images = Arc::new(images);
    let limits = settings.limits.limits();
    let networking = network.finish().await?;
    Ok(Executor::Embedded(Embedded { sandbox, states, ci, images, image, limits, networking, hidden }))
}
