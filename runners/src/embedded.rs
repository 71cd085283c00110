//! The embedded executor: every job in containers of our own, see [`crate::sandbox`]. The sources are the lower
//! layer of the project directory, so nothing is copied; every step, and every archive, gets fresh processes over
//! the same layers.

use crate::archive::{Packed, Selection, Unpacked};
use crate::container::{self, Container};
use crate::executor::{Directory, ExecutorError, Place, Running, Said, Site, Step, Voice};
use crate::image::{Image, Platform, PullPolicy, Store, Told, Wanted};
use crate::running::{running, streams, system};
use crate::sandbox::{Access, Error, Limits, Mount, Process, Sandbox, Spec, StateDir, Streams, Task};
use crate::services::{Asked, Company, Networking, Order};
use crate::terminal::Terminal;
use pipelines::plan;
use pipelines::status::FailureReason;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// `CI_BUILDS_DIR` of every job.
const BUILDS: &str = "/builds";
/// The image that is this machine's own files.
const HOST: &str = "host";

/// Runs jobs in sandboxes.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// How sandboxes are started.
    pub sandbox: Sandbox,
    /// Directory of all state directories, see [`StateDir::create`].
    pub states: PathBuf,
    /// The executable that jobs of image `host` find as `ci`.
    pub ci: PathBuf,
    /// Where images come from.
    pub images: Arc<Store>,
    /// Image of jobs that name none; empty: `host`.
    pub image: String,
    /// What each job may use.
    pub limits: Limits,
    /// Which network jobs get.
    pub networking: Networking,
    /// Directories that jobs of image `host` don't see, beside those of [`Spec::host`].
    pub hidden: Vec<PathBuf>,
}

/// One job's layers.
#[derive(Debug)]
pub struct EmbeddedExecution {
    sandbox: Sandbox,
    state: StateDir,
    /// Without the project directory.
    base: Spec,
    container: Container,
    site: Site,
    /// The sources, and what lies over them, the uppermost last.
    sources: Vec<PathBuf>,
    /// The layers below the job's own: nothing before the sources have come in.
    lower: Vec<PathBuf>,
    company: Company,
}

impl Embedded {
    pub(crate) async fn prepare(&self, place: Place) -> Result<EmbeddedExecution, ExecutorError> {
        let doing = format!("making a sandbox in `{}`", self.states.display());
        let failed = |error: io::Error| ExecutorError::system(&doing, error);
        let plain = |component| matches!(component, Component::Normal(_));
        if place.project.is_empty() || !Path::new(&place.project).components().all(plain) {
            return Err(ExecutorError::system(&doing, format!("`{}` is not a project path", place.project)));
        }
        let asked = place.image.clone().unwrap_or_default();
        let asked =
            if asked.name.is_empty() { plan::Image { name: self.image.clone(), ..asked } } else { asked };
        let image = match asked.name.as_str() {
            "" | HOST => None,
            _ => Some(self.find(&asked, &place.variables, &place.said).await?),
        };
        let services = self.services(&place).await?;
        let (slot, state) = free_state(&self.states)?;
        let (mut base, container) = match &image {
            None => {
                let mut spec = Spec::host(state.path(), &self.ci);
                spec.hidden.extend(self.hidden.iter().cloned());
                (spec, Container::host(Path::new(BUILDS)))
            }
            Some(image) => {
                let mut spec = Spec::image(state.path(), image.layers.clone());
                spec.user = container::user(image, &asked);
                let container = Container::image(image, &asked, &spec.hostname);
                (spec, container)
            }
        };
        base.limits = self.limits;
        let site = Site {
            builds: PathBuf::from(BUILDS),
            project: Path::new(BUILDS).join(&place.project),
            temporary: Path::new(BUILDS).join(format!("{}.tmp", place.project)),
            slot,
            disposable: true,
        };
        let builds = state.path().join("builds");
        make_builds(&builds, &place.project, container::is_root(&base.user)).map_err(failed)?;
        base.mounts.push(Mount::Bind {
            source: builds,
            target: PathBuf::from(BUILDS),
            access: Access::ReadWrite,
        });
        let company = match Company::start(services, &self.order(slot, &place)).await {
            Ok(company) => company,
            Err(error) => {
                // the failure before it is the one to tell
                let _as_well = state.remove(&self.sandbox).await;
                return Err(error);
            }
        };
        company.attach(&mut base);
        let sandbox = self.sandbox.clone();
        let sources = place.checkout.into_iter().chain(place.overlays).collect();
        Ok(EmbeddedExecution { sandbox, state, base, container, site, sources, lower: Vec::new(), company })
    }

    /// The job's services with their images.
    async fn services(&self, place: &Place) -> Result<Vec<Asked>, ExecutorError> {
        let finding = place.services.iter().zip(1..).map(|(service, number)| async move {
            let image = match service.image.name.as_str() {
                HOST => None,
                _ => Some(self.find(&service.image, &place.variables, &place.said).await?),
            };
            Ok(Asked { service: service.clone(), image, number })
        });
        futures_util::future::try_join_all(finding).await
    }

