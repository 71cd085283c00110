//! `ci release inspect`, `diff`, `list` and `keep`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::{Format, print_json, print_raw};
use super::check::print_findings;
use super::locate::{self, find, unusable};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::Ledger;
use crate::ledger::packages::{self, Whole};
use crate::release::{self, Inspection, Package, PackageDiff, Store};

#[derive(clap::Args)]
pub(super) struct InspectArgs {
    /// A package file, or a version that is kept or built here
    #[arg(value_name = "PACKAGE")]
    package: String,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn inspect(args: &InspectArgs) -> CliResult {
    let inspection = Inspection::of(&find(&args.package, None)?.package);
    match args.format {
        Format::Json => print_json(&inspection)?,
        Format::Text => {
            print_raw(inspection.text().as_bytes())?;
            if !inspection.findings.is_empty() {
                print_raw(b"\n")?;
                print_findings(&inspection.findings)?;
            }
        }
    }
    let sound = !inspection.findings.iter().any(release::Finding::is_error);
    if sound { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}

#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// The older package: a file, or a version that is kept or built here
    #[arg(value_name = "A")]
    old: String,
    /// The newer one
    #[arg(value_name = "B")]
    new: String,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn diff(args: &DiffArgs) -> CliResult {
    let diff = PackageDiff::between(&find(&args.old, None)?.package, &find(&args.new, None)?.package);
    match args.format {
        Format::Json => print_json(&diff),
        Format::Text => print_raw(diff.text().as_bytes()),
    }
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn list(args: &ListArgs) -> CliResult {
    let stored = locate::store().map(|store| store.list()).unwrap_or_default();
    if args.format == Format::Json {
        return print_json(&serde_json::json!({ "format": 1, "packages": stored }));
    }
    if stored.is_empty() {
        return print_raw(b"no packages are kept for this project; `ci release keep FILE` keeps one\n");
    }
    let mut rows =
        vec![["VERSION", "RELEASE", "SIZE", "ERTS", "UPGRADES FROM", "KEPT", "SHA-256"].map(str::to_owned)];
    for stored in &stored {
        let from =
            if stored.upgrades_from.is_empty() { "-".to_owned() } else { stored.upgrades_from.join(",") };
        let erts = if stored.fat { stored.erts.clone() } else { format!("({})", stored.erts) };
        let at = i64::try_from(stored.at).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
        let at = at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M").to_string());
        let size = release::bytes(stored.size);
        rows.push([
            stored.version.clone(),
            stored.name.clone(),
            size,
            erts,
            from,
            at,
            stored.sha256[..12].to_owned(),
        ]);
    }
    print_raw(table(&rows).as_bytes())
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(line, "{cell:width$}  ", width = width(column));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[derive(clap::Args)]
pub(super) struct KeepArgs {
    /// The package
    #[arg(value_name = "FILE")]
    package: PathBuf,
    /// Commit that it was built from [default: unknown]
    #[arg(long)]
    commit: Option<String>,
}

pub(super) fn keep(args: &KeepArgs) -> CliResult {
    let package = Package::read(&args.package).map_err(unusable)?;
    let appups = written_beside(&package);
    let path = match package.has_erts() {
        true => {
            let path = args.package.clone();
            let whole = Whole { path, appups, plain: None, package: None, recipe: None };
            PathBuf::from(packages::keep(Path::new("."), &whole, args.commit.as_deref())?.package)
        }
        // a thin package can't be promoted: it is for upgrades only
        false => {
            let store = Store::at(Ledger::of(Path::new("."))?.releases());
            let kept = store.keep(&package, &appups, args.commit.as_deref());
            store.path(&kept.map_err(|e| CliError::failed(e.to_string()))?)
        }
    };
    let (name, version) = (&package.rel.name, &package.rel.version);
    print_raw(format!("kept {name} {version} as {}\n", path.display()).as_bytes())
}

/// The appups that are in the package itself.
fn written_beside(package: &Package) -> Vec<(String, release::Appup)> {
    let parsed =
        package.appups.iter().map(|(app, text)| (app, release::Appup::parse(&format!("{app}.appup"), text)));
    parsed.filter_map(|(app, appup)| Some((app.clone(), appup.ok()?))).collect()
}
