//! `ci clean`: removes runs, caches and snapshots that nobody needs any more.

use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::settings::{Settings, State, parse_size};
use crate::storage::{Item, Kind, Limits, empty_trash, inventory, remove, sweep_artifacts, victims};
use runners::image::Store;
use runners::sandbox::Sandbox;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Remove runs with their logs and artifacts, caches, snapshots and images. Without limits, those of the settings (`keep`)
/// hold. The newest run and snapshot of a project stay, and so does what a running pipeline uses.
#[derive(clap::Args)]
pub(super) struct CleanArgs {
    /// Directory in the project
    #[arg(short = 'C', value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// Clean all projects, not only this one
    #[arg(long)]
    all: bool,
    /// What was not used for so long: 12h, 7d, 2 weeks
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// All but the newest N runs of a project
    #[arg(long, value_name = "N")]
    keep_runs: Option<usize>,
    /// The oldest, until the rest fits: 500M, 10 GB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn age(text: &str) -> Result<Duration, String> {
    let seconds = pipelines::duration::parse(text).and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds.ok_or_else(|| format!("`{text}` is not a duration: write `12h`, `7d` or `2 weeks`"))
}

pub(super) fn run(args: &CleanArgs) -> CliResult {
    let found = Project::discover(&args.dir);
    let (state, limits) = match (&found, args.all) {
        (Ok(project), all) => {
            let state = State::of(&project.state_name())?;
            (state, limits(args, &Settings::load(project.root())?, all))
        }
        // no project, no settings of one: those of the user
        (Err(_), true) => (State::of("none")?, limits(args, &Settings::of_user()?, true)),
        (Err(_), false) => {
            return found.map(drop).map_err(|error| error.hint("`ci clean --all` cleans all projects"));
        }
    };
    let projects = if args.all { state.projects() } else { vec![state.dir.clone()] };
    let items: Vec<Item> = projects.iter().flat_map(|project| inventory(project, true)).collect();
    let chosen = victims(&items, &limits, SystemTime::now());
    let mut removed = Vec::new();
    for item in chosen.into_iter().map(|index| &items[index]) {
        let gone = args.dry_run
            || remove(item, &state.trash())
                .map_err(|e| CliError::failed(format!("removing `{}`: {e}", item.paths[0].display())))?;
        if gone {
            removed.push(item);
        }
    }
    if !args.dry_run {
        empty_trash(&state.trash(), None).map_err(|e| {
            CliError::failed(format!("deleting what is in `{}`: {e}", state.trash().display()))
        })?;
        for project in &projects {
            sweep_artifacts(project).map_err(|e| {
                CliError::failed(format!("sweeping the artifacts in `{}`: {e}", project.display()))
            })?;
        }
    }
    let left =
        items.iter().map(|item| item.size).sum::<u64>() - removed.iter().map(|item| item.size).sum::<u64>();
    let images = images(&limits, left, args)?;
    match args.format {
        Format::Text => print_raw(table(&removed, &items, &images, args.dry_run).as_bytes()),
        Format::Json => print_json(&document(&removed, &images, args.dry_run)),
    }
}

/// What became of the images.
#[derive(Default)]
struct Images {
    removed: Vec<String>,
    freed: u64,
    left: usize,
    size: u64,
}

/// Images that were not used for long, and with `--all --max-size` those that don't fit beside the rest.
fn images(limits: &Limits, rest: u64, args: &CleanArgs) -> CliResult<Images> {
    let directory = State::images()?;
    if !directory.is_dir() {
        return Ok(Images::default());
    }
    let failed = |e: runners::image::ImageError| CliError::failed(format!("cleaning images: {e}"));
    let store = Store::open(&directory, Sandbox::default(), BTreeMap::new()).map_err(failed)?;
    let bytes = args.max_size.filter(|_| args.all).map(|size| size.saturating_sub(rest));
    let limits = runners::image::Limits { bytes, age: limits.age };
    let runtime = super::runtime::small_runtime()?;
    let collected = runtime.block_on(store.collect(limits, args.dry_run)).map_err(failed)?;
    let gone = if args.dry_run { collected.bytes } else { 0 };
    let listed = store.list().map_err(failed)?.len();
    Ok(Images {
        left: if args.dry_run { listed.saturating_sub(collected.images.len()) } else { listed },
        size: store.bytes().map_err(failed)?.saturating_sub(gone),
        freed: collected.bytes,
        removed: collected.images,
    })
}

fn limits(args: &CleanArgs, settings: &Settings, all: bool) -> Limits {
    let asked = Limits { runs: args.keep_runs, age: args.older_than, size: args.max_size };
    if asked != Limits::default() {
        return asked;
    }
    // the size in the settings is that of one project
    let size = (!all).then(|| settings.keep.size());
    Limits { runs: Some(settings.keep.runs()), age: Some(settings.keep.age()), size }
}

fn table(removed: &[&Item], all: &[Item], images: &Images, dry_run: bool) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{:<10} {:>8} {:>10} {:>8} {:>10}", "", "removed", "freed", "left", "size");
    let sum =
        |items: &mut dyn Iterator<Item = &Item>| items.fold((0, 0), |(n, size), i| (n + 1, size + i.size));
    for kind in [Kind::Run, Kind::Cache, Kind::Snapshot] {
        let (count, freed) = sum(&mut removed.iter().copied().filter(|item| item.kind == kind));
        let (before, size) = sum(&mut all.iter().filter(|item| item.kind == kind));
        let (freed_text, left) = (bytes(freed), bytes(size - freed));
        let _ =
            writeln!(out, "{:<10} {count:>8} {freed_text:>10} {:>8} {left:>10}", kind.name(), before - count);
    }
    let (freed, size) = (bytes(images.freed), bytes(images.size));
    let _ = writeln!(
        out,
        "{:<10} {:>8} {freed:>10} {:>8} {size:>10}",
        "images",
        images.removed.len(),
        images.left
    );
    if dry_run {
        out.push_str("nothing was removed: this was --dry-run\n");
    }
    out
}

fn document(removed: &[&Item], images: &Images, dry_run: bool) -> serde_json::Value {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entry = |item: &&Item| {
        serde_json::json!({
            "kind": item.kind, "project": name(&item.project), "name": item.name, "bytes": item.size,
        })
    };
    let mut freed: BTreeMap<&str, u64> = BTreeMap::new();
    for item in removed {
        *freed.entry(item.kind.name()).or_default() += item.size;
    }
    if !images.removed.is_empty() {
        freed.insert("images", images.freed);
    }
    let mut removed: Vec<_> = removed.iter().map(entry).collect();
    removed.extend(images.removed.iter().map(|name| serde_json::json!({ "kind": "image", "name": name })));
    serde_json::json!({ "dry_run": dry_run, "freed": freed, "removed": removed })
}

/// A size for people: `12.3 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}
