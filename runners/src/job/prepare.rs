//! The phases before the script: the place, the sources, caches and artifacts coming in.

use super::attempt::Attempt;
use super::outcome::End;
use crate::artifacts::{self, Index};
use crate::executor::{Directory, Execution, Executor, Place};
use crate::log::Tone;
use crate::variables::{FileVariable, Variables, is_name};
use crate::{archive, cache};
use pipelines::event::Phase;
use pipelines::plan::PipelineNeed;
use pipelines::status::FailureReason;
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

impl Attempt<'_> {
    /// Makes the place. Cancelling does not wait for it: a place that is half made is swept by its executor.
    pub(super) async fn prepare(&mut self) -> Result<Execution, End> {
        let spec = self.spec;
        let known = self.compose(None);
        for value in known.masked() {
            self.log.hide(value);
        }
        self.say(&format!(
            "Running with slipway {} on {}",
            spec.run.runner.version, spec.run.runner.description
        ));
        self.say(&format!("Using the {} executor", self.executor.name()));
        self.refuse_or_warn(&known)?;
        self.check()?;
        let place = self.place(&known);
        let (executor, deadline, mut cancel) = (self.executor, self.deadline, self.cancel.clone());
        let canceled = async move {
            // a sender that is gone can't cancel any more
            if cancel.wait_for(|level| *level != super::Cancel::No).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(canceled);
        let preparing = executor.prepare(place);
        tokio::pin!(preparing);
        let prepared = loop {
            tokio::select! {
                biased;
                prepared = &mut preparing => break Ok(prepared?),
                Some(said) = self.said.recv() => self.pass_on(said),
                () = &mut canceled => break Err(End::Canceled),
                () = tokio::time::sleep_until(deadline) => break Err(self.timed_out()),
            }
        };
        self.pass_on_all();
        prepared
    }

    /// What this runner can't do is said: refused when the job would mean something else without it.
    fn refuse_or_warn(&mut self, known: &Variables) -> Result<(), End> {
        let work = &self.spec.job.work;
        if work.run.is_some() {
            let message = "`run` (steps) is not supported: use `script`".to_owned();
            return Err(End::Failed { reason: FailureReason::RunnerUnsupported, exit_code: None, message });
        }
        let shell = matches!(self.executor, Executor::Shell(_));
        let ignored = [
            ("image", work.image.is_some() && shell, "the shell executor runs the job on this machine"),
            ("services", !work.services.is_empty() && shell, "the shell executor starts none"),
            ("release", work.release.is_some(), "no release is made"),
            ("secrets", work.secrets.is_some(), "no secrets are fetched"),
            ("id_tokens", work.id_tokens.is_some(), "no tokens are issued"),
            ("GIT_CLONE_PATH", known.get("GIT_CLONE_PATH").is_some(), "the sources are in `CI_PROJECT_DIR`"),
        ];
        for (what, applies, consequence) in ignored {
            if applies {
                self.warn(&format!("`{what}` is ignored: {consequence}"));
            }
        }
        Ok(())
    }

    fn place(&self, known: &Variables) -> Place {
        let strategy = known.expand(known.get("GIT_STRATEGY").unwrap_or_default());
        let work = &self.spec.job.work;
        let image = work.image.clone().map(|mut image| {
            image.name = known.expand(&image.name);
            expand_options(&mut image, known);
            image
        });
        // files are the job's alone, and what is masked was not meant for programs of others
        let public = public(known);
        let services = work.services.iter().cloned().map(|mut service| {
            service.image.name = known.expand(&service.image.name);
            expand_options(&mut service.image, known);
            service.alias = service.alias.map(|alias| known.expand(&alias));
            let own = std::mem::take(&mut service.variables);
            service.variables.extend(public.iter().cloned());
            service.variables.extend(own.into_iter().map(|(name, value)| (name, known.expand(&value))));
            service
        });
        Place {
            project: self.spec.run.project.clone(),
            checkout: (!matches!(strategy.as_str(), "none" | "empty"))
                .then(|| self.spec.run.checkout.clone()),
            image,
            services: services.collect(),
            variables: known.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            public: public.clone(),
            attempt: self.spec.attempt,
            masked: known.masked().map(str::to_owned).collect(),
            service_logs: self.spec.dir().join("services"),
            said: self.voice.clone(),
        }
    }

    /// Writes file variables beside the project directory, for their owner only.
    pub(super) async fn write_files(
        &mut self,
        execution: &mut Execution,
        files: &[FileVariable],
    ) -> Result<(), End> {
        if files.is_empty() {
            return Ok(());
        }
        let failed = |error: std::io::Error| End::system(format!("writing file variables: {error}"));
        let mut packed = tempfile::tempfile().map_err(failed)?;
        let entries = files.iter().map(|file| (file.name.as_str(), file.content.as_bytes()));
        archive::pack_private(entries, &mut packed).map_err(|error| End::system(error.to_string()))?;
        packed.rewind().map_err(failed)?;
        execution.unpack(Directory::Temporary, packed).await?;
        Ok(())
    }

    /// The hook, then the sources.
    pub(super) async fn get_sources(&mut self, execution: &mut Execution) -> Result<(), End> {
        self.check()?;
        self.phase(Phase::GetSources, "Getting the sources");
        let hook = self.spec.job.work.hooks.as_ref().map(|hooks| hooks.pre_get_sources_script.as_slice());
        if let Some(commands) = hook.filter(|commands| !commands.is_empty()) {
            self.hook(execution, commands).await?;
        }
        match self.variables.get("GIT_STRATEGY") {
            Some(strategy @ ("none" | "empty")) => {
                let text = format!("GIT_STRATEGY is {strategy}: the project directory stays empty");
                self.say(&text);
            }
            _ => execution.get_sources().await?,
        }
        Ok(())
    }

    /// Restores what there is; a cache that can't be had fails nothing.
    pub(super) async fn restore_caches(&mut self, execution: &mut Execution) -> Result<(), End> {
        let caches = &self.spec.job.cache;
        let mut begun = false;
        for cache in caches.iter().filter(|cache| !cache.paths.is_empty() || cache.untracked == Some(true)) {
            self.check()?;
            if !begun {
                self.phase(Phase::RestoreCache, "Restoring caches");
                begun = true;
            }
            match cache::policy(cache, &self.variables) {
                Ok(policy) if policy.pull => self.restore_cache(execution, cache).await,
                Ok(_) => {}
                Err(text) => self.warn(&text),
            }
        }
        Ok(())
    }

    async fn restore_cache(&mut self, execution: &mut Execution, cache: &pipelines::plan::Cache) {
        let Some(keys) = cache::keys(cache, &self.variables) else {
            self.warn(&format!("cache key `{}` is empty after expansion: the cache is not used", cache.key));
            return;
        };
        match cache::open(&self.spec.run.cache, &keys) {
            Ok(None) => self.say(&format!("No cache for {}", keys.join(", "))),
            Ok(Some((key, file))) => match execution.unpack(Directory::Project, file).await {
                Ok(unpacked) => self.say(&format!("Restored cache {key}: {} files", unpacked.files)),
                Err(error) => self.warn(&format!("cache {key} could not be restored: {}", error.message)),
            },
            Err(error) => self.warn(&format!("cache {} could not be opened: {error}", keys[0])),
        }
    }

    /// Variables that the jobs this one builds on hand over.
    pub(super) fn dotenv_of_sources(&self) -> Result<Vec<(String, String)>, End> {
        let mut variables = Vec::new();
        for (_, index) in self.indexes()? {
            variables.extend(index.dotenv);
        }
        Ok(variables)
    }

    /// Index of every job whose artifacts flow here, with its directory.
    fn indexes(&self) -> Result<Vec<(PathBuf, Index)>, End> {
        let mut indexes = Vec::new();
        for source in artifacts::sources(&self.spec.run.plan, &self.spec.job) {
            let directory = self.spec.run.job_dir(&source.name);
            match Index::newest(&directory) {
                Ok(found) => indexes.extend(found),
                Err(error) => return Err(missing(&source.name, &error.to_string())),
            }
        }
        for need in &self.spec.job.work.pipeline_needs {
            indexes.push(self.index_above(need)?);
        }
        Ok(indexes)
    }

    /// Index of a job of a pipeline above this one.
    fn index_above(&self, need: &PipelineNeed) -> Result<(PathBuf, Index), End> {
        let known = self.compose(None);
        let (pipeline, job) = (known.expand(&need.pipeline), known.expand(&need.job));
        let Some(run) = self.spec.run.with_id(&pipeline) else {
            let text =
                format!("there is no pipeline `{pipeline}` above this one; `needs:pipeline` finds no other");
            return Err(missing(&job, &text));
        };
        match Index::newest(&run.job_dir(&job)) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(missing(&job, &format!("in pipeline {pipeline} it has left none"))),
            Err(error) => Err(missing(&job, &error.to_string())),
        }
    }

    /// Unpacks the artifacts of the jobs that this one builds on.
    pub(super) async fn download_artifacts(&mut self, execution: &mut Execution) -> Result<(), End> {
        let mut begun = false;
        for (directory, index) in self.indexes()? {
            let Some(stored) = index.archive else { continue };
            self.check()?;
            if !begun {
                self.phase(Phase::DownloadArtifacts, "Downloading artifacts");
                begun = true;
            }
            let path = directory.join(&stored.file);
            let file = File::open(&path).map_err(|error| missing(&index.job, &error.to_string()))?;
            let unpacked = execution.unpack(Directory::Project, file).await?;
            let text = format!("Downloaded artifacts of {}: {} files", index.job, unpacked.files);
            self.log.line(Tone::Plain, &text);
        }
        Ok(())
    }
}

