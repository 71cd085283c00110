//! `ci runner`: takes jobs of a server.

use super::print_raw;
use super::runtime::runtime;
use crate::error::{CliError, CliResult};
use crate::runner::asking::{Server, base};
use crate::runner::{Config, Processes, Registered, identity, polling};
use crate::settings::{ExecutorKind, State};
use crate::wire::Secret;
use anstream::eprintln;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "SLIPWAY_RUNNER_TOKEN";

#[derive(clap::Args)]
pub(super) struct RunnerArgs {
    /// Servers and tokens [default: `~/.config/slipway/runner.yml`]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: RunnerCommand,
}

#[derive(clap::Subcommand)]
enum RunnerCommand {
    /// Add a server that jobs are asked of. The runner is made on the server, which shows its token; it is read from
    /// SLIPWAY_RUNNER_TOKEN, from a file, or from the terminal
    Register(RegisterArgs),
    /// Take jobs until SIGTERM, SIGINT or SIGQUIT, then wait for those that run; a second signal leaves them running
    Run,
    /// The servers that jobs are asked of
    List,
    /// Take no more jobs of a server
    Unregister {
        /// As `ci runner list` shows it
        name: String,
    },
}

#[derive(clap::Args)]
struct RegisterArgs {
    /// Address of a `ci server` or a GitLab
    #[arg(long, value_name = "URL")]
    url: String,
    /// File with the token (`glrt-…`); `-`: standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// What people call it [default: the name of this machine]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where its jobs run [default: as in `settings.yml`, else sandbox]
    #[arg(long, value_enum)]
    executor: Option<ExecutorKind>,
}

pub(super) fn run(args: &RunnerArgs) -> CliResult {
    let path = args.config.clone().map_or_else(Config::usual_path, Ok)?;
    match &args.command {
        RunnerCommand::Register(args) => register(args, &path),
        RunnerCommand::Run => take_jobs(&path),
        RunnerCommand::List => list(&path),
        RunnerCommand::Unregister { name } => unregister(name, &path),
    }
}

fn system_id(path: &Path) -> CliResult<String> {
    identity::system_id(path)
        .map_err(|e| CliError::usage(format!("reading this machine's id beside `{}`: {e}", path.display())))
}

fn register(args: &RegisterArgs, path: &Path) -> CliResult {
    if !(args.url.starts_with("http://") || args.url.starts_with("https://")) {
        return Err(CliError::usage(format!("`{}` is no address of a server", args.url))
            .hint("it begins with `https://` or `http://`"));
    }
    let mut config = Config::load(path)?;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    if config.runners.iter().any(|runner| runner.name == name) {
        return Err(CliError::usage(format!("there is a runner `{name}` already"))
            .hint("give this one another `--name`, or `ci runner unregister` that one first"));
    }
    let runner = Registered { name, url: base(&args.url), token: token(args)?, executor: args.executor };
    let server = Server::new(&runner, &system_id(path)?, identity::info(runner.executor));
    let server = server.map_err(CliError::usage)?;
    let id = runtime()?.block_on(server.verify()).map_err(|why| {
        CliError::failed(format!("registering at {}: {why}", runner.url)).hint(
            "make the runner on the server's page of runners, and give the token that is shown there once",
        )
    })?;
    let text =
        format!("runner {id} of {} is `{}` here; `ci runner run` takes its jobs\n", runner.url, runner.name);
    config.runners.push(runner);
    config.save(path)?;
    print_raw(text.as_bytes())
}

/// Never from the command line, where everybody on the machine sees it.
fn token(args: &RegisterArgs) -> CliResult<Secret> {
    let reading =
        |from: &str, e: std::io::Error| CliError::usage(format!("reading the token from {from}: {e}"));
    let text = match &args.token_file {
        Some(file) if file.as_os_str() == "-" => {
            std::io::read_to_string(std::io::stdin()).map_err(|e| reading("standard input", e))?
        }
        Some(file) => {
            std::fs::read_to_string(file).map_err(|e| reading(&format!("`{}`", file.display()), e))?
        }
        None => match std::env::var(TOKEN) {
            Ok(token) => token,
            Err(_) if std::io::stdin().is_terminal() => asked().map_err(|e| reading("the terminal", e))?,
            Err(_) => String::new(),
        },
    };
    match text.trim() {
        "" => {
            Err(CliError::usage("there is no token").hint(format!("`--token-file FILE`, or set `{TOKEN}`")))
        }
        text => Ok(Secret::from(text)),
    }
}

