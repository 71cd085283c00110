//! `ci release bump`, `tag` and `notes`.

use std::path::Path;

use super::super::{Format, print_json, print_raw};
use super::check::profile;
use crate::deploy;
use crate::error::{CliError, CliResult};
use crate::release::bump::{self, Target};
use crate::release::git;
use crate::release::version::Level;

/// Writes the next version into `rebar.config` and the `.app.src` files, or into `mix.exs`; everything else in them stays
/// as it is. An application whose version is the release's moves with it; another one only if it changed since the
/// release's tag.
#[derive(clap::Args)]
pub(super) struct BumpArgs {
    /// `patch`, `minor`, `major`, or the new version itself
    #[arg(value_name = "VERSION", default_value = "patch")]
    to: String,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn bump(args: &BumpArgs) -> CliResult {
    let to = match &*args.to {
        "patch" => Target::Level(Level::Patch),
        "minor" => Target::Level(Level::Minor),
        "major" => Target::Level(Level::Major),
        version => Target::Exactly(version.to_owned()),
    };
    let failed = |e: crate::release::Error| CliError::usage(e.to_string());
    let edits = bump::bump(Path::new("."), &profile(), &to).map_err(failed)?;
    if !args.dry_run {
        edits.iter().try_for_each(bump::Edit::write).map_err(failed)?;
    }
    let here = Path::new(".").canonicalize().unwrap_or_default();
    let shown = |path: &Path| {
        path.strip_prefix(&here).unwrap_or(path).display().to_string().trim_start_matches("./").to_owned()
    };
    if args.format == Format::Json {
        let files: Vec<_> = edits
            .iter()
            .map(|edit| serde_json::json!({ "file": shown(&edit.path), "of": edit.of, "from": edit.from, "to": edit.to }))
            .collect();
        return print_json(&serde_json::json!({ "format": 1, "written": !args.dry_run, "files": files }));
    }
    let lines: Vec<String> = edits
        .iter()
        .map(|edit| format!("{}: {} {} -> {}\n", shown(&edit.path), edit.of, edit.from, edit.to))
        .collect();
    print_raw(lines.concat().as_bytes())
}

/// Makes the annotated tag `vVERSION` (`VERSION`, if the tags there are have no `v`) on what is checked out. Everything must be
/// committed. Pushing is left to you.
#[derive(clap::Args)]
pub(super) struct TagArgs {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn tag(args: &TagArgs) -> CliResult {
    let (name, version) =
        deploy::identity(Path::new("."), &profile()).map_err(super::super::deploy::cli_error)?;
    let tag = git::tag(Path::new("."), &name, &version).map_err(|e| CliError::failed(e.to_string()))?;
    match args.format {
        Format::Json => {
            print_json(&serde_json::json!({ "format": 1, "name": name, "version": version, "tag": tag }))
        }
        Format::Text => {
            print_raw(format!("tagged {tag}; publish it with `git push origin {tag}`\n").as_bytes())
        }
    }
}

/// Writes what changed as Markdown: conventional commits (`feat:`, `fix:`, ...) under headings, others as they are.
#[derive(clap::Args)]
pub(super) struct NotesArgs {
    /// The older version, or anything that git takes for a commit
    #[arg(value_name = "A")]
    from: String,
    /// The newer one
    #[arg(value_name = "B", default_value = "HEAD")]
    to: String,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn notes(args: &NotesArgs) -> CliResult {
    let notes =
        git::notes(Path::new("."), &args.from, &args.to).map_err(|e| CliError::usage(e.to_string()))?;
    match args.format {
        Format::Json => print_json(&notes),
        Format::Text => print_raw(notes.markdown().as_bytes()),
    }
}
