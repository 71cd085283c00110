//! Sources and artifacts coming in, artifacts going out.

use super::job_api::{JobApi, Refusal};
use super::patience::Patience;
use super::{Order, sources, translate, zipped};
use crate::settings::State;
use crate::wire::job::{Artifact, Dependency};
use crate::wire::update::UploadQuery;
use pipelines::status::FailureReason;
use runners::artifacts::{ARCHIVE, Index, Stored};
use runners::executor::{ExecutorError, Said, Voice};
use runners::job::{Brought, Errand, Run};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Runs errands for one job.
pub(super) struct Carrier {
    pub(super) order: Arc<Order>,
    pub(super) api: JobApi,
    pub(super) state: State,
    /// Directory of the run, where artifacts of other jobs are looked for.
    pub(super) run: PathBuf,
    /// Directory of the attempt, where its artifacts are.
    pub(super) attempt: PathBuf,
    /// Held as long as the job runs: no cleaning removes the sources.
    pub(super) held: Option<crate::project::Snapshot>,
}

impl Carrier {
    /// Until nobody asks any more.
    pub(super) async fn serve(mut self, mut errands: UnboundedReceiver<Errand>) {
        while let Some(errand) = errands.recv().await {
            match errand {
                Errand::Bring { said, done } => {
                    // an attempt that was cancelled meanwhile is not interested
                    let _ = done.send(self.bring(&said).await);
                }
                Errand::Take { index, said, done } => {
                    let _ = done.send(self.take(*index, &said).await);
                }
            }
        }
    }

    async fn bring(&mut self, said: &Voice) -> Result<Brought, ExecutorError> {
        let mut brought = Brought::default();
        let strategy = translate::variable(&self.order.job, "GIT_STRATEGY").unwrap_or_default();
        if !matches!(strategy.trim(), "none" | "empty") {
            let (order, state, voice) = (self.order.clone(), self.state.clone(), said.clone());
            let bringing = tokio::task::spawn_blocking(move || sources::bring(&order, &state, &voice)).await;
            let failed = |why: String| ExecutorError::system("getting the sources", why);
            let sources = bringing.map_err(|e| failed(e.to_string()))?.map_err(failed)?;
            self.held = Some(sources.snapshot);
            brought = sources.brought;
        }
        let order = self.order.clone();
        for dependency in &order.job.dependencies {
            if !dependency.artifacts_file.filename.is_empty() {
                self.download(dependency, said).await?;
            }
        }
        Ok(brought)
    }

    /// Puts the archive of another job where the attempt looks for it.
    async fn download(&self, dependency: &Dependency, said: &Voice) -> Result<(), ExecutorError> {
        let name = translate::dependency_name(dependency);
        let directory = Run::job_dir_in(&self.run, &name).join("1");
        let failed = |why: &dyn std::fmt::Display| ExecutorError {
            reason: FailureReason::RunnerSystemFailure,
            message: format!("downloading the artifacts of `{name}`: {why}"),
        };
        std::fs::create_dir_all(&directory).map_err(|e| failed(&e))?;
        let came = directory.join("download");
        let mut patience = patience();
        let size = loop {
            match self.api.download(dependency.id, &dependency.token, &came).await {
                Ok(size) => break size,
                Err(Refusal::Later(why, asked)) => {
                    let wait = patience.wait(asked);
                    said.say(Said::Warning(format!(
                        "the artifacts of {name} do not come ({why}): trying again"
                    )));
                    tokio::time::sleep(wait).await;
                }
                Err(Refusal::Never(_, why)) => {
                    return Err(ExecutorError {
                        reason: FailureReason::MissingDependencyFailure,
                        message: format!("the artifacts of `{name}` can't be had ({why}): run it again"),
                    });
                }
            }
        };
        let (from, to) = (came.clone(), directory.join(ARCHIVE));
        let files = blocking(move || zipped::unzip(File::open(from)?, &to)).await.map_err(|e| failed(&e))?;
        // what was unpacked out of it stays
        let _ = std::fs::remove_file(came);
        let archive = Some(Stored { file: ARCHIVE.to_owned(), size, files, ..Stored::default() });
        let index = Index { job: name.clone(), attempt: 1, archive, ..Index::default() };
        index.write(&directory).map_err(|e| failed(&e))
    }

