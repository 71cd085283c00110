//! `ci logs`: what jobs of a run said.

use super::on_server::OnServer;
use super::print_raw;
use crate::client::follow;
use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::report::job_log::JobLogView;
use crate::report::terminal::{self, Mode};
use crate::runs::{StoredRun, Tail, estimates, find};
use crate::settings::State;
use pipelines::diagnostic::did_you_mean;
use pipelines::event::{Event, EventKind};
use pipelines::schedule::names;
use pipelines::status::Status;
use std::fs::File;
use std::io::{self, BufRead as _, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// Print what jobs said
///
/// Without JOB: of the jobs that failed in the last run, or of all if none did. What the runner itself says in its own
/// sections is folded to a line each. With `--server` of a job there: by its number, or its name in the newest pipeline.
#[derive(clap::Args)]
pub(super) struct LogsArgs {
    /// Only these jobs; the name of a parallel job stands for all its instances
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Of this run [default: the newest]
    #[arg(long, value_name = "RUN", conflicts_with_all = ["server", "project"])]
    run: Option<u64>,
    /// Of this attempt [default: the last]
    #[arg(long, value_name = "N", requires = "jobs", conflicts_with_all = ["server", "project"])]
    attempt: Option<u32>,
    /// Of this service of the job
    #[arg(long, value_name = "NAME", requires = "jobs", conflicts_with_all = ["server", "project"])]
    service: Option<String>,
    /// Go on until the job, or without JOB the run, is over
    #[arg(long, short = 'f')]
    follow: bool,
    /// The bytes as they are: sections, colours, everything
    #[arg(long)]
    raw: bool,
    /// Fold nothing
    #[arg(long, conflicts_with = "raw")]
    unfold: bool,
    #[command(flatten)]
    on: OnServer,
    /// Directory in the project
    #[arg(short = 'C', value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
}

/// A job in a run, and what its journal told of it.
#[derive(Default)]
struct Told {
    name: String,
    status: Option<Status>,
    /// Log of each attempt.
    logs: Vec<PathBuf>,
}

pub(super) fn run(args: &LogsArgs) -> CliResult {
    if args.on.is_asked() {
        return on_server(args);
    }
    let state = State::of(&Project::discover(&args.dir)?.state_name())?;
    let run = find(&state, args.run)?;
    if args.follow && args.jobs.is_empty() {
        return join(&run, &state);
    }
    let events = run.events()?;
    let told = told(&events);
    let chosen = chosen(args, &run, &told, &events)?;
    if args.follow {
        let [job] = chosen.as_slice() else {
            return Err(CliError::usage("`--follow` follows one job, or without JOB the whole run").hint(
                format!("one of: {}", chosen.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", ")),
            ));
        };
        return follow(args, &run, &job.name);
    }
    let several = chosen.len() > 1;
    for job in chosen {
        if several && !args.raw {
            print_raw(format!("── {} ──\n", job.name).as_bytes())?;
        }
        let path = log_of(args, &run, job)?;
        if !show(args, &path)? {
            return Ok(());
        }
    }
    Ok(())
}

/// A job of a server.
fn on_server(args: &LogsArgs) -> CliResult {
    let [job] = args.jobs.as_slice() else {
        return Err(CliError::usage("say which job of the server: one").hint("`ci jobs` lists them"));
    };
    let place = args.on.place()?;
    let job = place.job(job)?;
    let mut pager = Pager::new(args);
    let mut gone = false;
    let mut take = |bytes: &[u8]| match pager.feed(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            gone = true;
            Ok(false)
        }
        Err(error) => Err(error),
    };
    match args.follow {
        true => follow::follow(&place, job, &mut take)?,
        false => follow::whole(&place, job, &mut take)?,
    }
    match pager.end() {
        Err(error) if !gone => Err(CliError::usage(format!("printing the log of job {job}: {error}"))),
        _ => Ok(()),
    }
}

