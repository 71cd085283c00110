//! `ci server`

use super::print_raw;
use super::runtime::runtime;
use super::server_audit;
use crate::error::{CliError, CliResult};
use crate::server::config::Config;
use crate::server::{App, people, serve};
use std::net::SocketAddr;
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
}

pub(super) fn run(args: &ServerArgs) -> CliResult {
    let mut config = config(args)?;
    match &args.command {
        Some(ServerCommand::SignIn { name }) => return sign_in(config, name),
        Some(ServerCommand::Audit(command)) => return server_audit::run(config, command),
        None => {}
    }
    runtime()?.block_on(async {
        let failed = |e| CliError::usage(format!("listening on {}: {e}", config.listen));
        let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(failed)?;
        // port 0 is any that is free
        config.listen = listener.local_addr().map_err(failed)?;
        let app = App::open(config).await.map_err(|e| CliError::usage(e.to_string()))?;
        let password = std::env::var("SLIPWAY_ADMIN_PASSWORD").ok().filter(|p| !p.is_empty());
        let first = people::first_account(&app, password.as_deref()).await;
        let link = first.map_err(|e| CliError::usage(format!("making the account `admin`: {e}")))?;
        eprintln!("listening on http://{}", app.config.listen);
        if let Some(link) = link {
            eprintln!("sign in as `admin`, once, at {link}");
        }
        tokio::spawn(end_on_signal(app.clone()));
        serve::serve(app, listener).await.map_err(|e| CliError::failed(format!("serving: {e}")))
    })
}

async fn end_on_signal(app: App) {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut interrupt)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            app.ending.cancel();
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!("waiting for signals: {error}"),
    }
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
    Ok(config)
}