    /// Uploads the archive and the reports.
    async fn take(&self, index: Index, said: &Voice) -> Result<(), ExecutorError> {
        for artifact in &self.order.job.artifacts {
            let stored = if translate::is_archive(artifact) {
                index.archive.as_ref()
            } else {
                index.reports.get(&artifact.artifact_type)
            };
            if let Some(stored) = stored {
                self.upload(artifact, stored, index.name.as_deref(), said).await?;
            }
        }
        Ok(())
    }

    async fn upload(
        &self,
        artifact: &Artifact,
        stored: &Stored,
        name: Option<&str>,
        said: &Voice,
    ) -> Result<(), ExecutorError> {
        let kind = if artifact.artifact_type.is_empty() { "archive" } else { &artifact.artifact_type };
        let failed = |why: &dyn std::fmt::Display| {
            ExecutorError::system(&format!("uploading artifacts as `{kind}`"), why)
        };
        let (from, to) = (self.attempt.join(&stored.file), self.attempt.join(format!("upload-{kind}")));
        let (format, target) = (artifact.artifact_format.clone(), to.clone());
        let own = blocking(move || convert(&from, &target, &format)).await.map_err(|e| failed(&e))?;
        let name = file_name(artifact, name, own);
        let query = UploadQuery {
            artifact_format: Some(format_of(artifact).to_owned()),
            artifact_type: Some(kind.to_owned()),
            expire_in: Some(artifact.expire_in.clone()).filter(|text| !text.is_empty()),
        };
        let mut patience = patience();
        loop {
            match self.api.upload(&to, &name, &query).await {
                Ok(()) => break,
                Err(Refusal::Never(413, _)) => return Err(failed(&"they are larger than the server allows")),
                Err(Refusal::Never(_, why)) => return Err(failed(&why)),
                Err(Refusal::Later(why, asked)) => {
                    let wait = patience.wait(asked);
                    said.say(Said::Warning(format!("uploading artifacts as {kind}: {why}: trying again")));
                    tokio::time::sleep(wait).await;
                }
            }
        }
        let size = std::fs::metadata(&to).map_or(0, |found| found.len());
        // its directory is removed at the end of the job in any case
        let _ = std::fs::remove_file(&to);
        said.say(Said::Line(format!("Uploaded artifacts as {kind}: `{name}`, {size} bytes")));
        Ok(())
    }
}

fn patience() -> Patience {
    Patience::new(Duration::from_millis(200), Duration::from_secs(20))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

fn format_of(artifact: &Artifact) -> &str {
    match artifact.artifact_format.as_str() {
        "" => "zip",
        format => format,
    }
}

/// Name of the only file, if it stays as it is.
fn convert(from: &Path, to: &Path, format: &str) -> std::io::Result<Option<String>> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    match format {
        "" | "zip" => zipped::zip(from, to).map(|()| None),
        "gzip" => zipped::gzip(from, std::io::BufWriter::new(to)).map(|()| None),
        "raw" => zipped::raw(from, std::io::BufWriter::new(to)).map(Some),
        other => Err(std::io::Error::other(format!("the format `{other}` is not known here"))),
    }
}

/// `expanded` is the archive's name, `own` that of a file that stays as it is.
fn file_name(artifact: &Artifact, expanded: Option<&str>, own: Option<String>) -> String {
    let given = if translate::is_archive(artifact) { expanded } else { Some(artifact.name.as_str()) };
    let given = given.filter(|name| !name.is_empty()).map(|name| name.replace('/', "_"));
    let usual = if translate::is_archive(artifact) { "artifacts" } else { &artifact.artifact_type };
    let named = given.unwrap_or_else(|| usual.to_owned());
    match format_of(artifact) {
        "raw" => own.unwrap_or(named),
        "gzip" => format!("{named}.gz"),
        _ => format!("{named}.zip"),
    }
}
