//! The request of a pipeline: what its configuration and its jobs are told about the commit, the project, the event and
//! this server.

use super::asked::{MergeRequest, NewPipeline};
use crate::project::Project as Repository;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem};
use git2::{DiffOptions, Oid};
use pipelines::glob;
use pipelines::request::{Changes, Commit, ProjectVariable, Request};
use std::path::{Path, PathBuf};
use url::Url;

/// What git says about the commit.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) commit: Commit,
    /// Branches and tags that exist.
    pub(super) refs: Vec<String>,
}

/// Reads the commit from the mirror. Blocks. None: it is not there.
pub(super) fn find(mirror: &Path, new: &NewPipeline) -> Result<Option<Found>, String> {
    let repository = git2::Repository::open_bare(mirror).map_err(|e| e.message().to_owned())?;
    let Ok(oid) = Oid::from_str(&new.sha) else { return Err(format!("`{}` is no commit", new.sha)) };
    let Ok(commit) = repository.find_commit(oid).map(|commit| commit.id()) else { return Ok(None) };
    let project = Repository::of(repository);
    let commit = project.repository().find_commit(commit).map_err(|e| e.message().to_owned())?;
    let facts =
        project.facts_of(new.reference.clone(), new.tag, &commit).map_err(|error| error.message.clone())?;
    let merge_base =
        new.merge_request.as_ref().and_then(|mr| project.merge_base(&new.sha, &mr.target_branch));
    let before = Some(new.before_sha.clone()).filter(|sha| !sha.is_empty() && sha.bytes().any(|b| b != b'0'));
    let commit = Commit { before_sha: before, merge_base, protected: false, ..facts.commit };
    Ok(Some(Found { commit, refs: facts.refs }))
}

/// What changed: with a push to a branch that was there since it was there, with a merge request since its base. Else it
/// is not known, as in GitLab.
pub(super) fn changes(mirror: PathBuf, source: &str, tag: bool, commit: &Commit) -> Changes {
    let base = match source {
        "push" if !tag => commit.before_sha.clone(),
        "merge_request_event" => commit.merge_base.clone(),
        _ => None,
    };
    let sha = commit.sha.clone();
    match base {
        Some(base) => Changes::when_asked(move || changed(&mirror, &base, &sha).ok()),
        None => Changes::default(),
    }
}

