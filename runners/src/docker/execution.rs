//! One job's container, and everything that goes with it.

use super::debug;
use super::engine::Engine;
use super::files::Files;
use super::owner::{remove_container, remove_network, remove_volume};
use super::step;
use crate::archive::{Packed, Selection, Unpacked};
use crate::executor::{Directory, ExecutorError, Running, Site, Step};
use crate::workspace::Workspace;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;

/// One job's container.
#[derive(Debug)]
pub struct DockerExecution {
    pub(super) engine: Engine,
    /// As it was asked for.
    pub(super) image: String,
    pub(super) container: String,
    pub(super) belongings: Belongings,
    pub(super) files: Files,
    pub(super) site: Site,
    /// The sources, and what lies over them: copied in this order.
    pub(super) sources: Vec<PathBuf>,
}

impl DockerExecution {
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) async fn get_sources(&mut self) -> Result<(), ExecutorError> {
        for from in std::mem::take(&mut self.sources) {
            self.files.copy(&self.engine, &self.container, &self.site, from).await?;
        }
        Ok(())
    }

    pub(crate) async fn start(&mut self, step: Step) -> Result<Running, ExecutorError> {
        step::start(&self.engine, &self.container, &self.image, step).await
    }

    /// A shell on the terminal of this process, in the job's container.
    pub(crate) async fn debug(&mut self, environment: Vec<(String, String)>) -> Result<(), ExecutorError> {
        debug::open(&self.engine, &self.container, &self.image, environment).await
    }

    pub(crate) async fn pack(
        &mut self,
        selection: Selection,
        archive: File,
    ) -> Result<Packed, ExecutorError> {
        self.files.pack(&self.engine, &self.container, &self.site, selection, archive).await
    }

    pub(crate) async fn unpack(&mut self, into: Directory, archive: File) -> Result<Unpacked, ExecutorError> {
        self.files.unpack(&self.engine, &self.container, &self.site, into, archive).await
    }

    pub(crate) async fn cleanup(self) -> Result<(), ExecutorError> {
        self.belongings.remove().await.map_err(|why| ExecutorError::system("cleaning up", why))
    }
}

/// What a job has at the engine and on this machine. Dropped, it is removed in the background; what that does not
/// reach any more, the next run sweeps.
#[derive(Debug)]
pub(super) struct Belongings {
    engine: Engine,
    /// Names; in the order in which they were made.
    pub(super) containers: Vec<String>,
    /// The last of them, while the engine makes it.
    pub(super) creating: Option<JoinHandle<()>>,
    pub(super) network: Option<String>,
    pub(super) volume: Option<String>,
    /// An image that is there: leftovers of a container's users are deleted by a container.
    pub(super) image: Option<String>,
    /// What writes the services' logs; ends with them.
    pub(super) logs: Vec<JoinHandle<()>>,
    workspace: Option<Workspace>,
}

/// So long the end of a service's log may take to come after the service's end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

impl Belongings {
    pub(super) fn new(engine: Engine, workspace: Workspace) -> Belongings {
        let workspace = Some(workspace);
        let (containers, logs) = (Vec::new(), Vec::new());
        Belongings {
            engine,
            containers,
            creating: None,
            network: None,
            volume: None,
            image: None,
            logs,
            workspace,
        }
    }

    /// The directory on this machine that jobs see as `CI_BUILDS_DIR`, if they see it.
    pub(super) fn workspace(&self) -> Option<&Workspace> {
        self.workspace.as_ref()
    }

    /// Removes everything. All is tried; what can't be removed is said.
    pub(super) async fn remove(mut self) -> Result<(), String> {
        self.take().remove_all().await
    }

    fn take(&mut self) -> Belongings {
        Belongings {
            engine: self.engine.clone(),
            containers: std::mem::take(&mut self.containers),
            creating: self.creating.take(),
            network: self.network.take(),
            volume: self.volume.take(),
            image: self.image.take(),
            logs: std::mem::take(&mut self.logs),
            workspace: self.workspace.take(),
        }
    }

    async fn remove_all(&mut self) -> Result<(), String> {
        let mut failed = Vec::new();
        if let Some(creating) = self.creating.take() {
            // how that ended, the removal shows
            let _ = creating.await;
        }
        // the job first: it uses the others
        while let Some(container) = self.containers.pop() {
            failed.extend(remove_container(&self.engine, &container).await.err());
        }
        for log in self.logs.drain(..) {
            // what comes later is of no interest to anybody
            let _ = tokio::time::timeout(LAST_OUTPUT, log).await;
        }
        if let Some(network) = self.network.take() {
            failed.extend(remove_network(&self.engine, &network).await.err());
        }
        if let Some(volume) = self.volume.take() {
            failed.extend(remove_volume(&self.engine, &volume).await.err());
        }
        if let Some(workspace) = self.workspace.take() {
            failed.extend(self.empty(workspace).await.err());
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    async fn empty(&self, workspace: Workspace) -> Result<(), String> {
        let shown = workspace.builds.display().to_string();
        let (workspace, first) = emptied(workspace).await?;
        let Err(why) = first else { return Ok(()) };
        // files of the container's users: only a container may delete them
        if let Some(image) = &self.image {
            step::delete_inside(&self.engine, image, &workspace.trash()).await;
        }
        let (_, second) = emptied(workspace).await?;
        second.map_err(|_| format!("removing the workspace `{shown}`: {why}"))
    }
}

async fn emptied(workspace: Workspace) -> Result<(Workspace, std::io::Result<()>), String> {
    let emptying = tokio::task::spawn_blocking(move || {
        let result = workspace.empty();
        (workspace, result)
    });
    emptying.await.map_err(|error| format!("removing a workspace: {error}"))
}

impl Drop for Belongings {
    fn drop(&mut self) {
        let nothing = self.containers.is_empty()
            && self.network.is_none()
            && self.volume.is_none()
            && self.workspace.is_none();
        if nothing {
            return;
        }
        let mut left = self.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(why) = left.remove_all().await {
                    tracing::warn!("after a job that was dropped: {why}");
                }
            });
        } else {
            // nobody to do it any more: the sweep of the next run will
            std::mem::forget(left);
        }
    }
}
