//! `ci server`

use super::runtime::runtime;
use crate::error::{CliError, CliResult};
use crate::server::config::Config;
use crate::server::{App, serve};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Run pipelines on webhooks, with a web page, environments and promotion
#[derive(clap::Args)]
pub(super) struct ServerArgs {
    /// Settings [default: `server.yml` here, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of the database, logs, artifacts and keys
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(super) fn run(args: &ServerArgs) -> CliResult {
    let mut config = config(args)?;
    runtime()?.block_on(async {
        let failed = |e| CliError::usage(format!("listening on {}: {e}", config.listen));
        let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(failed)?;
        // port 0 is any that is free
        config.listen = listener.local_addr().map_err(failed)?;
        let app = App::open(config).await.map_err(|e| CliError::usage(e.to_string()))?;
        eprintln!("listening on http://{}", app.config.listen);
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
