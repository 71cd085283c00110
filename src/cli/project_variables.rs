//! `ci project variables`

use super::env::columns;
use super::on_server::{OnServer, ago, text};
use super::project::secret;
use super::{Format, print_json, print_raw};
use crate::client::Place;
use crate::error::{CliError, CliResult};
use reqwest::Method;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// Variables and secrets of a project's jobs. Values are never shown
#[derive(clap::Args)]
pub(super) struct VariablesArgs {
    #[command(subcommand)]
    command: VariablesCommand,
}

#[derive(clap::Subcommand)]
enum VariablesCommand {
    /// List them
    List {
        #[command(flatten)]
        on: OnServer,
        /// How they are printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    Set(SetArgs),
    /// Remove one
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        key: String,
        /// The one of these environments
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        scope: String,
        #[command(flatten)]
        on: OnServer,
    },
}

/// Set one, from standard input or a file: `ci project variables set TOKEN < FILE`
#[derive(clap::Args)]
struct SetArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    key: String,
    /// File with the value; `-`: standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    from: PathBuf,
    /// For jobs of these environments
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    scope: String,
    /// For pipelines of protected refs only
    #[arg(long)]
    protected: bool,
    /// It may be seen in logs
    #[arg(long)]
    unmasked: bool,
    /// The variable holds the path of a file with the value
    #[arg(long)]
    file: bool,
    /// `$` in the value is a `$`
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    on: OnServer,
}

pub(super) fn run(args: &VariablesArgs) -> CliResult {
    match &args.command {
        VariablesCommand::List { on, format } => list(&on.place()?, *format),
        VariablesCommand::Set(args) => set(args),
        VariablesCommand::Remove { key, scope, on } => remove(&on.place()?, key, scope),
    }
}

fn list(place: &Place, format: Format) -> CliResult {
    let all: Vec<Json> = place.server.get(&place.path("variables"))?;
    if format == Format::Json {
        return print_json(&all);
    }
    if all.is_empty() {
        return print_raw(b"no variables\n");
    }
    let mut rows =
        vec![["NAME", "ENVIRONMENTS", "KIND", "CHANGED", "BY", "USED"].map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|one| {
        let kinds = ["protected", "masked", "file", "raw"].into_iter().filter(|kind| one[*kind] == true);
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let rest = [kinds, ago(one, "updated_at"), text(one, "updated_by"), ago(one, "used_at")];
        [text(one, "key"), text(one, "environment_scope")].into_iter().chain(rest).collect()
    }));
    print_raw(columns(&rows).as_bytes())
}

fn set(args: &SetArgs) -> CliResult {
    let place = args.on.place()?;
    let new = json!({
        "key": args.key, "value": secret(&args.from)?, "environment_scope": args.scope, "protected": args.protected,
        "masked": !args.unmasked, "file": args.file, "raw": args.raw,
    });
    let _: Json = place.server.post(&place.path("variables"), Some(&new))?;
    print_raw(format!("{} is set for {}\n", args.key, args.scope).as_bytes())
}

fn remove(place: &Place, key: &str, scope: &str) -> CliResult {
    let all: Vec<Json> = place.server.get(&place.path("variables"))?;
    let found = all.iter().find(|one| one["key"] == key && one["environment_scope"] == scope);
    let found = found.ok_or_else(|| {
        let scopes = all.iter().filter(|one| one["key"] == key).map(|one| text(one, "environment_scope"));
        let scopes = scopes.collect::<Vec<_>>().join(", ");
        let error = CliError::usage(format!("`{}` has no variable `{key}` for `{scope}`", place.project));
        match scopes.is_empty() {
            true => error.hint("`ci project variables list` lists them"),
            false => error.hint(format!("`--scope` names one of: {scopes}")),
        }
    })?;
    place.server.change(Method::DELETE, &place.path(&format!("variables/{}", found["id"])), None)?;
    print_raw(format!("{key} is removed\n").as_bytes())
}
