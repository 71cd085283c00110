//! The phases after the scripts: caches saved, artifacts and reports kept.

use super::attempt::Attempt;
use super::outcome::End;
use super::spec::Cancel;
use crate::archive::{self, Packed, Selection};
use crate::artifacts::{ARCHIVE, Index, Stored, kept};
use crate::executor::Execution;
use crate::{cache, dotenv, parameter};
use pipelines::event::Phase;
use pipelines::plan::{Artifacts, Cache, When};
use pipelines::status::{FailureReason, Status};
use serde_json::Value as Json;
use std::fs::File;
use std::io;

impl Attempt<'_> {
    /// Saves caches; one that can't be saved fails nothing.
    pub(super) async fn archive_caches(&mut self, execution: &mut Execution, status: Status) {
        let mut begun = false;
        for cache in &self.spec.job.cache {
            let when = match cache.when.as_str() {
                "always" => When::Always,
                "on_failure" => When::OnFailure,
                _ => When::OnSuccess,
            };
            let something = !cache.paths.is_empty() || cache.untracked == Some(true);
            let push = cache::policy(cache, &self.variables).is_ok_and(|policy| policy.push);
            if !something || !push || !kept(Some(when), status) {
                continue;
            }
            if !begun {
                self.phase(Phase::ArchiveCache, "Saving caches");
                begun = true;
            }
            // without a key there was a warning when it was to be restored
            if let Some(key) = cache::keys(cache, &self.variables).and_then(|keys| keys.into_iter().next())
                && let Err(text) = self.archive_cache(execution, cache, &key).await
            {
                self.warn(&format!("cache {key} could not be saved: {text}"));
            }
        }
    }

    async fn archive_cache(
        &mut self,
        execution: &mut Execution,
        cache: &Cache,
        key: &str,
    ) -> Result<(), String> {
        let directory = &self.spec.run.cache;
        let file = cache::create(directory).map_err(|error| error.to_string())?;
        let archive = file.as_file().try_clone().map_err(|error| error.to_string())?;
        let restored = self.restored.iter().find(|(restored, _)| restored == key);
        let unless = restored.filter(|_| cache::path(directory, key).is_file()).map(|(_, state)| *state);
        let selection = self.selection(&cache.paths, &[], cache.untracked == Some(true));
        let selection = Selection { unless, ..selection };
        let packed = execution.pack(selection, archive).await.map_err(|error| error.message)?;
        self.tell(&packed);
        if packed.unchanged {
            self.say(&format!("Cache {key} is as it was restored: not saved again"));
            return Ok(());
        }
        if packed.files.is_empty() {
            self.say(&format!("Nothing to save for cache {key}"));
            return Ok(());
        }
        cache::save(directory, key, file).map_err(|error| error.to_string())?;
        self.say(&format!("Saved cache {key}: {} files and directories", packed.files.len()));
        if let Some(bucket) = self.spec.run.bucket.clone() {
            match bucket.push(&cache::file_name(key), &cache::path(directory, key)).await {
                Ok(()) => self.say(&format!("Saved cache {key} in the bucket")),
                Err(text) => self.warn(&format!("cache {key} could not be saved in the bucket: {text}")),
            }
        }
        Ok(())
    }

    /// Keeps artifacts and reports, and writes the index of the attempt.
    pub(super) async fn upload_artifacts(
        &mut self,
        execution: &mut Execution,
        status: Status,
    ) -> Result<(), End> {
        let Some(artifacts) = &self.spec.job.work.artifacts else { return Ok(()) };
        self.phase(Phase::UploadArtifacts, "Keeping artifacts");
        let name = artifacts.other.get("name").and_then(Json::as_str);
        let mut index = Index {
            job: self.spec.job.name.clone(),
            attempt: self.spec.attempt,
            name: name.map(|name| self.expand(name)),
            expire_in: artifacts.expire_in.clone(),
            ..Index::default()
        };
        let untracked = artifacts.untracked == Some(true);
        let paths = artifacts.paths.as_deref().unwrap_or_default();
        if (!paths.is_empty() || untracked) && kept(artifacts.when, status) {
            let exclude = artifacts.exclude.as_deref().unwrap_or_default();
            let selection = self.selection(paths, exclude, untracked);
            index.archive = self.store(execution, selection, ARCHIVE).await?;
        }
        let reports = self.upload_reports(execution, artifacts, &mut index).await;
        let written = index.write(&self.spec.dir());
        written.map_err(|error| End::system(format!("writing the index of the artifacts: {error}")))?;
        let taken = self.take(index).await;
        reports.and(taken)
    }

    /// Has them taken to where other jobs find them.
    async fn take(&mut self, index: Index) -> Result<(), End> {
        match &self.spec.courier {
            Some(courier) if !index.is_empty() => {
                self.unless_ended(courier.take(index, self.voice.clone()), Cancel::Kill).await
            }
            _ => Ok(()),
        }
    }

    /// Reports are kept whatever the status; a bad dotenv report fails the job.
    async fn upload_reports(
        &mut self,
        execution: &mut Execution,
        artifacts: &Artifacts,
        index: &mut Index,
    ) -> Result<(), End> {
        for (kind, paths) in artifacts.reports.iter().flatten() {
            let selection = self.selection(&report_paths(paths), &[], false);
            let plain = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if selection.paths.is_empty() || !plain {
                continue;
            }
            let Some(stored) = self.store(execution, selection, &format!("report-{kind}.tar.zst")).await?
            else {
                continue;
            };
            if kind == "dotenv" {
                index.dotenv = self.read_dotenv(&stored)?;
            }
            index.reports.insert(kind.clone(), stored);
        }
        Ok(())
    }

    fn read_dotenv(&self, stored: &Stored) -> Result<Vec<(String, String)>, End> {
        let path = self.spec.dir().join(&stored.file);
        let file =
            File::open(path).map_err(|error| End::system(format!("reading a dotenv report: {error}")))?;
        let files = archive::entries(file, dotenv::MAX_BYTES as u64)
            .map_err(|error| End::system(error.to_string()))?;
        let mut variables = Vec::new();
        for (path, content) in files {
            let parsed = dotenv::parse(&content).map_err(|error| End::Failed {
                reason: FailureReason::DataIntegrityFailure,
                exit_code: None,
                message: format!("`{}`: {error}", path.display()),
            })?;
            variables.extend(parsed);
        }
        Ok(variables)
    }

    /// Packs a selection into a file of the attempt's directory; none: nothing matched.
    async fn store(
        &mut self,
        execution: &mut Execution,
        selection: Selection,
        name: &str,
    ) -> Result<Option<Stored>, End> {
        let failed = |error: io::Error| End::system(format!("writing `{name}`: {error}"));
        let directory = self.spec.dir();
        let file = tempfile::NamedTempFile::new_in(&directory).map_err(failed)?;
        let selection = Selection { digest: true, ..selection };
        let packed = execution.pack(selection, file.as_file().try_clone().map_err(failed)?).await?;
        self.tell(&packed);
        if packed.files.is_empty() {
            self.warn("no files to upload");
            return Ok(None);
        }
        let size = file.as_file().metadata().map_err(failed)?.len();
        file.persist(directory.join(name)).map_err(|error| failed(error.error))?;
        self.say(&format!("Kept {} files and directories, {size} bytes packed", packed.files.len()));
        Ok(Some(Stored { file: name.to_owned(), size, files: packed.files, digest: packed.digest }))
    }

    fn tell(&mut self, packed: &Packed) {
        for (pattern, count) in &packed.matches {
            match count {
                0 => self
                    .warn(&format!("{pattern}: no matching files (paths are relative to `CI_PROJECT_DIR`)")),
                _ => self.say(&format!("{pattern}: found {count} matching files and directories")),
            }
        }
        for warning in &packed.warnings {
            self.warn(warning);
        }
    }

    fn selection(&mut self, paths: &[String], exclude: &[String], untracked: bool) -> Selection {
        let paths = paths.iter().map(|path| self.expand(path)).filter(|path| !path.is_empty()).collect();
        let exclude = exclude.iter().map(|path| self.expand(path)).collect();
        let tracked = untracked.then(|| self.brought.tracked.to_vec());
        Selection { paths, exclude, tracked, ..Selection::default() }
    }

    /// POSIX expansion; a text that can't be expanded stays, with a warning.
    fn expand(&mut self, text: &str) -> String {
        let lookup = |name: &str| self.variables.get(name).map(str::to_owned);
        match parameter::expand(text, &lookup) {
            Ok(expanded) => expanded,
            Err(why) => {
                self.warn(&format!("`{text}` is not expanded: {why}"));
                text.to_owned()
            }
        }
    }
}

/// Paths of a report: a list, a text, or `coverage_report`'s map.
fn report_paths(value: &Json) -> Vec<String> {
    match value {
        Json::String(path) => vec![path.clone()],
        Json::Array(paths) => paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect(),
        Json::Object(map) => map.get("path").and_then(Json::as_str).map(str::to_owned).into_iter().collect(),
        _ => Vec::new(),
    }
}