/// A line of the terminal, which does not show it.
fn asked() -> std::io::Result<String> {
    anstream::eprint!("token (glrt-…): ");
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    eprintln!();
    read.map(|_| line)
}

fn none(path: &Path) -> CliError {
    CliError::usage(format!("there is no runner in `{}`", path.display()))
        .hint("`ci runner register --url URL` adds one")
}

fn list(path: &Path) -> CliResult {
    let config = Config::load(path)?;
    if config.runners.is_empty() {
        return Err(none(path));
    }
    let mut text = String::new();
    for runner in &config.runners {
        let executor = identity::info(runner.executor).executor;
        text += &format!("{}\t{}\t{executor}\tglrt-{}…\n", runner.name, runner.url, runner.short_token());
    }
    print_raw(text.as_bytes())
}

fn unregister(name: &str, path: &Path) -> CliResult {
    let mut config = Config::load(path)?;
    let Some(index) = config.runners.iter().position(|runner| runner.name == name) else {
        return Err(CliError::usage(format!("there is no runner `{name}` in `{}`", path.display()))
            .hint("`ci runner list` shows them"));
    };
    let runner = config.runners.remove(index);
    let server = Server::new(&runner, &system_id(path)?, identity::info(runner.executor));
    let told = server.and_then(|server| runtime().map_err(|e| e.message)?.block_on(server.leave()));
    config.save(path)?;
    if let Err(why) = told {
        eprintln!("warning: {} was not told: {why}", runner.url);
    }
    print_raw(
        format!("`{name}` takes no more jobs; the server's page of runners removes it there\n").as_bytes(),
    )
}

fn take_jobs(path: &Path) -> CliResult {
    let config = Config::load(path)?;
    if config.runners.is_empty() {
        return Err(none(path));
    }
    say_what_is_done();
    // of no project: where the jobs' processes live
    let home = State::of("runner")?.home().to_path_buf();
    let processes = Processes::new(home.join("jobs"), None)
        .map_err(|e| CliError::usage(format!("making `{}`: {e}", home.join("jobs").display())))?;
    let mut hidden = vec![home];
    hidden.extend(path.canonicalize().ok().and_then(|path| Some(path.parent()?.to_path_buf())));
    let system_id = system_id(path)?;
    eprintln!(
        "taking up to {} jobs at once of {}",
        config.slots(),
        config.runners.iter().map(|runner| runner.url.as_str()).collect::<Vec<_>>().join(", ")
    );
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let working = polling::run(config, system_id, processes, hidden, stop.clone());
        tokio::pin!(working);
        for left in ["no more jobs are taken; waiting for those that run", "the jobs go on by themselves"] {
            tokio::select! {
                ended = &mut working => return ended.map_err(CliError::failed),
                signal = asked_to_end() => signal?,
            }
            eprintln!("{left}");
            stop.cancel();
        }
        Ok(())
    });
    runtime.shutdown_background();
    ended
}

/// What happens to jobs is this command's report: it is shown unless `SLIPWAY_LOG` has decided already.
fn say_what_is_done() {
    let show = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_target(false);
    // with `SLIPWAY_LOG` there is one already
    let _ = show.with_writer(std::io::stderr).try_init();
}

async fn asked_to_end() -> CliResult {
    let listen = |kind| signal(kind).map_err(|e| CliError::usage(format!("listening for signals: {e}")));
    let mut signals =
        [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::quit())?];
    let [terminate, interrupt, quit] = &mut signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = quit.recv() => {}
    }
    Ok(())
}
