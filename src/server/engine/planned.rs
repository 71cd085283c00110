//! From a configuration at a commit to a plan, with the front end of `ci run`.

use crate::downstream::Configuration;
use crate::project::{Project, ProjectFiles};
use crate::report::yaml;
use crate::sources::Sources;
use git2::Repository;
use pipelines::diagnostic::Diagnostic;
use pipelines::plan::Plan;
use pipelines::request::{Files, Request};
use pipelines::source::SourceMap;
use std::path::Path;

/// Findings that mean "not for this event", and not "wrong".
const FILTERED: [&str; 2] = ["workflow-rules", "no-jobs"];

/// What a configuration comes to.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) plan: Option<Plan>,
    /// The configuration with all includes, as YAML.
    pub(super) merged: String,
    /// Why there is no plan, or what is wrong.
    pub(super) errors: Vec<String>,
    /// No pipeline, and nothing is wrong: its rules do not want one.
    pub(super) filtered: bool,
    /// There is no configuration at all.
    pub(super) absent: bool,
}

/// Plans. Blocks; includes may be fetched.
///
/// # Errors
/// The mirror or the commit can't be read.
pub(super) fn plan(
    mirror: &Path,
    request: &Request,
    configuration: Configuration,
    sources: Sources,
) -> Result<Planned, git2::Error> {
    let project = Project::of(Repository::open_bare(mirror)?);
    let below = ProjectFiles::commit(&project, &request.commit.sha)?.with_sources(sources);
    let (files, root) = configuration.beside(below);
    if matches!(files.read(&root), Ok(None)) {
        let errors = vec![format!("the commit has no `{root}`")];
        return Ok(Planned { errors, absent: true, ..Planned::default() });
    }
    let mut loaded = pipelines::load::load(request, &files, &root);
    let mut found = std::mem::take(&mut loaded.diagnostics);
    let merged = loaded.root.as_ref().map(yaml::merged).unwrap_or_default();
    let config = loaded.root.as_ref().map(|root| pipelines::config::build(root, &mut found));
    let mut planned = Planned { merged, ..Planned::default() };
    if let Some(config) = &config
        && !found.iter().any(Diagnostic::is_error)
    {
        let outcome = pipelines::plan::build(config, request, &files, &mut found);
        let refused = &outcome.creation_errors;
        planned.filtered = !refused.is_empty() && refused.iter().all(|d| FILTERED.contains(&d.code));
        found.extend(outcome.creation_errors);
        planned.plan = outcome.plan;
    }
    found.retain(Diagnostic::is_error);
    planned.errors = found.iter().map(|finding| text(&loaded.sources, finding)).collect();
    Ok(planned)
}

/// `FILE:LINE: MESSAGE (HELP)`.
fn text(sources: &SourceMap, finding: &Diagnostic) -> String {
    let place = finding
        .labels
        .first()
        .map(|(span, _)| format!("{}:{}: ", sources.file(span.file).name, sources.position(*span).line));
    let help = finding.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}{}{help}", place.unwrap_or_default(), finding.message)
}
