//! From a job's wishes to its container.

use super::engine::{Engine, told};
use super::execution::{Belongings, DockerExecution};
use super::files::Files;
use super::job_container::{Parts, job_container};
use super::{owner, pull, readiness, services};
use crate::executor::{ExecutorError, Place, Site};
use crate::sandbox::Limits;
use crate::workspace::Workspace;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use pipelines::plan::Image;
use pipelines::status::FailureReason;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{OnceCell, oneshot};

/// `CI_BUILDS_DIR` of every job.
pub(super) const BUILDS: &str = "/builds";

/// Runs jobs in containers of an engine.
#[derive(Clone, Debug)]
pub struct Docker {
    /// The engine.
    pub engine: Engine,
    /// Directory of the slots that hold the jobs' files, where the engine sees them.
    pub builds: PathBuf,
    /// Of jobs that name no image.
    pub image: Option<String>,
    /// Of each container.
    pub limits: Limits,
    /// Does the engine see the files of this machine? Found out by the first job.
    pub(super) shares: Arc<OnceCell<bool>>,
}

impl Docker {
    /// An executor without an image for jobs that name none, and without limits.
    pub fn new(engine: Engine, builds: PathBuf) -> Docker {
        Docker { engine, builds, image: None, limits: Limits::default(), shares: Arc::default() }
    }

    /// Says whether the engine sees the files of this machine, before the first job would find it out.
    pub fn share(&mut self, shares: bool) {
        self.shares = Arc::new(OnceCell::new_with(Some(shares)));
    }

    pub(crate) async fn prepare(&self, place: Place) -> Result<DockerExecution, ExecutorError> {
        let image = self.image_of(&place)?;
        let pulled = pull::get(&self.engine, &image, &place).await?;
        let user = pull::user(&image).or(pulled.config.user.as_deref()).unwrap_or_default().to_owned();
        let workspace = self.workspace(&place.project).await?;
        let site = Site {
            builds: PathBuf::from(BUILDS),
            project: Path::new(BUILDS).join(&place.project),
            temporary: Path::new(BUILDS).join(format!("{}.tmp", place.project)),
            slot: workspace.slot,
            disposable: true,
        };
        let mut belongings = Belongings::new(self.engine.clone(), workspace);
        let files = Files::make(self, &pulled, is_root(&user), &mut belongings).await?;
        let network = services::start(self, &place, &mut belongings).await?;
        readiness::wait(&self.engine, &pulled, &network.services, &place, &mut belongings).await;
        let parts = Parts {
            image: &image,
            pulled: &pulled,
            place: &place,
            files: files.mount(&belongings),
            network: &network,
            limits: self.limits,
        };
        let name = owner::unique_name();
        let mut options = CreateContainerOptionsBuilder::new().name(&name);
        if let Some(platform) = pull::platform(&image) {
            options = options.platform(platform);
        }
        // known by its name before it is there: whoever drops us meanwhile removes it
        belongings.containers.push(name.clone());
        let (api, body) = (self.engine.api.clone(), job_container(&parts));
        let failed = |why: String| ExecutorError::system("creating the job's container", why);
        let (tell, created) = oneshot::channel();
        // dropped half-way, what the engine is making would come to be after it was removed
        belongings.creating = Some(tokio::spawn(async move {
            let _dropped = tell.send(api.create_container(Some(options.build()), body).await.map(drop));
        }));
        created.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(told(&error)))?;
        files.fill(&self.engine, &name, &site).await?;
        Ok(DockerExecution {
            engine: self.engine.clone(),
            image: pulled.name,
            container: name,
            belongings,
            files,
            site,
            sources: place.checkout.iter().chain(&place.overlays).cloned().collect(),
        })
    }

    fn image_of(&self, place: &Place) -> Result<Image, ExecutorError> {
        let asked = place.image.clone().filter(|image| !image.name.is_empty());
        let default = self.image.clone().map(|name| Image { name, ..Image::default() });
        let failed = |message: String| ExecutorError { reason: FailureReason::RunnerUnsupported, message };
        let kind = self.engine.kind.name();
        let image = asked.or(default).ok_or_else(|| {
            failed(format!(
                "the {kind} executor needs an image: write `image:` in the job or under `default`, or use \
                 `ci run --set image=NAME`"
            ))
        })?;
        if image.name == "host" {
            return Err(failed(format!(
                "the image `host` is this machine itself, which the {kind} executor does not have: name an image, \
                 or use `--executor sandbox`"
            )));
        }
        Ok(image)
    }

    async fn workspace(&self, project: &str) -> Result<Workspace, ExecutorError> {
        let (builds, project) = (self.builds.clone(), project.to_owned());
        let doing = format!("making a workspace in `{}`", builds.display());
        let claimed = tokio::task::spawn_blocking(move || Workspace::claim(&builds, &project)).await;
        claimed
            .map_err(|error| ExecutorError::system(&doing, error))?
            .map_err(|error| ExecutorError::system(&doing, error))
    }
}

/// Is it the user that may do everything inside? `user` is `NAME`, `UID` or either with `:GROUP`.
pub(super) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}
