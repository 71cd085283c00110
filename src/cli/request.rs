//! Arguments that say for which pipeline `run`, `plan` and `lint` work, and the way from them to a plan.

use crate::error::{CliError, CliResult};
use crate::notify::Channels;
use crate::project::{Base, Facts, Project, ProjectFiles};
use crate::settings::{Settings, State, VariablesFile, load_gitlab_ci_local, load_variables};
use crate::sources::Sources;
use clap::builder::PossibleValuesParser;
use pipelines::config::Config;
use pipelines::diagnostic::Diagnostic;
use pipelines::hints::{Subject, hints, is_allowed};
use pipelines::load::Loaded;
use pipelines::plan::Outcome;
use pipelines::request::{Commit, Request};
use std::path::PathBuf;

/// GitLab's values of `CI_PIPELINE_SOURCE`.
const SOURCES: [&str; 18] = [
    "push",
    "merge_request_event",
    "schedule",
    "web",
    "api",
    "trigger",
    "pipeline",
    "parent_pipeline",
    "external",
    "external_pull_request_event",
    "chat",
    "webide",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "security_orchestration_policy",
    "container_registry_push",
    "duo_workflow",
    "pipeline_execution_policy_schedule",
];

/// Which pipeline.
#[derive(clap::Args)]
pub(super) struct RequestArgs {
    /// Directory in the project
    #[arg(short = 'C', value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub(super) dir: PathBuf,
    /// Configuration file, relative to the project
    #[arg(long, value_name = "PATH", default_value = ".gitlab-ci.yml")]
    pub(super) file: String,
    /// Take the last commit, not the work tree with its uncommitted changes
    #[arg(long)]
    pub(super) committed: bool,
    /// Never use the network: included files come from what was fetched before
    #[arg(long)]
    offline: bool,
    /// Branch or tag [default: what is checked out]
    #[arg(long = "ref", value_name = "REF", help_heading = "Pipeline")]
    reference: Option<String>,
    /// REF is a tag
    #[arg(long, requires = "reference", help_heading = "Pipeline")]
    tag: bool,
    /// Value of CI_PIPELINE_SOURCE: push, merge_request_event, schedule, web, api ...
    #[arg(long, value_name = "SOURCE", default_value = "push", value_parser = PossibleValuesParser::new(SOURCES),
          hide_possible_values = true, help_heading = "Pipeline")]
    source: String,
    /// Full path of the project [default: from the remote `origin`]
    #[arg(long, value_name = "GROUP/PROJECT", help_heading = "Pipeline")]
    project: Option<String>,
    /// [default: from the remote `origin`, else main or master]
    #[arg(long, value_name = "BRANCH", help_heading = "Pipeline")]
    default_branch: Option<String>,
    /// Target of a merge request [default: the default branch]
    #[arg(long, value_name = "BRANCH", help_heading = "Pipeline")]
    target_branch: Option<String>,
    /// A pipeline variable: above everything that the YAML defines. Secrets belong in a file, not here
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = variable, help_heading = "Variables")]
    variables: Vec<(String, String)>,
    /// More variables, in the form of `.ci/variables.yml`
    #[arg(long = "variables-file", value_name = "PATH", help_heading = "Variables")]
    variables_files: Vec<PathBuf>,
    /// An input of the configuration's `spec:inputs`
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = variable, help_heading = "Variables")]
    inputs: Vec<(String, String)>,
    /// A changed path; all of them together are the whole set [default: from git]
    #[arg(long = "changed", value_name = "PATH", conflicts_with_all = ["no_changes", "changes_since"], help_heading = "Changes")]
    changed: Vec<String>,
    /// Nothing changed
    #[arg(long, conflicts_with = "changes_since", help_heading = "Changes")]
    no_changes: bool,
    /// What changed since the merge base with REF
    #[arg(long, value_name = "REF", help_heading = "Changes")]
    changes_since: Option<String>,
}

/// `NAME=VALUE`.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// A configuration, read and checked, and what the request makes of it.
pub(super) struct Prepared {
    /// The project.
    pub(super) project: Project,
    /// Its facts.
    pub(super) facts: Facts,
    /// What was asked for.
    pub(super) request: Request,
    /// The sources, and what the front half found.
    pub(super) loaded: Loaded,
    /// Everything found: by reading, checking and planning.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The checked configuration; none where reading already failed.
    pub(super) config: Option<Config>,
    /// None when the configuration is not valid.
    pub(super) outcome: Option<Outcome>,
    /// The project's settings.
    settings: Settings,
}

impl Prepared {
    /// What people are to see of the findings: without what comments or settings allow, and without our own hints
    /// about files of others.
    pub(super) fn shown(&self) -> Vec<Diagnostic> {
        let sources = &self.loaded.sources;
        let shown = |d: &&Diagnostic| {
            d.is_error()
                || !(is_allowed(d, sources)
                    || self.settings.lint.allow.iter().any(|code| code == d.code)
                    || self.is_foreign(d))
        };
        self.diagnostics.iter().filter(shown).cloned().collect()
    }

    /// Whom the settings tell of this project's pipelines.
    pub(super) fn channels(&self) -> Channels {
        super::notify::with_variables(&self.settings.notify, &self.request.project_variables, None)
    }

