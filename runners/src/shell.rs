//! The shell executor: a job is processes on this machine, as this user, in a directory of its own. Nothing is
//! isolated but the directory and the environment. A supervisor of ours adopts what a job leaves running, so that it
//! ends with the job or with `ci`, however that ends.

use crate::archive::{self, Packed, Selection, Unpacked};
use crate::executor::{Directory, ExecutorError, Place, Running, Site, Step};
use crate::running::{running, streams, system};
use crate::sandbox::{Command, Sandbox};
use crate::script::{DETECT_SHELL, for_a_person, shell_here};
use crate::terminal::Terminal;
use crate::workspace::{self, Workspace};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

/// Variables of this process that jobs see; everything else comes from the pipeline.
const PASSED_ON: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// Runs jobs as processes on this machine.
#[derive(Clone, Debug)]
pub struct Shell {
    /// Directory of the slots.
    pub builds: PathBuf,
    /// How supervisors are started.
    pub sandbox: Sandbox,
}

/// One job's directory and processes.
#[derive(Debug)]
pub struct ShellExecution {
    workspace: Workspace,
    sandbox: Sandbox,
    site: Site,
    /// The sources, and what lies over them: copied in this order.
    sources: Vec<PathBuf>,
}

impl Shell {
    pub(crate) async fn prepare(&self, place: Place) -> Result<ShellExecution, ExecutorError> {
        let builds = self.builds.clone();
        let doing = format!("making a workspace in `{}`", builds.display());
        let project = place.project;
        let workspace = blocking(move || Workspace::claim(&builds, &project))
            .await?
            .map_err(|error| ExecutorError::system(&doing, error))?;
        let site = Site {
            builds: workspace.builds.clone(),
            project: workspace.project.clone(),
            temporary: workspace.temporary(),
            slot: workspace.slot,
            disposable: false,
        };
        let sources = place.checkout.into_iter().chain(place.overlays).collect();
        Ok(ShellExecution { workspace, sandbox: self.sandbox.clone(), site, sources })
    }
}

impl ShellExecution {
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) async fn get_sources(&mut self) -> Result<(), ExecutorError> {
        let (sources, project) = (std::mem::take(&mut self.sources), self.site.project.clone());
        blocking(move || sources.iter().try_for_each(|from| workspace::copy_tree(from, &project)))
            .await?
            .map_err(|error| ExecutorError::system("getting the sources", error))
    }

    pub(crate) async fn start(&mut self, step: Step) -> Result<Running, ExecutorError> {
        let (streams, output) = streams(&step.script)?;
        let argv = match shell_here() {
            Some(shell) => vec![shell.to_owned()],
            None => ["/bin/sh", "-c", DETECT_SHELL].map(str::to_owned).to_vec(),
        };
        let command = self.command(argv, step.environment);
        running(self.sandbox.start_plain(command, streams).await.map_err(system)?, output)
    }

    fn command(&self, argv: Vec<String>, variables: Vec<(String, String)>) -> Command {
        let passed_on =
            PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let environment: BTreeMap<String, String> = passed_on.chain(variables).collect();
        Command { argv, env: environment.into_iter().collect(), cwd: self.site.builds.clone() }
    }

    /// A shell on the terminal of this process, in the job's directory.
    pub(crate) async fn debug(&mut self, environment: Vec<(String, String)>) -> Result<(), ExecutorError> {
        let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), for_a_person("directory")];
        let terminal = Terminal::take()?;
        let command = self.command(argv, environment);
        let started = self.sandbox.start_plain_terminal(command, terminal.streams()?).await;
        terminal.lend(started).await
    }

    pub(crate) async fn pack(
        &mut self,
        selection: Selection,
        archive: File,
    ) -> Result<Packed, ExecutorError> {
        let project = self.site.project.clone();
        Ok(blocking(move || archive::pack(&project, &selection, archive)).await??)
    }

    pub(crate) async fn unpack(&mut self, into: Directory, archive: File) -> Result<Unpacked, ExecutorError> {
        let directory = match into {
            Directory::Project => self.site.project.clone(),
            Directory::Temporary => self.site.temporary.clone(),
        };
        Ok(blocking(move || archive::unpack(&directory, archive)).await??)
    }

    pub(crate) async fn cleanup(self) -> Result<(), ExecutorError> {
        let doing = format!("removing the workspace `{}`", self.site.builds.display());
        blocking(move || self.workspace.empty()).await?.map_err(|error| ExecutorError::system(&doing, error))
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ExecutorError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ExecutorError::system("working on files", error))
}
