//! The command line: one file per command.

mod act;
mod apply;
mod approve;
mod artifacts;
mod bundle;
mod clean;
mod clear;
mod completions;
mod deploy;
mod doctor;
mod engine;
mod env;
mod expression;
mod glob;
mod history;
mod images;
mod init;
mod job_process;
mod lint;
mod login;
mod logs;
mod man;
mod networking;
mod notify;
mod on_server;
mod pipelines;
mod plan;
mod project;
mod project_settings;
mod project_variables;
mod promote;
mod receipt;
mod release;
mod request;
mod rollback;
mod run;
mod runner;
mod runs;
mod runtime;
mod server;
mod server_audit;
mod server_data;
mod server_deployments;
mod unlock;

use crate::error::{CliError, CliResult, EXIT_OK};
use anstream::eprintln;
use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// CI/CD from commit to running release: runs .gitlab-ci.yml on this machine as GitLab would, and puts releases
/// on machines.
#[derive(Parser)]
#[command(name = "ci", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Cli {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  success, or nothing to do
  1  the work failed: a job, the configuration, a deployment (the old version still serves)
  2  the command could not be carried out: wrong arguments, no git repository
  3  refused before anything was changed
  4  failed after the point of no return; rolled back or restarted into the old version
  130  cancelled by Ctrl-C

SLIPWAY_LOG=debug (error, warn, info, debug, trace) writes what ci itself does to standard error.";

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Init(init::InitArgs),
    Runs(runs::RunsArgs),
    Logs(logs::LogsArgs),
    Project(project::ProjectArgs),
    Pipelines(pipelines::PipelinesArgs),
    Jobs(pipelines::JobsArgs),
    Play(act::PlayArgs),
    /// Run a job on a server again, or what failed or was cancelled of a pipeline
    Retry(act::ActArgs),
    /// End a job on a server, or all of a pipeline
    Cancel(act::ActArgs),
    /// Show which jobs a pipeline would have, and why
    Plan(plan::PlanArgs),
    /// Check .gitlab-ci.yml: every mistake, with its place and what to do
    Lint(lint::LintArgs),
    /// What jobs have left: list it, or write it to a directory
    Artifacts(artifacts::ArtifactsArgs),
    /// Remove old runs, caches, snapshots and images
    Clean(clean::CleanArgs),
    /// Put this project's release on the target of an environment
    Deploy(deploy::DeployArgs),
    Promote(promote::PromoteArgs),
    Approve(approve::ApproveArgs),
    Reject(server_deployments::RejectArgs),
    Bundle(bundle::BundleArgs),
    Apply(apply::ApplyArgs),
    /// What operations send back
    Receipt(receipt::ReceiptArgs),
    Rollback(rollback::RollbackArgs),
    /// The environments of this project, and what runs on their targets
    Env(env::EnvArgs),
    /// What this project's release is, and what runs of it
    Release(release::ReleaseArgs),
    /// Say what works on this machine, what is missing, and how to get it. Exit code 1: jobs can't run in containers
    Doctor(doctor::DoctorArgs),
    /// Evaluate a `rules:if` expression
    Expression(expression::ExpressionArgs),
    /// Does a `rules:changes` pattern match a path? Exit code 0: yes, 1: no
    Glob(glob::GlobArgs),
    /// The container images on this machine
    Images(images::ImagesArgs),
    /// Tell people; with a command: run it and tell people if it fails
    Notify(notify::NotifyArgs),
    /// Run pipelines on webhooks, with a web page, environments and promotion
    Server(server::ServerArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    /// Take jobs of a server and run them on this machine: a `ci server`, or a GitLab
    Runner(runner::RunnerArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(name = crate::runner::processes::COMMAND, hide = true)]
    Job,
    #[command(hide = true)]
    Names(completions::NamesArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}

/// Parses the arguments, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(level) = std::env::var("SLIPWAY_LOG").ok().and_then(|l| l.parse::<tracing::Level>().ok()) {
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    }
    let there = cli.directory.map_or(Ok(()), |directory| {
        std::env::set_current_dir(&directory)
            .map_err(|e| CliError::usage(format!("changing to the directory `{}`: {e}", directory.display())))
    });
    match there.and_then(|()| run(cli.command)) {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(error) => {
            say(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> CliResult {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Notify(args) => notify::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Login(args) => login::login(&args),
        Command::Logout(args) => login::logout(&args),
        Command::Runner(args) => runner::run(&args),
        Command::Job => job_process::run_job(),
        Command::Plan(args) => plan::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Artifacts(args) => artifacts::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Env(args) => env::run(&args),
        Command::Promote(args) => promote::run(&args),
        Command::Approve(args) => approve::run(&args),
        Command::Reject(args) => server_deployments::reject(&args),
        Command::Project(args) => project::run(&args),
        Command::Pipelines(args) => pipelines::pipelines(&args),
        Command::Jobs(args) => pipelines::jobs(&args),
        Command::Play(args) => act::play(&args),
        Command::Retry(args) => act::act(&args, "retry"),
        Command::Cancel(args) => act::act(&args, "cancel"),
        Command::Bundle(args) => bundle::run(&args),
        Command::Apply(args) => apply::run(&args),
        Command::Receipt(args) => receipt::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Expression(args) => expression::run(&args),
        Command::Glob(args) => glob::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Completions(args) => completions::run(&args, <Cli as clap::CommandFactory>::command()),
        Command::Man(args) => man::run(&args, <Cli as clap::CommandFactory>::command()),
        Command::Names(args) => completions::names(&args),
    }
}

fn say(error: &CliError) {
    if error.message.is_empty() {
        return;
    }
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
    eprintln!("{red}error{red:#}: {}", error.message);
    for hint in &error.hints {
        eprintln!("  {cyan}help{cyan:#}: {hint}");
    }
}

/// Writes a result to standard output. A closed pipe (`ci plan | head`) is the reader's business, not an error.
pub(crate) fn print_raw(bytes: &[u8]) -> CliResult {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::usage(format!("writing to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes a JSON document and a line end to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> CliResult {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| CliError::usage(format!("writing a JSON document: {e}")))?;
    text.push(b'\n');
    print_raw(&text)
}
