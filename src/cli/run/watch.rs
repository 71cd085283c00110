//! `ci run --watch`: runs, waits until files change, runs again what these changes concern.

use super::{RunArgs, once};
use crate::cli::say;
use crate::dispatch::interrupts;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::project::Project;
use anstream::eprintln;
use notify::event::{CreateKind, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Silence after which a change is over: editors write in several steps.
const SILENCE: Duration = Duration::from_millis(200);

/// Until Ctrl-C.
pub(super) fn run(args: &RunArgs) -> CliResult {
    let project = Project::discover(&args.request.dir)?;
    let runtime = super::runtime()?;
    // watching begins before the first run: nothing that is written meanwhile is missed
    let mut files = Files::watch(project, args)?;
    let mut changed: Option<BTreeSet<String>> = None;
    loop {
        let request = match &changed {
            Some(paths) => args.request.with_changed(paths.iter().cloned().collect()),
            None => args.request.clone(),
        };
        let ended = request.prepare().and_then(|prepared| once(args, &prepared));
        match &ended {
            Err(error) if error.exit_code() == crate::error::EXIT_CANCELED => return ended,
            Err(error) => say(error),
            // a change that failed is looked at again together with the next one
            Ok(()) => changed = None,
        }
        eprintln!("\nwaiting for changes; Ctrl-C ends");
        let Some(paths) = runtime.block_on(files.next())? else {
            // behind the terminal's own ^C
            eprintln!();
            return Err(CliError::silent(ErrorKind::Canceled));
        };
        let shown: Vec<&str> = paths.iter().take(3).map(String::as_str).collect();
        let more = paths.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        eprintln!("\nchanged: {}{more}", shown.join(", "));
        changed.get_or_insert_default().extend(paths);
    }
}

/// The project's files, without what git ignores.
struct Files {
    project: Project,
    root: PathBuf,
    /// What `ci` itself writes.
    own: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<notify::Event>>,
}

impl Files {
    fn watch(project: Project, args: &RunArgs) -> CliResult<Files> {
        let (sender, events) = mpsc::unbounded_channel();
        // a receiver that is gone is a run that is over
        let watcher = notify::recommended_watcher(move |event| drop(sender.send(event)));
        let root = project.root().canonicalize().unwrap_or_else(|_| project.root().to_owned());
        let state = crate::settings::State::of(&project.state_name())?;
        let own = args.junit.iter().map(PathBuf::as_path).chain([state.home()]);
        let own = own.filter_map(|path| std::path::absolute(path).ok()).collect();
        let watcher = watcher.map_err(|e| watching(&root, &e))?;
        let mut files = Files { project, root, own, watcher, events };
        files.add(&files.root.clone())?;
        Ok(files)
    }

    /// Watches a directory and those below it. Only directories with files that count: others, such as
    /// `node_modules`, may have more of them than the kernel can watch.
    fn add(&mut self, directory: &Path) -> CliResult {
        let mut waiting = vec![directory.to_owned()];
        while let Some(directory) = waiting.pop() {
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // gone again already
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => continue,
                Err(error) if !directory.exists() => drop(error),
                Err(error) => return Err(watching(&directory, &error)),
            }
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            let directories = entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
            waiting.extend(directories.map(|e| e.path()).filter(|path| self.relative(path).is_some()));
        }
        Ok(())
    }

    /// The path from the project's root, if it counts.
    fn relative(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.root).ok()?;
        let ours = self.own.iter().any(|own| path.starts_with(own));
        let git = relative.starts_with(".git") || relative.as_os_str().is_empty();
        // git wants to know directories by their slash
        let asked = if path.is_dir() { relative.join("") } else { relative.to_owned() };
        let ignored = self.project.repository().is_path_ignored(&asked).unwrap_or(false);
        (!ours && !git && !ignored).then(|| relative.to_string_lossy().into_owned())
    }

    /// The paths that change next, when the change is over. None: Ctrl-C.
    async fn next(&mut self) -> CliResult<Option<BTreeSet<String>>> {
        let mut stop = interrupts().map_err(|e| CliError::usage(format!("listening for Ctrl-C: {e}")))?;
        let mut paths = BTreeSet::new();
        // what does not count, such as somebody reading, must not put it off
        let mut over = Instant::now();
        loop {
            tokio::select! {
                _ = stop.recv() => return Ok(None),
                Some(event) = self.events.recv() => {
                    if self.take(event, &mut paths)? {
                        over = Instant::now() + SILENCE;
                    }
                }
                () = tokio::time::sleep_until(over), if !paths.is_empty() => return Ok(Some(paths)),
            }
        }
    }

    /// Adds the paths that an event is about. Does it count?
    fn take(
        &mut self,
        event: notify::Result<notify::Event>,
        paths: &mut BTreeSet<String>,
    ) -> CliResult<bool> {
        let event = event.map_err(|e| watching(&self.root, &e))?;
        let mut counts = false;
        if matches!(event.kind, EventKind::Access(_)) {
            return Ok(counts);
        }
        for path in &event.paths {
            let Some(relative) = self.relative(path) else { continue };
            counts = true;
            if path.is_dir() {
                if matches!(
                    event.kind,
                    EventKind::Create(CreateKind::Folder | CreateKind::Any) | EventKind::Modify(_)
                ) {
                    self.add(path)?;
                    paths.extend(files_below(path).iter().filter_map(|file| self.relative(file)));
                }
            } else {
                paths.insert(relative);
            }
        }
        Ok(counts)
    }
}

/// Files in a directory that has just appeared: they may have been there before it was watched.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let kind = entry.file_type();
            let list = if kind.is_ok_and(|kind| kind.is_dir()) { &mut waiting } else { &mut files };
            list.push(entry.path());
        }
    }
    files
}

fn watching(path: &Path, error: &notify::Error) -> CliError {
    let failed = CliError::usage(format!("watching `{}`: {error}", path.display()));
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            failed.hint("the kernel watches no more directories: raise `sysctl fs.inotify.max_user_watches`")
        }
        _ => failed,
    }
}
