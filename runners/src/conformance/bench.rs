//! A run with nothing around it: jobs made here, run one by one, looked at afterwards.

use crate::archive;
use crate::artifacts::Index;
use crate::executor::Executor;
use crate::job::{self, Cancel, JobSources, JobSpec, Outcome, Run, Runner};
use pipelines::event::{EventKind, Phase};
use pipelines::plan::{Artifacts, Job, JobVariable, Plan, Work};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Different for every job of this process: leftovers are found by it.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A temporary run.
#[derive(Debug)]
pub struct Bench {
    /// Facts of the run; may be changed between jobs.
    pub run: Run,
    executor: Executor,
    _dir: tempfile::TempDir,
}

/// What a job did.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of its log, invalid UTF-8 replaced.
    pub log: String,
    /// Phases in the order of their events.
    pub phases: Vec<Phase>,
    /// Texts of notices.
    pub notices: Vec<String>,
    /// Length of the log as the last event said it.
    pub announced: u64,
    /// The attempt's directory.
    pub dir: PathBuf,
    /// Unique mark in the environment of the job's processes.
    pub mark: String,
}

impl Bench {
    /// An empty run with a small checkout: `README` and `src/main.c`.
    ///
    /// # Errors
    /// The temporary directory can't be filled.
    pub fn new(executor: &Executor) -> io::Result<Bench> {
        let dir = tempfile::Builder::new().prefix("slipway-bench-").tempdir()?;
        let checkout = dir.path().join("checkout");
        fs::create_dir_all(checkout.join("src"))?;
        fs::write(checkout.join("README"), "read me\n")?;
        fs::write(checkout.join("src/main.c"), "int main(void) { return 0; }\n")?;
        let tracked = ["README", "src/main.c"].map(str::to_owned).to_vec();
        let run = Run {
            id: 7,
            parent: None,
            dir: dir.path().join("run"),
            cache: dir.path().join("cache"),
            bucket: None,
            project: "group/app".to_owned(),
            plan: Arc::new(Plan::default()),
            checkout,
            tracked: Arc::new(tracked),
            variables: Vec::new(),
            fixed: HashSet::new(),
            runner: Runner {
                id: 1,
                description: "bench".into(),
                tags: vec!["a".into()],
                version: "0".into(),
            },
            output_limit: Run::OUTPUT_LIMIT,
            grace: Duration::from_secs(30),
            timeout: Run::TIMEOUT,
            debug: None,
        };
        Ok(Bench { run, executor: executor.clone(), _dir: dir })
    }

    /// A job with a script in stage `test`.
    pub fn job(name: &str, script: &[&str]) -> Job {
        Job { work: Work { script: texts(script), ..Work::default() }, ..Job::new(name, "test") }
    }

    /// Artifacts with these paths.
    pub fn artifacts(paths: &[&str]) -> Artifacts {
        Artifacts { paths: Some(texts(paths)), ..Artifacts::default() }
    }

    /// A plain variable.
    pub fn variable(key: &str, value: &str) -> JobVariable {
        JobVariable { key: key.to_owned(), value: value.to_owned(), file: false, masked: false, raw: false }
    }

    /// Runs the first attempt of a job.
    ///
    /// # Errors
    /// Its log can't be read.
    pub async fn run(&self, job: Job) -> io::Result<Report> {
        self.attempt(job, 1, None).await
    }

    /// Runs an attempt; `cancel` is requested as soon as the log holds the text.
    ///
    /// # Errors
    /// Its log can't be read.
    pub async fn attempt(
        &self,
        mut job: Job,
        attempt: u32,
        cancel: Option<(Cancel, &str)>,
    ) -> io::Result<Report> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mark = format!("SLIPWAY_BENCH={}-{id}", std::process::id());
        let (key, value) = mark.split_once('=').unwrap_or_default();
        job.environment_variables.push(Bench::variable(key, value));
        let spec = JobSpec {
            id,
            job,
            attempt,
            run: Arc::new(self.run.clone()),
            sources: JobSources::default(),
            courier: None,
        };
        let (dir, path) = (spec.dir(), spec.log());
        let (events, mut received) = mpsc::unbounded_channel();
        let (switch, switched) = watch::channel(Cancel::No);
        let executor = self.executor.clone();
        let task = tokio::spawn(async move { job::run(spec, &executor, events, switched).await });
        let mut report = Report {
            outcome: Outcome::Canceled,
            log: String::new(),
            phases: Vec::new(),
            notices: Vec::new(),
            announced: 0,
            dir,
            mark,
        };
        while let Some(event) = received.recv().await {
            match event {
                EventKind::JobPhase { phase, .. } => report.phases.push(phase),
                EventKind::Notice { message, .. } => report.notices.push(message),
                EventKind::JobLog { length, .. } => report.announced = length,
                _ => {}
            }
            if let Some((level, text)) = cancel
                && String::from_utf8_lossy(&fs::read(&path)?).contains(text)
            {
                switch.send_replace(level);
            }
        }
        report.outcome = task.await.map_err(io::Error::other)?;
        report.log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        Ok(report)
    }

    /// Starts a job and drops it as soon as its log holds the text.
    ///
    /// # Errors
    /// The job ends before, or something of it still runs afterwards.
    pub async fn abandon(&self, mut job: Job, text: &str) -> io::Result<()> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{id}", std::process::id());
        job.environment_variables.push(Bench::variable("SLIPWAY_BENCH", &mark));
        let spec = JobSpec {
            id,
            job,
            attempt: 1,
            run: Arc::new(self.run.clone()),
            sources: JobSources::default(),
            courier: None,
        };
        let path = spec.log();
        let (events, mut received) = mpsc::unbounded_channel();
        let (_switch, switched) = watch::channel(Cancel::No);
        let mut running = Box::pin(job::run(spec, &self.executor, events, switched));
        loop {
            tokio::select! {
                outcome = &mut running => return Err(io::Error::other(format!("it ended: {outcome:?}"))),
                Some(_) = received.recv() => {
                    if fs::read_to_string(&path)?.contains(text) {
                        break;
                    }
                }
            }
        }
        drop(running);
        if all_gone(&format!("SLIPWAY_BENCH={mark}")).await {
            Ok(())
        } else {
            Err(io::Error::other("something still runs"))
        }
    }
}

impl Report {
    /// Names and contents of the files that were kept as artifacts; empty when nothing was.
    ///
    /// # Errors
    /// The archive is there and can't be read.
    pub fn kept(&self) -> Result<Vec<(String, String)>, String> {
        let job_directory = self.dir.parent().unwrap_or(&self.dir);
        let found = Index::newest(job_directory).map_err(|error| error.to_string())?;
        let Some(stored) = found.and_then(|(_, index)| index.archive) else { return Ok(Vec::new()) };
        let file = fs::File::open(self.dir.join(stored.file)).map_err(|error| error.to_string())?;
        let files = archive::entries(file, 1 << 20).map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(files.iter().map(|(path, content)| (path.display().to_string(), text(content))).collect())
    }

    /// Waits until no process has the job's mark in its environment; false when some stay.
    pub async fn nothing_runs(&self) -> bool {
        all_gone(&self.mark).await
    }
}

async fn all_gone(mark: &str) -> bool {
    for _ in 0..100 {
        if !has_process(mark) {
            return true;
        }
        // a killed process ends in its own time
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

fn has_process(mark: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut environments = entries.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    environments.any(|bytes| bytes.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}
