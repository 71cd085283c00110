//! The phases before the script: the place, the sources, caches and artifacts coming in.

use super::attempt::Attempt;
use super::outcome::End;
use crate::artifacts::{self, Index};
use crate::executor::{Directory, Execution, Executor, Place};
use crate::log::Tone;
use crate::variables::{FileVariable, Variables, is_name};
use crate::{archive, cache};
use pipelines::event::{EventKind, Phase};
use pipelines::plan::PipelineNeed;
use pipelines::status::FailureReason;
use std::fs::File;
use std::io::Seek;
use std::path::{Component, Path, PathBuf};

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
        self.bring().await?;
        let place = self.place(&known)?;
        let executor = self.executor;
        self.unless_ended(executor.prepare(place), super::Cancel::Graceful).await
    }

    /// Has the sources and the artifacts of other jobs brought, if they are not here.
    async fn bring(&mut self) -> Result<(), End> {
        let Some(courier) = &self.spec.courier else { return Ok(()) };
        self.brought = self.unless_ended(courier.bring(self.voice.clone()), super::Cancel::Graceful).await?;
        Ok(())
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
        ];
        for (what, applies, consequence) in ignored {
            if applies {
                self.warn(&format!("`{what}` is ignored: {consequence}"));
            }
        }
        self.tell_secrets(known);
        for need in work.project_needs.clone() {
            let need = known.expand(&need);
            self.warn(&format!(
                "`needs` ({need}) is ignored: artifacts of other projects' pipelines are not known here"
            ));
        }
        Ok(())
    }

    /// Nothing here asks a vault or issues tokens: their variables may come from the project's own files.
    fn tell_secrets(&mut self, known: &Variables) {
        let work = &self.spec.job.work;
        let kinds = [
            (&work.secrets, "secret", "no vault is asked"),
            (&work.id_tokens, "ID token", "no tokens are issued"),
        ];
        let mut told = Vec::new();
        for (map, kind, why) in kinds {
            for name in map.iter().filter_map(serde_json::Value::as_object).flat_map(|map| map.keys()) {
                told.push(match known.get(name) {
                    Some(_) => (true, format!("{kind} {name}: taken from the variables of this project")),
                    None => (
                        false,
                        format!(
                            "{kind} `{name}` is not set, {why} here: define `{name}` in `.ci/variables.yml`"
                        ),
                    ),
                });
            }
        }
        for (there, text) in told {
            if there { self.say(&text) } else { self.warn(&text) }
        }
    }

    /// Where the project goes below the directory of all builds: its own path, else `GIT_CLONE_PATH`.
    fn project_path(&self, known: &Variables) -> Result<String, End> {
        let Some(asked) = known.get("GIT_CLONE_PATH").map(str::to_owned).filter(|path| !path.is_empty())
        else {
            return Ok(self.spec.run.project.clone());
        };
        // the directory is not known before there is a place; nobody has a path like this
        const BUILDS: &str = "/\u{1}";
        let mut variables = known.clone();
        variables.put("CI_BUILDS_DIR", BUILDS);
        // every job has builds of its own: no number is needed to tell them apart
        variables.put("CI_CONCURRENT_ID", "0");
        variables.put("CI_CONCURRENT_PROJECT_ID", "0");
        let path = variables.expand(&asked);
        let plain = |component| matches!(component, Component::Normal(_));
        match Path::new(&path).strip_prefix(BUILDS) {
            Ok(below) if below.components().all(plain) && below.components().next().is_some() => {
                Ok(below.to_string_lossy().into_owned())
            }
            _ => Err(End::Failed {
                reason: FailureReason::RunnerSystemFailure,
                exit_code: None,
                message: format!("the GIT_CLONE_PATH `{asked}` has to be within `$CI_BUILDS_DIR`"),
            }),
        }
    }

    fn place(&self, known: &Variables) -> Result<Place, End> {
        let sources = &self.brought.sources;
        let brought = matches!(self.strategy(known), Ok(Strategy::Fetch));
        let checkout = sources.checkout.as_ref().unwrap_or(&self.brought.checkout);
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
        Ok(Place {
            project: self.project_path(known)?,
            checkout: brought.then(|| checkout.clone()),
            overlays: if brought { sources.overlays.clone() } else { Vec::new() },
            image,
            services: services.collect(),
            variables: known.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            public: public.clone(),
            attempt: self.spec.attempt,
            masked: known.masked().map(str::to_owned).collect(),
            service_logs: self.spec.dir().join("services"),
            said: self.voice.clone(),
        })
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
        match self.strategy(&self.variables)? {
            Strategy::None => self.say("Skipping the sources: `GIT_STRATEGY` is none"),
            Strategy::Empty => self.say("Skipping the sources: `GIT_STRATEGY` is empty"),
            Strategy::Fetch => {
                execution.get_sources().await?;
                self.tell_sources();
            }
        }
        Ok(())
    }

    fn tell_sources(&mut self) {
        let short: String = self.variables.get("CI_COMMIT_SHA").unwrap_or_default().chars().take(8).collect();
        let reference = self.variables.get("CI_COMMIT_REF_NAME").unwrap_or_default().to_owned();
        if self.brought.sources.checkout.is_some() {
            self.say("`GIT_CHECKOUT` is false: the repository without its files");
        } else {
            self.say(&format!("Checked out {short} as detached HEAD (ref is {reference})"));
        }
        for note in self.brought.sources.notes.clone() {
            self.warn(&note);
        }
    }

    /// `GIT_STRATEGY`: the place is new for each job, so `clone` and `fetch` are the same.
    fn strategy(&self, variables: &Variables) -> Result<Strategy, End> {
        match variables.expand(variables.get("GIT_STRATEGY").unwrap_or_default()).as_str() {
            "" | "clone" | "fetch" => Ok(Strategy::Fetch),
            "none" => Ok(Strategy::None),
            "empty" => Ok(Strategy::Empty),
            other => Err(End::Failed {
                reason: FailureReason::RunnerSystemFailure,
                exit_code: None,
                message: format!("unknown GIT_STRATEGY `{other}`: use `clone`, `fetch`, `none` or `empty`"),
            }),
        }
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
        self.fetch_cache(&keys).await;
        let opened = cache::open(&self.spec.run.cache, &keys);
        self.tell_cache(&keys[0], opened.as_ref().ok().and_then(|found| Some(found.as_ref()?.0.as_str())));
        match opened {
            Ok(None) => self.say(&format!("No cache for {}", keys.join(", "))),
            Ok(Some((key, file))) => match execution.unpack(Directory::Project, file).await {
                Ok(unpacked) => {
                    self.say(&format!("Restored cache {key}: {} files", unpacked.files));
                    self.restored.extend(unpacked.state.map(|state| (key, state)));
                }
                Err(error) => self.warn(&format!("cache {key} could not be restored: {}", error.message)),
            },
            Err(error) => self.warn(&format!("cache {} could not be opened: {error}", keys[0])),
        }
    }

    /// Brings the first of the keys that the bucket has a newer cache for, before one on disk is taken.
    async fn fetch_cache(&mut self, keys: &[String]) {
        let Some(bucket) = self.spec.run.bucket.clone() else { return };
        let directory = &self.spec.run.cache;
        if let Err(error) = std::fs::create_dir_all(directory) {
            return self.warn(&format!("making `{}`: {error}", directory.display()));
        }
        for key in keys {
            let file = cache::path(directory, key);
            let name = cache::file_name(key);
            match bucket.fetch(&name, &file).await {
                Ok(true) => return self.say(&format!("Fetched cache {key} from the bucket")),
                Ok(false) if file.exists() => return,
                Ok(false) => {}
                Err(text) => {
                    return self
                        .warn(&format!("the bucket of caches can't be used, what is here is: {text}"));
                }
            }
        }
    }

    /// Whoever watches the run hears whether a cache was there.
    fn tell_cache(&self, asked: &str, found: Option<&str>) {
        let key = self.log.masked(found.unwrap_or(asked));
        let told = EventKind::JobCache { job: self.spec.job.name.clone(), key, hit: found.is_some() };
        // nobody listening is no reason to stop a job
        let _ = self.events.send(told);
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

/// How the sources come in.
enum Strategy {
    Fetch,
    None,
    Empty,
}

fn missing(job: &str, why: &str) -> End {
    End::Failed {
        reason: FailureReason::MissingDependencyFailure,
        exit_code: None,
        message: format!("the artifacts of `{job}` are gone ({why}): run it again"),
    }
}
