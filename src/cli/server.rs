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
    let config = config(args)?;
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(config.listen).await;
        let listener =
            listener.map_err(|e| CliError::usage(format!("listening on {}: {e}", config.listen)))?;
        let app = App::open(config).await.map_err(|e| CliError::usage(e.to_string()))?;
        eprintln!("listening on {}", app.config.public_url());
        serve::serve(app, listener).await.map_err(|e| CliError::failed(format!("serving: {e}")))
    })
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