/// Joins a run that goes on: its report from the beginning.
fn join(run: &StoredRun, state: &State) -> CliResult {
    let tail = Tail::of(run).map_err(|e| CliError::usage(format!("reading run {}: {e}", run.number)))?;
    let (sender, events) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for event in tail {
            if sender.send(Arc::new(event)).is_err() {
                return;
            }
        }
    });
    // a reader that has gone (`ci logs -f | head`) is no failure
    let _ = terminal::report_with(&events, Mode::of_stdout(), estimates(state), &mut io::stdout());
    drop(events);
    let _ = reader.join();
    Ok(())
}

fn told(events: &[Event]) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for event in events {
        let (job, path, status) = match &event.kind {
            EventKind::RunStarted { plan, .. } | EventKind::DownstreamStarted { plan, .. } => {
                for job in &plan.jobs {
                    places.entry(job.name.clone()).or_insert(told.len());
                    told.push(Told { name: job.name.clone(), ..Told::default() });
                }
                continue;
            }
            EventKind::JobLog { job, path, .. } => (job, Some(PathBuf::from(path)), None),
            EventKind::JobStatus { job, status, .. } => (job, None, Some(*status)),
            _ => continue,
        };
        let Some(known) = places.get(job).map(|at| &mut told[*at]) else { continue };
        known.status = status.or(known.status);
        if let Some(path) = path.filter(|path| !known.logs.contains(path)) {
            known.logs.push(path);
        }
    }
    told
}

fn chosen<'t>(
    args: &LogsArgs,
    run: &StoredRun,
    told: &'t [Told],
    events: &[Event],
) -> CliResult<Vec<&'t Told>> {
    if args.jobs.is_empty() {
        let failed: Vec<&Told> =
            told.iter().filter(|j| j.status == Some(Status::Failed) && !j.logs.is_empty()).collect();
        let all = || told.iter().filter(|job| !job.logs.is_empty()).collect();
        return Ok(if failed.is_empty() { all() } else { failed });
    }
    let mut chosen = Vec::new();
    for name in &args.jobs {
        let before = chosen.len();
        chosen.extend(
            told.iter().filter(|job| job.name == *name || instances(events, name).contains(&job.name)),
        );
        if chosen.len() == before {
            let error = CliError::usage(format!("run {} has no job `{name}`", run.number));
            return Err(match did_you_mean(name, told.iter().map(|job| job.name.as_str())) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("`ci runs {}` lists its jobs", run.number)),
            });
        }
    }
    Ok(chosen)
}

/// The instances of the parallel job of that name.
fn instances(events: &[Event], name: &str) -> Vec<String> {
    let plans = events.iter().filter_map(|event| match &event.kind {
        EventKind::RunStarted { plan, .. } | EventKind::DownstreamStarted { plan, .. } => Some(plan),
        _ => None,
    });
    plans.flat_map(|plan| &plan.jobs).filter(|job| names(job, name)).map(|job| job.name.clone()).collect()
}

fn log_of(args: &LogsArgs, run: &StoredRun, job: &Told) -> CliResult<PathBuf> {
    let attempt_of = |path: &&PathBuf| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let found = match args.attempt {
        Some(wanted) => job.logs.iter().find(|path| attempt_of(path) == Some(wanted)),
        None => job.logs.last(),
    };
    let Some(log) = found else {
        let status = job.status.map_or("created", Status::name);
        return Err(match args.attempt.filter(|_| !job.logs.is_empty()) {
            Some(attempt) => {
                CliError::usage(format!("job `{}` had no attempt {attempt} in run {}", job.name, run.number))
                    .hint(format!("it was tried {} times", job.logs.len()))
            }
            None => CliError::usage(format!(
                "job `{}` said nothing in run {}: it is {status}",
                job.name, run.number
            )),
        });
    };
    match &args.service {
        Some(name) => service(log, name, &job.name),
        None => Ok(log.clone()),
    }
}

