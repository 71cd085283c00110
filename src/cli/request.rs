//! Arguments that say for which pipeline `run`, `plan` and `lint` work, and the way from them to a plan.

use crate::downstream::Projects;
use crate::error::{CliError, CliResult};
use crate::notify::Channels;
use crate::project::{Base, Facts, Project, ProjectFiles};
use crate::settings::{ResourceGroups, Settings, State, VariablesFile, load_gitlab_ci_local, load_variables};
use crate::sources::Sources;
use clap::builder::PossibleValuesParser;
use pipelines::config::Config;
use pipelines::diagnostic::Diagnostic;
use pipelines::hints::{Subject, hints, is_allowed};
use pipelines::load::Loaded;
use pipelines::plan::Outcome;
use pipelines::request::{Changes, Commit, Request};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

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
#[derive(Clone, clap::Args)]
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
    pub(super) settings: Settings,
    /// Is the network not to be used?
    offline: bool,
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

    /// Who gets a resource next, where the project says it.
    pub(super) fn resource_groups(&self) -> ResourceGroups {
        self.settings.resource_groups.clone()
    }

    /// Where other projects are.
    pub(super) fn projects(&self) -> Projects {
        Projects {
            table: self.settings.sources.clone(),
            own: (self.request.project.clone(), self.project.root().to_owned()),
            mirrors: State::of(&self.project.state_name()).ok().map(|state| state.sources()),
            offline: self.offline,
        }
    }

    fn is_foreign(&self, diagnostic: &Diagnostic) -> bool {
        let Some((span, _)) = diagnostic.labels.first() else { return false };
        let file = self.loaded.sources.file(span.file);
        !diagnostic.gitlab && file.included_from.is_some() && !self.project.root().join(&file.name).is_file()
    }
}

/// What a plan is made for; what nobody asks for is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Its jobs run.
    Run,
    /// The plan document, with the variables of jobs.
    Document,
    /// Which jobs there are, and what is wrong.
    Look,
}

/// Why git could not say what changed.
type Unknown = Arc<OnceLock<String>>;

impl RequestArgs {
    /// The same, with these changed paths.
    pub(super) fn with_changed(&self, paths: Vec<String>) -> RequestArgs {
        RequestArgs { no_changes: paths.is_empty(), changed: paths, changes_since: None, ..self.clone() }
    }

    /// Reads the project, checks its configuration and plans what is to run.
    pub(super) fn prepare(&self) -> CliResult<Prepared> {
        self.prepare_for(Use::Run)
    }