    /// The image, unpacked on disk; what happens meanwhile is told.
    async fn find(
        &self,
        asked: &plan::Image,
        variables: &[(String, String)],
        said: &Voice,
    ) -> Result<Image, ExecutorError> {
        let failed = |message: String| ExecutorError { reason: FailureReason::ImagePullFailure, message };
        let policies: Result<Vec<PullPolicy>, String> =
            asked.pull_policy.iter().map(|policy| policy.parse()).collect();
        let platform = asked.docker.as_ref().and_then(|docker| docker.get("platform")?.as_str());
        let platform: Option<Platform> = platform
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(|error| failed(format!("`image:docker:platform`: {error}"))))
            .transpose()?;
        let wanted = Wanted {
            name: &asked.name,
            policies: &policies.map_err(failed)?,
            platform: platform.as_ref(),
            auth_config: variables
                .iter()
                .find(|(name, _)| name == "DOCKER_AUTH_CONFIG")
                .map(|(_, value)| &**value),
        };
        let said = said.clone();
        let say = move |told| match told {
            Told::Line(line) => said.say(Said::Line(line)),
            Told::Warning(line) => said.say(Said::Line(format!("WARNING: {line}"))),
            _ => {}
        };
        self.images.get(&wanted, &say).await.map_err(|error| failed(error.to_string()))
    }
}

impl Embedded {
    fn order<'a>(&'a self, slot: u32, place: &'a Place) -> Order<'a> {
        let debug =
            place.variables.iter().any(|(name, value)| name == "CI_DEBUG_SERVICES" && value == "true");
        Order {
            networking: &self.networking,
            sandbox: &self.sandbox,
            states: &self.states,
            ci: &self.ci,
            hidden: &self.hidden,
            limits: self.limits,
            slot,
            logs: place.service_logs.clone(),
            masked: &place.masked,
            said: &place.said,
            debug,
        }
    }
}

/// The directories above the project and of its file variables. For others than root they are open to everybody
/// inside, as GitLab's; the state directory around them keeps everybody else out.
fn make_builds(builds: &Path, project: &str, for_root: bool) -> io::Result<()> {
    let temporary = builds.join(format!("{project}.tmp"));
    for (path, mode) in [(builds.join(project), 0o755), (temporary, 0o700)] {
        DirBuilder::new().recursive(true).mode(mode).create(&path)?;
        let ours = path.ancestors().take_while(|above| above.starts_with(builds));
        for above in ours.filter(|_| !for_root) {
            fs::set_permissions(above, Permissions::from_mode(0o777))?;
        }
    }
    Ok(())
}

/// The first number that no other job has. Numbers of dead jobs come back when they are swept.
fn free_state(states: &Path) -> Result<(u32, StateDir), ExecutorError> {
    for slot in 0..u32::MAX {
        match StateDir::create(states, &slot.to_string()) {
            Ok(state) => return Ok((slot, state)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(system(error)),
        }
    }
    Err(ExecutorError::system("making a sandbox", "every number is taken"))
}

impl EmbeddedExecution {
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn get_sources(&mut self) {
        self.lower.extend(self.sources.drain(..).rev());
    }

    fn spec(&self) -> Spec {
        let mut spec = self.base.clone();
        spec.mounts.push(self.state.workspace(self.lower.clone(), &self.site.project));
        spec
    }

    pub(crate) async fn start(&mut self, step: Step) -> Result<Running, ExecutorError> {
        let (streams, output) = streams(&step.script)?;
        let task = Task::Run(self.container.shell(step.environment));
        let started = self.sandbox.start(&self.spec(), task, streams).await;
        running(started.map_err(|error| self.container.explain(error))?, output)
    }

    /// A shell on the terminal of this process, in what the job has left.
    pub(crate) async fn debug(&mut self, environment: Vec<(String, String)>) -> Result<(), ExecutorError> {
        let terminal = Terminal::take()?;
        let task = Task::Terminal(self.container.terminal(environment));
        let started = self.sandbox.start(&self.spec(), task, terminal.streams()?).await;
        terminal.lend(started).await
    }

    pub(crate) async fn pack(
        &mut self,
        selection: Selection,
        archive: File,
    ) -> Result<Packed, ExecutorError> {
        let task = Task::Archive { dir: self.site.project.clone(), selection };
        let streams = Streams { stdin: None, stdout: Stdio::from(archive), stderr: Stdio::piped() };
        let mut process = self.sandbox.start(&self.spec(), task, streams).await.map_err(system)?;
        let told = process.stderr.take();
        finish(process, told, "packing files").await
    }

    pub(crate) async fn unpack(&mut self, into: Directory, archive: File) -> Result<Unpacked, ExecutorError> {
        let dir = match into {
            Directory::Project => self.site.project.clone(),
            Directory::Temporary => self.site.temporary.clone(),
        };
        let archive = Some(OwnedFd::from(archive));
        let streams = Streams { stdin: archive, stdout: Stdio::piped(), stderr: Stdio::null() };
        let task = Task::Restore { dir };
        let mut process = self.sandbox.start(&self.spec(), task, streams).await.map_err(system)?;
        let told = process.stdout.take();
        finish(process, told, "unpacking files").await
    }

    pub(crate) async fn cleanup(self) -> Result<(), ExecutorError> {
        let stopped = self.company.stop(&self.sandbox).await;
        self.state.remove(&self.sandbox).await.map_err(system).and(stopped)
    }
}

/// Waits for file work inside, and reads what it tells about itself.
async fn finish<T: serde::de::DeserializeOwned>(
    mut process: Process,
    told: Option<impl AsyncReadExt + Unpin>,
    doing: &str,
) -> Result<T, ExecutorError> {
    let mut text = Vec::new();
    if let Some(mut told) = told {
        told.read_to_end(&mut text).await.map_err(|error| ExecutorError::system(doing, error))?;
    }
    process.wait().await.map_err(system)?;
    serde_json::from_slice(&text).map_err(|error| ExecutorError::system(doing, error))
}
