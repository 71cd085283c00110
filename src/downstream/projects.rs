//! The pipelines of other projects that trigger jobs create: where a project is, its commit, its request.

use super::child::Refused;
use super::forward::Forwarded;
use crate::error::CliError;
use crate::project::{Facts, Project, Snapshot};
use crate::settings::{ResourceGroups, Settings, State, VariablesFile, load_gitlab_ci_local, load_variables};
use crate::sources::{Place, SourceTable, Sources};
use pipelines::request::{ProjectVariable, Request};
use std::path::{Path, PathBuf};

/// The projects that a pipeline can reach.
#[derive(Clone, Debug)]
pub struct Projects {
    /// `sources` of the settings.
    pub table: SourceTable,
    /// Path and work tree of the project that `ci run` was asked for: it needs no entry.
    pub own: (String, PathBuf),
    /// Where mirrors are kept; none: there is no such place.
    pub mirrors: Option<PathBuf>,
    /// Only what was fetched before.
    pub offline: bool,
}

/// What a trigger job asks for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Path of the project.
    pub(super) project: String,
    /// Branch or tag; none: the default branch, or what a directory has checked out.
    pub(super) reference: Option<String>,
    /// `trigger:inputs`.
    pub(super) inputs: Vec<(String, String)>,
}

/// A project at a commit, and what its pipeline is asked with.
pub(super) struct Prepared {
    pub(super) request: Request,
    /// The sources of the commit.
    pub(super) snapshot: Snapshot,
    /// Paths that git tracks in it.
    pub(super) tracked: Vec<String>,
    /// The project's own state.
    pub(super) state: State,
    /// Who gets a resource of it next.
    pub(super) resource_groups: ResourceGroups,
    /// What its pipelines can reach.
    pub(super) projects: Projects,
}

impl Projects {
    /// Files from elsewhere, for one pipeline.
    pub(super) fn sources(&self) -> Sources {
        let (path, root) = &self.own;
        Sources::new(self.table.clone(), self.mirrors.clone(), self.offline).with_own(path, root)
    }

    /// Finds the project, takes its commit, and says what its pipeline is for. Blocks; may use the network.
    ///
    /// # Errors
    /// The project is not known or can't be had, it has no such ref, its settings are wrong; says what to do.
    pub(super) fn prepare(&self, target: &Target, forwarded: Forwarded) -> Result<Prepared, Refused> {
        let name = &target.project;
        let place = self.sources().place_of(name).map_err(|advice| unknown(name, &advice))?;
        let (project, facts) = self.facts(target)?;
        // what a fetched repository says about this machine (commands, directories) is not to be done
        let own = matches!(place, Place::Directory(_)).then(|| project.root().to_owned());
        let mut projects = self.clone();
        let (mut variables, mut resource_groups) = Default::default();
        if let Some(root) = &own {
            let settings = Settings::load(root).map_err(plain)?;
            projects.table = projects.table.over(settings.sources);
            resource_groups = settings.resource_groups;
            variables = local_variables(root, &facts.reference).map_err(plain)?;
        }
        let state = State::of(&project.state_name()).map_err(plain)?;
        let snapshot = project.snapshot(&facts.commit.sha, true, &state.snapshots()).map_err(plain)?;
        let tracked = Project::discover(&snapshot.dir).and_then(|p| p.tracked()).map_err(plain)?;
        let request = request(target, facts, forwarded, variables);
        Ok(Prepared { request, snapshot, tracked, state, projects, resource_groups })
    }

    fn facts(&self, target: &Target) -> Result<(Project, Facts), Refused> {
        let name = &target.project;
        let (repository, commit) =
            self.sources().commit(name, target.reference.as_deref()).map_err(|(error, advice)| {
                let advice = advice.map(|text| format!("; {text}")).unwrap_or_default();
                let reference = target.reference.as_deref().map(|r| format!(" at `{r}`")).unwrap_or_default();
                Refused::new(format!("`{name}`{reference}: {error}{advice}"))
            })?;
        let project = Project::of(repository);
        let facts = match &target.reference {
            None => project.facts(None, false).map_err(plain)?,
            Some(reference) => project.facts_at(reference, commit).map_err(plain)?,
        };
        Ok((project, Facts { path: name.clone(), ..facts }))
    }
}

fn unknown(project: &str, advice: &str) -> Refused {
    Refused::new(format!("it is not known where the project `{project}` is; {advice}"))
}

fn plain(error: CliError) -> Refused {
    let hints = error.hints.iter().map(|hint| format!("; {hint}"));
    Refused::new(std::iter::once(error.message.clone()).chain(hints).collect())
}

/// The project's own local variables, from its work tree: they are often not committed.
fn local_variables(root: &Path, reference: &str) -> Result<Vec<ProjectVariable>, CliError> {
    let mut variables = load_gitlab_ci_local(root)?;
    let own = VariablesFile { path: root.join(".ci/variables.yml"), required: false };
    variables.extend(load_variables(&own, reference)?);
    Ok(variables)
}

/// The changes are not known: nothing was pushed.
fn request(target: &Target, facts: Facts, forwarded: Forwarded, variables: Vec<ProjectVariable>) -> Request {
    Request {
        project: facts.path,
        reference: facts.reference,
        tag: facts.tag,
        source: "pipeline".to_owned(),
        default_branch: facts.default_branch,
        known_refs: Some(facts.refs),
        variables: forwarded.variables.into_iter().collect(),
        raw_variables: forwarded.raw,
        project_variables: variables,
        inputs: target.inputs.iter().cloned().collect(),
        commit: facts.commit,
        ..Request::default()
    }
}