/// The log of a service, beside that of the job.
fn service(log: &Path, name: &str, job: &str) -> CliResult<PathBuf> {
    let directory = log.with_file_name("services");
    let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let mut known: Vec<String> =
        entries.filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".log")?.to_owned())).collect();
    known.sort_unstable();
    if known.iter().any(|k| k == name) {
        return Ok(directory.join(format!("{name}.log")));
    }
    let error = CliError::usage(format!("job `{job}` has no log of a service `{name}`"));
    Err(match known.is_empty() {
        true => error.hint("it started no services"),
        false => error.hint(format!("there are: {}", known.join(", "))),
    })
}

/// Prints a log. False: whoever reads it has gone.
fn show(args: &LogsArgs, path: &Path) -> CliResult<bool> {
    let file = File::open(path)
        .map_err(|e| CliError::usage(format!("reading the log `{}`: {e}", path.display())))?;
    let mut pager = Pager::new(args);
    let mut reader = io::BufReader::new(file);
    let written = copy(&mut reader, &mut pager).and_then(|()| pager.end());
    gone(written, path)
}

fn gone(written: io::Result<()>, path: &Path) -> CliResult<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::usage(format!("printing the log `{}`: {error}", path.display()))),
    }
}

fn copy(reader: &mut impl io::BufRead, pager: &mut Pager) -> io::Result<()> {
    let mut line = Vec::new();
    // a line without an end comes in pieces, so that no log is too long for the memory
    while reader.by_ref().take(1 << 20).read_until(b'\n', &mut line)? > 0 {
        pager.line(&line)?;
        line.clear();
    }
    Ok(())
}

/// Follows the log of a job until the job is over.
fn follow(args: &LogsArgs, run: &StoredRun, name: &str) -> CliResult {
    let tail = Tail::of(run).map_err(|e| CliError::usage(format!("reading run {}: {e}", run.number)))?;
    let mut pager = Pager::new(args);
    let (mut now, mut shown) = (PathBuf::new(), 0);
    let mut is_over = false;
    for event in tail {
        match event.kind {
            EventKind::JobLog { job, path, length } if job == name => {
                if now != Path::new(&path) {
                    (now, shown) = (PathBuf::from(path), 0);
                }
                if !gone(pager.grown(&now, &mut shown, length), &now)? {
                    return Ok(());
                }
            }
            EventKind::JobStatus { job, status, .. } if job == name => is_over = status.is_complete(),
            _ => {}
        }
        if is_over {
            break;
        }
    }
    gone(pager.end(), &now).map(drop)
}

/// Standard output, as a log is printed to it.
struct Pager {
    out: Box<dyn Write>,
    view: Option<JobLogView>,
    /// A line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Pager {
    fn new(args: &LogsArgs) -> Pager {
        if args.raw {
            return Pager { out: Box::new(io::stdout()), view: None, partial: Vec::new() };
        }
        let view = JobLogView::new(Mode::of_stdout().colour(), args.unfold);
        Pager { out: Box::new(io::BufWriter::new(io::stdout())), view: Some(view), partial: Vec::new() }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.view {
            Some(view) => view.line(line, &mut self.out),
            None => self.out.write_all(line),
        }
    }

    /// Prints what the file has beyond `shown`, up to `length`.
    fn grown(&mut self, path: &Path, shown: &mut u64, length: u64) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(*shown))?;
        let mut bytes = Vec::new();
        let read = file.take(length.saturating_sub(*shown)).read_to_end(&mut bytes)?;
        *shown += u64::try_from(read).unwrap_or(0);
        self.feed(&bytes)
    }

    /// Prints what is whole; the rest waits for its end.
    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut text = std::mem::take(&mut self.partial);
        text.extend(bytes);
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        self.partial = text.split_off(whole);
        for line in text.split_inclusive(|b| *b == b'\n') {
            self.line(line)?;
        }
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.line(&rest)?;
        }
        if let Some(view) = &mut self.view {
            view.end(&mut self.out)?;
        }
        self.out.flush()
    }
}