    fn is_foreign(&self, diagnostic: &Diagnostic) -> bool {
        let Some((span, _)) = diagnostic.labels.first() else { return false };
        let file = self.loaded.sources.file(span.file);
        !diagnostic.gitlab && file.included_from.is_some() && !self.project.root().join(&file.name).is_file()
    }
}

impl RequestArgs {
    /// Reads the project, checks its configuration and plans.
    pub(super) fn prepare(&self) -> CliResult<Prepared> {
        let project = Project::discover(&self.dir)?;
        let facts = project.facts(self.reference.as_deref(), self.tag)?;
        let request = self.request(&project, &facts)?;
        let settings = Settings::load(project.root())?;
        let files = self.files(&project, &facts, &settings)?;
        let mut loaded = pipelines::load::load(&request, &files, &self.file);
        let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
        let config = loaded.root.as_ref().map(|root| pipelines::config::build(root, &mut diagnostics));
        if let Some(partial) = &loaded.partial {
            diagnostics.extend(pipelines::config::further(partial));
        }
        let outcome = match &config {
            Some(config) if !diagnostics.iter().any(Diagnostic::is_error) => {
                Some(pipelines::plan::build(config, &request, &files, &mut diagnostics))
            }
            _ => None,
        };
        drop(files);
        Ok(Prepared { project, facts, request, loaded, diagnostics, config, outcome, settings })
    }

    /// As [`RequestArgs::prepare`], with our own hints about the project's files; what is allowed is left out.
    pub(super) fn prepare_lint(&self) -> CliResult<Prepared> {
        let mut prepared = self.prepare()?;
        if let (Some(root), Some(config), Some(_)) =
            (&prepared.loaded.root, &prepared.config, &prepared.outcome)
        {
            let files = self.files(&prepared.project, &prepared.facts, &prepared.settings)?;
            let sources = &prepared.loaded.sources;
            let subject = Subject { root, config, sources, request: &prepared.request, files: &files };
            hints(&subject, &mut prepared.diagnostics);
        }
        prepared.diagnostics = prepared.shown();
        Ok(prepared)
    }

    fn files<'p>(
        &self,
        project: &'p Project,
        facts: &Facts,
        settings: &Settings,
    ) -> CliResult<ProjectFiles<'p>> {
        let files = if self.committed {
            ProjectFiles::commit(project, &facts.commit.sha).map_err(|e| {
                CliError::usage(format!("reading commit `{}`: {}", facts.commit.sha, e.message()))
            })?
        } else {
            ProjectFiles::work_tree(project)
        };
        // only what is really fetched needs a place to be kept
        let dir = State::of(&project.state_name()).ok().map(|state| state.sources());
        let path = self.project.as_deref().unwrap_or(&facts.path);
        let sources =
            Sources::new(settings.sources.clone(), dir, self.offline).with_own(path, project.root());
        Ok(files.with_sources(sources))
    }

    fn request(&self, project: &Project, facts: &Facts) -> CliResult<Request> {
        let default_branch = self.default_branch.clone().unwrap_or_else(|| facts.default_branch.clone());
        Ok(Request {
            project: self.project.clone().unwrap_or_else(|| facts.path.clone()),
            reference: facts.reference.clone(),
            tag: facts.tag,
            source: self.source.clone(),
            changes: self.changes(project, facts, &default_branch)?,
            target_branch: self.target_branch.clone(),
            known_refs: Some(facts.refs.clone()),
            variables: self.variables.iter().cloned().collect(),
            raw_variables: Vec::new(),
            merge_request: false,
            project_variables: self.project_variables(project, &facts.reference)?,
            inputs: self.inputs.iter().cloned().collect(),
            commit: self.commit(project, facts, &default_branch),
            predefined: Default::default(),
            default_branch,
        })
    }

    fn commit(&self, project: &Project, facts: &Facts, default_branch: &str) -> Commit {
        let target = self.target_branch.as_deref().unwrap_or(default_branch);
        let is_merge_request = self.source == "merge_request_event";
        let merge_base = is_merge_request.then(|| project.merge_base(&facts.commit.sha, target)).flatten();
        Commit { merge_base, ..facts.commit.clone() }
    }

    fn project_variables(
        &self,
        project: &Project,
        reference: &str,
    ) -> CliResult<Vec<pipelines::request::ProjectVariable>> {
        let own = VariablesFile { path: project.root().join(".ci/variables.yml"), required: false };
        let given = self.variables_files.iter().map(|p| VariablesFile { path: p.clone(), required: true });
        let mut variables = load_gitlab_ci_local(project.root())?;
        for file in std::iter::once(own).chain(given) {
            variables.extend(load_variables(&file, reference)?);
        }
        Ok(variables)
    }

    fn changes(
        &self,
        project: &Project,
        facts: &Facts,
        default_branch: &str,
    ) -> CliResult<Option<Vec<String>>> {
        if self.no_changes || !self.changed.is_empty() {
            return Ok(Some(self.changed.clone()));
        }
        let base = match &self.changes_since {
            Some(name) => Base::Since(name.clone()),
            None if facts.tag => return Ok(None),
            None => Base::Upstream(self.target_branch.clone().unwrap_or_else(|| default_branch.to_owned())),
        };
        project.changed_paths(&base, &facts.reference, &facts.commit.sha, self.committed).map_err(|e| {
            CliError::usage(format!("finding out what changed: {}", e.message()))
                .hint("`--changed PATH` or `--no-changes` say it instead of git")
        })
    }
}
