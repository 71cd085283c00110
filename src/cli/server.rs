//! `ci server`

use anstream::eprintln;

use super::print_raw;
use super::runtime::runtime;
use super::{server_audit, server_data};
use crate::error::{CliError, CliResult};
use crate::server::config::Config;
use crate::server::ops::{self, handover};
use crate::server::{App, people, serve};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Run pipelines on webhooks, with a web page, environments and promotion
#[derive(clap::Args)]
pub(super) struct ServerArgs {
    #[command(subcommand)]
    command: Option<ServerCommand>,
    /// Settings [default: `server.yml` here, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of the database, logs, artifacts and keys
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum ServerCommand {
    /// Print a one-time address where the owner of an account sets a new password
    SignIn {
        /// Of the account
        #[arg(default_value = "admin")]
        name: String,
    },
    /// The record of what was done
    #[command(subcommand)]
    Audit(server_audit::AuditCommand),
    /// Write a settings file with every setting explained
    Init {
        /// Where
        #[arg(default_value = "server.yml")]
        file: PathBuf,
    },
    /// Copy everything into one file while the server runs, and prove that it can be restored
    Backup {
        /// Where to; it is replaced when the copy is good
        file: PathBuf,
        /// With the key of the secrets: whoever has the copy can then read them
        #[arg(long)]
        with_key: bool,
    },
    /// Bring a backup into an empty data directory and an empty database: those of `--data` or `--config`
    Restore {
        /// The backup
        file: PathBuf,
    },
}

pub(super) fn run(args: &ServerArgs) -> CliResult {
    let mut config = config(args)?;
    match &args.command {
        Some(ServerCommand::SignIn { name }) => return sign_in(config, name),
        Some(ServerCommand::Audit(command)) => return server_audit::run(config, command),
        Some(ServerCommand::Init { file }) => return server_data::init(file),
        Some(ServerCommand::Backup { file, with_key }) => {
            return server_data::backup(&config, file, *with_key);
        }
        Some(ServerCommand::Restore { file }) => return server_data::restore(&config, file),
        None => {}
    }
    runtime()?.block_on(async {
        let usage = |e: std::io::Error| CliError::usage(e.to_string());
        let listener = match handover::inherited().map_err(usage)? {
            Some(listener) => listener,
            None => listen(config.listen)?,
        };
        // port 0 is any that is free
        config.listen = listener.local_addr().map_err(usage)?;
        let lock = handover::lock(&config.data).map_err(usage)?;
        let app = App::open(config).await.map_err(usage)?;
        ops::maintenance::load(&app).await.map_err(|e| CliError::usage(e.to_string()))?;
        let password = std::env::var("SLIPWAY_ADMIN_PASSWORD").ok().filter(|p| !p.is_empty());
        let first = people::first_account(&app, password.as_deref()).await;
        let link = first.map_err(|e| CliError::usage(format!("making the account `admin`: {e}")))?;
        eprintln!("listening on http://{}", app.config.listen);
        if let Some(link) = link {
            eprintln!("sign in as `admin`, once, at {link}");
        }
        // not before: the first line says where the server listens
        ops::begin_log();
        handover::tell_systemd(std::process::id());
        let socket = OwnedFd::from(listener.try_clone().map_err(usage)?);
        tokio::spawn(on_signals(app.clone(), socket));
        let listener = tokio::net::TcpListener::from_std(listener).map_err(usage)?;
        let served = serve::serve(app, listener).await;
        drop(lock);
        served.map_err(|e| CliError::failed(format!("serving: {e}")))
    })
}

fn listen(address: SocketAddr) -> CliResult<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|e| {
        CliError::usage(format!("listening on {address}: {e}"))
            .hint("`--listen ADDRESS:PORT` chooses another; port 0 is any that is free")
    })
}

/// TERM and INT end the server; USR2 and HUP have the executable on disk take over, which reads the settings again. Jobs
/// go on in processes of their own.
async fn on_signals(app: App, socket: OwnedFd) {
    use tokio::signal::unix::{SignalKind, signal};
    // of a server in the foreground HUP says that its terminal is gone; looked at now, as then it is none any more
    let foreground = std::io::stderr().is_terminal();
    let kinds =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined2(), SignalKind::hangup()];
    let [Ok(mut term), Ok(mut interrupt), Ok(mut next), Ok(mut hangup)] = kinds.map(signal) else {
        tracing::error!("signals can't be waited for");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = next.recv() => {}
            _ = hangup.recv() => if foreground { break },
        }
        match handover::start_next(&socket) {
            Ok(pid) => {
                tracing::info!(pid, "another server takes over");
                handover::tell_systemd(pid);
                break;
            }
            Err(error) => tracing::error!("handing over: {error}"),
        }
    }
    app.closing.cancel();
}

/// Opens what is there: the server may run meanwhile.
pub(super) async fn open(config: Config) -> CliResult<App> {
    if config.database.is_none() && !config.data.join("slipway.db").exists() {
        let told = format!("there is no server's data in `{}`", config.data.display());
        return Err(
            CliError::usage(told).hint("say where it is: `--data DIR`, or `--config FILE` of the server")
        );
    }
    App::open(config).await.map_err(|e| CliError::usage(e.to_string()))
}

fn sign_in(config: Config, name: &str) -> CliResult {
    let address = runtime()?.block_on(async {
        let app = open(config).await?;
        people::sign_in_address(&app, name).await.map_err(|e| CliError::usage(e.to_string()))
    })?;
    print_raw(format!("{address}\n").as_bytes())
}

fn config(args: &ServerArgs) -> CliResult<Config> {
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from("server.yml"));
    let mut config = match std::fs::read_to_string(&path) {
        Ok(text) => {
            serde_yaml::from_str(&text).map_err(|e| CliError::usage(format!("`{}`: {e}", path.display())))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.config.is_none() => {
            Config::default()
        }
        Err(error) => return Err(CliError::usage(format!("reading `{}`: {error}", path.display()))),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(data) = &args.data {
        config.data = data.clone();
    }
    // processes of jobs and deployments have other working directories
    config.data = std::path::absolute(&config.data)
        .map_err(|e| CliError::usage(format!("finding `{}`: {e}", config.data.display())))?;
    Ok(config)
}