    /// As [`RequestArgs::prepare`], for a plan that nobody runs.
    pub(super) fn prepare_for(&self, what: Use) -> CliResult<Prepared> {
        let project = Project::discover(&self.dir)?;
        let facts = project.facts(self.reference.as_deref(), self.tag)?;
        let unknown = Unknown::default();
        let request = self.request(&project, &facts, &unknown)?;
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
                let plan = match what {
                    Use::Run => pipelines::plan::build,
                    Use::Document => pipelines::plan::outline,
                    Use::Look => pipelines::plan::sketch,
                };
                Some(plan(config, &request, &files, &mut diagnostics))
            }
            _ => None,
        };
        drop(files);
        if what == Use::Run {
            // child pipelines ask later, when the work tree may be another
            request.changes.get();
        }
        if let Some(why) = unknown.get() {
            return Err(no_changes(why));
        }
        Ok(Prepared {
            project,
            facts,
            request,
            loaded,
            diagnostics,
            config,
            outcome,
            settings,
            offline: self.offline,
        })
    }

    /// As [`RequestArgs::prepare`], with our own hints about the project's files; what is allowed is left out.
    pub(super) fn prepare_lint(&self) -> CliResult<Prepared> {
        let mut prepared = self.prepare_for(Use::Look)?;
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

    fn request(&self, project: &Project, facts: &Facts, unknown: &Unknown) -> CliResult<Request> {
        let default_branch = self.default_branch.clone().unwrap_or_else(|| facts.default_branch.clone());
        Ok(Request {
            project: self.project.clone().unwrap_or_else(|| facts.path.clone()),
            reference: facts.reference.clone(),
            tag: facts.tag,
            source: self.source.clone(),
            changes: self.changes(project, facts, &default_branch, unknown)?,
            target_branch: self.target_branch.clone(),
            known_refs: Some(facts.refs.clone()),
            variables: self.variables.iter().cloned().collect(),
            raw_variables: Vec::new(),
            merge_request: false,
            project_variables: self.project_variables(project, &facts.reference)?,
            inputs: self.inputs.iter().cloned().collect(),
            commit: self.commit(project, facts, &default_branch),
            predefined: self.predefined(project).into_iter().collect(),
            default_branch,
        })
    }

    /// What git and the arguments say besides: who asks for the pipeline, and what the source brings along.
    fn predefined(&self, project: &Project) -> Vec<(String, String)> {
        let (name, email) = project.user();
        let login = email.split('@').next().unwrap_or_default().to_owned();
        let mut predefined = vec![
            ("GITLAB_USER_ID".to_owned(), "1".to_owned()),
            ("GITLAB_USER_NAME".to_owned(), name),
            ("GITLAB_USER_EMAIL".to_owned(), email),
            ("GITLAB_USER_LOGIN".to_owned(), login),
            ("CI_CONFIG_PATH".to_owned(), self.file.clone()),
        ];
        if matches!(self.source.as_str(), "pipeline" | "parent_pipeline") {
            let ids =
                ["PROJECT", "PIPELINE", "JOB"].map(|what| (format!("CI_UPSTREAM_{what}_ID"), "1".into()));
            predefined.extend(ids);
        }
        predefined
    }

    fn commit(&self, project: &Project, facts: &Facts, default_branch: &str) -> Commit {
        let target = self.target_branch.as_deref().unwrap_or(default_branch);
        let merge_base = self.is_for_merge().then(|| project.merge_base(&facts.commit.sha, target)).flatten();
        Commit { merge_base, ..facts.commit.clone() }
    }

    /// Is it about merging one branch into another?
    fn is_for_merge(&self) -> bool {
        matches!(self.source.as_str(), "merge_request_event" | "external_pull_request_event")
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

    /// A ref that was asked for must be there; else git is asked when a condition asks.
    fn changes(
        &self,
        project: &Project,
        facts: &Facts,
        default_branch: &str,
        unknown: &Unknown,
    ) -> CliResult<Changes> {
        if self.no_changes || !self.changed.is_empty() {
            return Ok(Some(self.changed.clone()).into());
        }
        let (branch, sha, committed) = (facts.reference.clone(), facts.commit.sha.clone(), self.committed);
        if let Some(name) = &self.changes_since {
            let paths = project.changed_paths(&Base::Since(name.clone()), &branch, &sha, committed);
            return paths.map(Changes::from).map_err(|e| no_changes(e.message()));
        }
        let merge = self.is_for_merge();
        // only pushes of branches and merge requests have changes
        if !merge && (facts.tag || self.source != "push") {
            return Ok(Changes::default());
        }
        let target = self.target_branch.clone().unwrap_or_else(|| default_branch.to_owned());
        let (root, unknown) = (project.root().to_owned(), unknown.clone());
        Ok(Changes::when_asked(move || {
            let paths = Project::discover(&root).map_err(|e| e.message).and_then(|project| {
                let base = match merge.then(|| project.merge_base(&sha, &target)) {
                    None => Base::Upstream(target.clone()),
                    Some(Some(base)) => Base::Since(base),
                    Some(None) => return Ok(None),
                };
                let paths = project.changed_paths(&base, &branch, &sha, committed);
                paths.map_err(|e| e.message().to_owned())
            });
            paths.unwrap_or_else(|why| {
                let _ = unknown.set(why);
                None
            })
        }))
    }
}

fn no_changes(why: &str) -> CliError {
    CliError::usage(format!("finding out what changed: {why}"))
        .hint("`--changed PATH` or `--no-changes` say it instead of git")
}
