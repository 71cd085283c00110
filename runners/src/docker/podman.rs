//! Podman without a socket: its service, started by us.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// The service ends by itself when nobody has asked for so many seconds: also after `kill -9` of ours.
const IDLE_SECONDS: &str = "30";
const START: Duration = Duration::from_secs(20);

/// `podman system service`; dropping it ends it.
#[derive(Debug)]
pub(super) struct Service {
    dir: tempfile::TempDir,
    _child: Child,
}

impl Service {
    /// Starts it and waits until its socket is there.
    pub(super) async fn start() -> Result<Service, String> {
        let dir = tempfile::Builder::new()
            .prefix("slipway-podman-")
            .tempdir()
            .map_err(|error| format!("making a directory for its socket: {error}"))?;
        let socket = dir.path().join("podman.sock");
        let mut child = Command::new("podman")
            .args(["system", "service", "--time", IDLE_SECONDS])
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => "the program `podman` is not installed".to_owned(),
                _ => error.to_string(),
            })?;
        let begun = tokio::time::Instant::now();
        while !socket.exists() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if begun.elapsed() > START {
                return Err(format!("it made no socket within {} s", START.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Service { dir, _child: child })
    }

    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("podman.sock")
    }
}
