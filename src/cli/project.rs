//! `ci project`: projects on a server.

use super::env::columns;
use super::on_server::{OnServer, text};
use super::project_settings::{self, SetArgs};
use super::project_variables::{self, VariablesArgs};
use super::{Format, print_json, print_raw};
use crate::client::Place;
use crate::error::{CliError, CliResult};
use crate::server::hooks::forge::Forge;
use clap::builder::PossibleValuesParser;
use reqwest::Method;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Projects on a server: repositories, settings, variables, hooks
#[derive(clap::Args)]
pub(super) struct ProjectArgs {
    #[command(subcommand)]
    command: ProjectCommand,
}

#[derive(clap::Subcommand)]
enum ProjectCommand {
    /// List the projects that you may see
    List {
        #[command(flatten)]
        on: OnServer,
        /// How they are printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show a project and its settings
    Show {
        #[command(flatten)]
        on: OnServer,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    Add(AddArgs),
    Set(SetArgs),
    /// Remove a project with its pipelines, logs, artifacts, variables and secrets
    Remove {
        /// Its path
        #[arg(value_name = "GROUP/PROJECT")]
        path: String,
        /// Don't ask back
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        on: OnServer,
    },
    Variables(VariablesArgs),
    Hook(HookArgs),
}

/// Make a project
#[derive(clap::Args)]
struct AddArgs {
    /// Its path
    #[arg(value_name = "GROUP/PROJECT")]
    path: String,
    /// Its repository: https://…, ssh://…, user@host:path, file:///…
    #[arg(long, value_name = "URL")]
    git_url: String,
    /// Who sends its deliveries
    #[arg(long, value_name = "FORGE", value_parser = forges())]
    forge: String,
    /// Address of the forge's API [default: as the forge has it]
    #[arg(long, value_name = "URL")]
    forge_url: Option<String>,
    /// Default branch [default: the repository's]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// User of the repository
    #[arg(long, value_name = "NAME", requires = "git_secret")]
    git_user: Option<String>,
    /// File with that user's password, token or private ssh key; `-`: standard input
    #[arg(long, value_name = "FILE", requires = "git_user")]
    git_secret: Option<PathBuf>,
    /// File with the token for commit statuses; `-`: standard input
    #[arg(long, value_name = "FILE")]
    forge_token: Option<PathBuf>,
    #[command(flatten)]
    on: OnServer,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Show where a project's deliveries go and how to set the hook up; make and remove its secrets
#[derive(clap::Args)]
struct HookArgs {
    /// Make one more secret and print it, this once; all hold at the same time
    #[arg(long, value_name = "NAME", conflicts_with = "remove_secret")]
    new_secret: Option<String>,
    /// Remove the secret with this number
    #[arg(long, value_name = "NUMBER")]
    remove_secret: Option<i64>,
    #[command(flatten)]
    on: OnServer,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn forges() -> PossibleValuesParser {
    PossibleValuesParser::new(Forge::ALL.map(Forge::name))
}

pub(super) fn run(args: &ProjectArgs) -> CliResult {
    match &args.command {
        ProjectCommand::List { on, format } => list(on, *format),
        ProjectCommand::Show { on, format } => {
            let project: Json = on.place().and_then(|place| place.server.get(&place.path("")))?;
            shown(&project, *format)
        }
        ProjectCommand::Add(args) => add(args),
        ProjectCommand::Set(args) => project_settings::set(args),
        ProjectCommand::Remove { path, yes, on } => remove(on, path, *yes),
        ProjectCommand::Variables(args) => project_variables::run(args),
        ProjectCommand::Hook(args) => hook(args),
    }
}

fn list(on: &OnServer, format: Format) -> CliResult {
    let all: Vec<Json> = on.server()?.get("/api/v1/projects")?;
    let all: Vec<Json> =
        all.into_iter().filter(|one| on.project().is_none_or(|path| one["path"] == path)).collect();
    if format == Format::Json {
        return print_json(&all);
    }
    if all.is_empty() {
        return print_raw(b"no projects\n");
    }
    let mut rows = vec![["PROJECT", "BRANCH", "FORGE", "REPOSITORY", ""].map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|one| {
        let paused = if one["paused"] == true { "paused" } else { "" };
        let mut cells = ["path", "default_branch", "forge", "git_url"].map(|name| text(one, name)).to_vec();
        cells.push(paused.to_owned());
        cells
    }));
    print_raw(columns(&rows).as_bytes())
}

/// A project and its settings, a line each.
pub(super) fn shown(project: &Json, format: Format) -> CliResult {
    if format == Format::Json {
        return print_json(project);
    }
    let mut out = String::new();
    let names = ["path", "id", "git_url", "forge", "forge_url", "default_branch", "protected_refs", "paused"];
    for (of, name) in names.map(|name| (project, name)).into_iter().chain(settings(project)) {
        let said = match &of[name] {
            Json::Array(list) => list.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "),
            _ => text(of, name),
        };
        let said = if said.is_empty() { "-" } else { &said };
        // writing into a text can't fail
        let _ = writeln!(out, "{:<16} {said}", name.replace('_', "-"));
    }
    print_raw(out.as_bytes())
}

fn settings(project: &Json) -> impl Iterator<Item = (&Json, &str)> {
    let settings = &project["settings"];
    settings.as_object().into_iter().flatten().map(move |(name, _)| (settings, name.as_str()))
}

fn add(args: &AddArgs) -> CliResult {
    let mut new = json!({ "path": args.path, "git_url": args.git_url, "forge": args.forge });
    let mut given = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            new[name] = json!(value);
        }
    };
    given("forge_url", &args.forge_url);
    given("default_branch", &args.branch);
    given("forge_token", &args.forge_token.as_deref().map(secret).transpose()?);
    if let (Some(user), Some(file)) = (&args.git_user, &args.git_secret) {
        new["git"] = json!({ "user": user, "secret": secret(file)? });
    }
    let made: Json = args.on.server()?.post("/api/v1/projects", Some(&new))?;
    if args.format == Format::Json {
        return print_json(&made);
    }
    let mut out = format!("project {} is there as {}\n", made["project"]["id"], args.path);
    let _ = match made["repository"]["ok"] == true {
        true => writeln!(out, "its repository has {} branches and tags", made["repository"]["refs"]),
        false => {
            writeln!(out, "its repository could not be reached: {}", text(&made["repository"], "error"))
        }
    };
    let _ = writeln!(out, "hook secret, shown this once: {}\n", text(&made["hook"], "secret"));
    out.push_str(made["hook"]["setup"].as_str().unwrap_or_default());
    print_raw(out.as_bytes())
}

/// What a file holds, or standard input: never an argument, which others could read.
pub(super) fn secret(file: &Path) -> CliResult<String> {
    let read = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let value = read.map_err(|e| CliError::usage(format!("reading `{}`: {e}", file.display())))?;
    // what `echo` and editors add; a key keeps its last line end
    let line = value.strip_suffix('\n').filter(|line| !line.contains('\n'));
    Ok(line.map(str::to_owned).unwrap_or(value))
}

fn remove(on: &OnServer, path: &str, yes: bool) -> CliResult {
    let place = Place::find(on.server()?, Some(path))?;
    if !yes {
        let told = format!(
            "`{path}` and all pipelines, logs, artifacts, variables and secrets of it would be removed"
        );
        return Err(CliError::usage(told).hint("`--yes` does it; nothing brings them back"));
    }
    place.server.change(Method::DELETE, &place.path(""), None)?;
    print_raw(format!("{path} is removed\n").as_bytes())
}

fn hook(args: &HookArgs) -> CliResult {
    let place = args.on.place()?;
    if let Some(name) = &args.new_secret {
        let made: Json =
            place.server.post(&place.path("secrets"), Some(&json!({ "kind": "hook", "name": name })))?;
        if args.format == Format::Json {
            return print_json(&made);
        }
        return print_raw(
            format!("hook secret {}, shown this once: {}\n", made["id"], text(&made, "value")).as_bytes(),
        );
    }
    if let Some(number) = args.remove_secret {
        place.server.change(Method::DELETE, &place.path(&format!("secrets/{number}")), None)?;
        return print_raw(format!("secret {number} is removed\n").as_bytes());
    }
    let hook: Json = place.server.get(&place.path("hook"))?;
    let secrets: Vec<Json> = place.server.get(&place.path("secrets"))?;
    let secrets: Vec<&Json> = secrets.iter().filter(|secret| secret["kind"] == "hook").collect();
    if args.format == Format::Json {
        return print_json(&json!({ "url": hook["url"], "setup": hook["setup"], "secrets": secrets }));
    }
    let mut out = hook["setup"].as_str().unwrap_or_default().to_owned();
    for secret in secrets {
        let _ = writeln!(out, "secret {}: {}", secret["id"], text(secret, "name"));
    }
    print_raw(out.as_bytes())
}