/// Variables that may be seen by whoever can look at a container: nothing masked, not even as a part.
fn public(known: &Variables) -> Vec<(String, String)> {
    let resolved = known.resolve(Path::new(""));
    let files: Vec<&str> = resolved.files.iter().map(|file| file.name.as_str()).collect();
    let masked: Vec<&str> = resolved.variables.masked().filter(|value| !value.is_empty()).collect();
    let shown = |name: &str, value: &str| {
        is_name(name)
            && !files.contains(&name)
            && !value.contains('\0')
            && !masked.iter().any(|secret| value.contains(secret))
    };
    let all = resolved.variables.iter();
    all.filter(|(name, value)| shown(name, value)).map(|(name, value)| (name.into(), value.into())).collect()
}

/// `image:docker:user` and `image:docker:platform` may be variables, too.
fn expand_options(image: &mut pipelines::plan::Image, known: &Variables) {
    let options = image.docker.as_mut().and_then(|docker| docker.as_object_mut());
    for value in options.into_iter().flat_map(|options| options.values_mut()) {
        if let Some(text) = value.as_str() {
            *value = known.expand(text).into();
        }
    }
}

fn missing(job: &str, why: &str) -> End {
    End::Failed {
        reason: FailureReason::MissingDependencyFailure,
        exit_code: None,
        message: format!("the artifacts of `{job}` are gone ({why}): run it again"),
    }
}