fn changed(mirror: &Path, base: &str, sha: &str) -> Result<Vec<String>, git2::Error> {
    let repository = git2::Repository::open_bare(mirror)?;
    let tree = |sha: &str| repository.find_commit(Oid::from_str(sha)?)?.tree();
    let mut options = DiffOptions::new();
    let diff = repository.diff_tree_to_tree(Some(&tree(base)?), Some(&tree(sha)?), Some(&mut options))?;
    let text = |path: Option<&Path>| path.map(|path| path.to_string_lossy().into_owned());
    let both = diff.deltas().flat_map(|delta| [text(delta.old_file().path()), text(delta.new_file().path())]);
    let mut paths: Vec<String> = both.flatten().collect();
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Is the ref protected? Globs of names or of whole refs (`refs/tags/v*`), one a line, separated by commas, or as a JSON
/// list; without any, the default branch is.
pub(super) fn is_protected(project: &Project, name: &str, tag: bool) -> bool {
    let text = project.protected_refs.as_str();
    let globs: Vec<String> = serde_json::from_str(text)
        .unwrap_or_else(|_| text.split(['\n', ',', ' ']).map(|glob| glob.trim().to_owned()).collect());
    let mut globs = globs.into_iter().filter(|glob| !glob.is_empty()).peekable();
    if globs.peek().is_none() {
        return !tag && name == project.default_branch;
    }
    let full = if tag { format!("refs/tags/{name}") } else { format!("refs/heads/{name}") };
    // a branch `a/b` is meant by `*` as well: a ref is no path
    let flat = |text: &str| text.replace('/', "\u{1}");
    globs.any(|pattern| {
        let subject = if pattern.starts_with("refs/") { full.as_str() } else { name };
        glob::matches(&flat(&pattern), &flat(subject))
    })
}

/// Everything but the plan.
pub(super) fn request(app: &App, project: &Project, new: &NewPipeline, found: Found, iid: i64) -> Request {
    let mirror = crate::server::mirror::path(app, project.id);
    let changes = changes(mirror, &new.source, new.tag, &found.commit);
    let mut request = Request {
        project: project.path.clone(),
        reference: new.reference.clone(),
        tag: new.tag,
        source: new.source.clone(),
        default_branch: project.default_branch.clone(),
        target_branch: new.merge_request.as_ref().map(|mr| mr.target_branch.clone()),
        known_refs: Some(found.refs),
        variables: new.variables.iter().cloned().collect(),
        changes,
        commit: found.commit,
        ..Request::default()
    };
    let mut set = |key: &str, value: String| drop(request.predefined.insert(key.to_owned(), value));
    set("CI_PIPELINE_IID", iid.to_string());
    server(&app.config.public_url(), project, &mut set);
    if let Some(mr) = &new.merge_request {
        merge_request(project, mr, &mut set);
    }
    request
}

fn server(url: &str, project: &Project, set: &mut dyn FnMut(&str, String)) {
    if let Ok(parsed) = Url::parse(url) {
        let host = parsed.host_str().unwrap_or_default().to_owned();
        let fqdn = parsed.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        set("CI_SERVER_PROTOCOL", parsed.scheme().to_owned());
        set("CI_SERVER_PORT", parsed.port_or_known_default().unwrap_or_default().to_string());
        set("CI_SERVER_HOST", host.clone());
        set("CI_SERVER_SHELL_SSH_HOST", host);
        set("CI_SERVER_FQDN", fqdn);
    }
    set("CI_SERVER_URL", url.to_owned());
    set("CI_API_V4_URL", format!("{url}/api/v4"));
    set("CI_API_GRAPHQL_URL", format!("{url}/api/graphql"));
    set("CI_PROJECT_ID", project.id.to_string());
    set("CI_PROJECT_URL", format!("{url}/projects/{}", project.id));
}

fn merge_request(project: &Project, mr: &MergeRequest, set: &mut dyn FnMut(&str, String)) {
    let iid = mr.iid.to_string();
    set("CI_MERGE_REQUEST_IID", iid.clone());
    set("CI_MERGE_REQUEST_ID", iid.clone());
    set("CI_MERGE_REQUEST_TITLE", mr.title.clone());
    set("CI_MERGE_REQUEST_DRAFT", mr.draft.to_string());
    set("CI_MERGE_REQUEST_REF_PATH", mr.git_ref.clone());
    set("CI_MERGE_REQUEST_PROJECT_ID", project.id.to_string());
    set("CI_MERGE_REQUEST_PROJECT_URL", mr.url.clone());
    set("CI_OPEN_MERGE_REQUESTS", format!("{}!{iid}", project.path));
    if !mr.labels.is_empty() {
        set("CI_MERGE_REQUEST_LABELS", mr.labels.join(","));
    }
    for (side, branch) in [("SOURCE", &mr.source_branch), ("TARGET", &mr.target_branch)] {
        let protected = is_protected(project, branch, false) && !(side == "SOURCE" && mr.fork);
        set(&format!("CI_MERGE_REQUEST_{side}_BRANCH_PROTECTED"), protected.to_string());
    }
    if mr.fork {
        // where the fork is, nobody said
        for key in ["PROJECT_ID", "PROJECT_PATH", "PROJECT_URL"] {
            set(&format!("CI_MERGE_REQUEST_SOURCE_{key}"), String::new());
        }
    }
}

/// Who asked, in the words of jobs.
///
/// # Errors
/// The database does not answer.
pub(super) async fn person(app: &App, actor: &str, request: &mut Request) -> Answer<()> {
    let known: Option<(i64, String, String)> =
        sqlx::query_as("SELECT id, display, email FROM users WHERE name = $1")
            .bind(actor)
            .fetch_optional(&app.db.pool)
            .await?;
    let mut set = |key: &str, value: String| drop(request.predefined.insert(key.to_owned(), value));
    set("GITLAB_USER_LOGIN", actor.to_owned());
    match known {
        Some((id, display, email)) => {
            set("GITLAB_USER_ID", id.to_string());
            set("GITLAB_USER_NAME", display);
            set("GITLAB_USER_EMAIL", email);
        }
        None => set("GITLAB_USER_NAME", actor.to_owned()),
    }
    Ok(())
}

type VariableRow = (i64, String, Vec<u8>, String, i64, i64, i64, i64);

/// The variables of the project and of all projects that a pipeline may see: those for protected refs only there, and
/// none where the code is a stranger's.
///
/// # Errors
/// The database does not answer, or one can't be opened; names it.
pub(in crate::server) async fn variables(
    app: &App,
    project: i64,
    trust: Trust,
) -> Answer<Vec<ProjectVariable>> {
    if !trust.trusted {
        return Ok(Vec::new());
    }
    let all = "SELECT id, key, sealed, environment_scope, protected, masked, file, raw FROM variables \
               WHERE project_id = $1 OR project_id IS NULL \
               ORDER BY CASE WHEN project_id IS NULL THEN 0 ELSE 1 END, id";
    let rows: Vec<VariableRow> = sqlx::query_as(all).bind(project).fetch_all(&app.db.pool).await?;
    let mut variables = Vec::new();
    for (id, key, sealed, environment_scope, protected, masked, file, raw) in rows {
        if protected == 1 && !trust.protected {
            continue;
        }
        let value = app.vault.open_text(&format!("variable:{id}"), &sealed).ok_or_else(|| {
            Problem::unavailable(format!(
                "variable `{key}` can't be opened with this server's key: store it again"
            ))
        })?;
        let [masked, file, raw] = [masked, file, raw].map(|flag| flag == 1);
        variables.push(ProjectVariable { key, value, masked, file, raw, environment_scope });
    }
    Ok(variables)
}

/// What a pipeline may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Trust {
    /// Not of a fork.
    pub(in crate::server) trusted: bool,
    /// Its ref is protected; with a merge request its target, too.
    pub(in crate::server) protected: bool,
}

