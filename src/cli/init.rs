//! `ci init`: a first `.gitlab-ci.yml`.

use super::print_raw;
use super::request::RequestArgs;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::project::Project;
use crate::report::diagnostic;
use crate::starter::{MARKERS, compose, languages};
use clap::Parser;
use std::fs::File;
use std::io::{ErrorKind as IoError, Write};
use std::path::{Path, PathBuf};

/// Write a first .gitlab-ci.yml for this project
///
/// Looks at what the project is written in; the file checks, tests and builds it. An existing file is never touched.
#[derive(clap::Args)]
pub(super) struct InitArgs {
    /// Directory of the project
    #[arg(short = 'C', value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
}

/// The arguments with which the new file is checked.
#[derive(Parser)]
struct Check {
    #[command(flatten)]
    request: RequestArgs,
}

pub(super) fn run(args: &InitArgs) -> CliResult {
    let project = Project::discover(&args.dir)?;
    let root = project.root();
    let path = root.join(".gitlab-ci.yml");
    let languages = languages(root);
    if languages.is_empty() && !path.exists() {
        return Err(CliError::usage(format!("`{}` has no files that tell its language", root.display()))
            .hint(format!("`ci init` looks for {MARKERS} at the top of the project"))
            .hint("a pipeline can be as short as `test: {script: [make test]}`"));
    }
    let text = compose(&languages);
    write(&path, &text)?;
    print_raw(text.as_bytes())?;
    let names: Vec<&str> = languages.iter().map(|language| language.name).collect();
    let mut told = format!("\nwrote {} for {}\n", path.display(), names.join(", "));
    for note in languages.iter().flat_map(|language| &language.notes) {
        told += &format!("note: {note}\n");
    }
    anstream::eprint!("{told}");
    check(root)?;
    anstream::eprintln!("next: `ci plan` shows the jobs, `ci run` runs them");
    Ok(())
}

fn write(path: &Path, text: &str) -> CliResult {
    let shown = path.display();
    let file = File::options().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| match e.kind() {
        IoError::AlreadyExists => CliError::new(
            ErrorKind::Refused,
            format!("`{shown}` is there already; `ci init` only writes a first one"),
        )
        .hint("`ci lint` checks it; `include: {template: NAME}` adds jobs for another language"),
        _ => CliError::usage(format!("writing `{shown}`: {e}")),
    })
}

/// What `ci lint` would say; a project without a commit can't be checked yet.
fn check(root: &Path) -> CliResult {
    let root = root.as_os_str();
    let check = Check::parse_from([std::ffi::OsStr::new("ci"), "-C".as_ref(), root]);
    match check.request.prepare_lint() {
        Ok(prepared) => print_raw(diagnostic::render(&prepared.loaded.sources, &prepared.shown()).as_bytes()),
        Err(error) => {
            anstream::eprintln!("it was not checked: {error}");
            Ok(())
        }
    }
}