impl Trust {
    /// What is no pipeline's code, but of the default branch, and was asked for by who may: it sees everything.
    pub(in crate::server) const FULL: Trust = Trust { trusted: true, protected: true };

    pub(super) fn of(project: &Project, new: &NewPipeline) -> Trust {
        let target = |mr: &MergeRequest| is_protected(project, &mr.target_branch, false) && !mr.fork;
        let protected = new.trusted
            && is_protected(project, &new.reference, new.tag)
            && new.merge_request.as_ref().is_none_or(target);
        Trust { trusted: new.trusted, protected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(protected: &str) -> Project {
        Project {
            id: 1,
            path: "g/p".into(),
            git_url: String::new(),
            forge: "generic".into(),
            forge_url: String::new(),
            default_branch: "main".into(),
            hook: String::new(),
            protected_refs: protected.into(),
            settings: "{}".into(),
            paused: 0,
            created_at: 0,
        }
    }

    #[test]
    fn protected_refs_are_globs_and_without_any_the_default_branch_is() {
        let table = [
            ("", "main", false, true),
            ("", "main", true, false),
            ("[]", "main", false, true),
            ("", "work", false, false),
            (r#"["release/*"]"#, "release/1", false, true),
            (r#"["release/*"]"#, "release/1/x", false, true),
            (r#"["release/*"]"#, "main", false, false),
            ("main, v*", "v1", true, true),
            ("refs/tags/v*", "v1", false, false),
            ("refs/tags/v*", "v1", true, true),
            ("*", "a/b", false, true),
        ];
        for (globs, name, tag, expected) in table {
            assert_eq!(is_protected(&project(globs), name, tag), expected, "{globs} {name} {tag}");
        }
    }

    #[test]
    fn strangers_are_never_protected_nor_is_a_merge_into_an_open_branch() {
        let of = |reference: &str, trusted, merge: Option<(&str, bool)>| {
            let merge_request = merge.map(|(target, fork)| MergeRequest {
                target_branch: target.into(),
                fork,
                ..MergeRequest::default()
            });
            let new =
                NewPipeline { reference: reference.into(), trusted, merge_request, ..NewPipeline::default() };
            Trust::of(&project(""), &new).protected
        };
        assert!(of("main", true, None) && !of("main", false, None) && !of("work", true, None));
        assert!(of("main", true, Some(("main", false))) && !of("main", true, Some(("main", true))));
        assert!(!of("main", true, Some(("work", false))));
    }
}
