//! Files of what is gone from the database: of removed projects, pipelines and deployments. Whatever was interrupted half
//! way is found again, since only files without a row go. Blobs are `artifacts::sweep`'s.

use crate::project::state_name;
use crate::server::{Answer, App, Problem, mirror};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// Removes them.
///
/// # Errors
/// The database does not answer, or files can't be read or removed.
pub(super) async fn sweep(app: &App) -> Answer<()> {
    // what is found first and has no row afterwards is not on its way either
    let (mirrors, desks) = (numbered(app, "mirrors").await?, numbered(app, "desks").await?);
    let (deployments, logs) = (numbered(app, "deployments").await?, numbered(app, "logs").await?);
    let projects = ids(app, "SELECT id FROM projects").await?;
    let found: HashSet<i64> = mirrors.iter().chain(&desks).map(|(id, _)| *id).collect();
    for id in found.difference(&projects) {
        let desk = app.dir("desks").join(id.to_string());
        // by its name its state is found: it goes last
        let state = app.dir("home").join("projects").join(state_name(&desk));
        for path in [state, mirror::path(app, *id), desk.with_extension("lock"), desk] {
            removed(path).await?;
        }
    }
    let known = ids(app, "SELECT id FROM deployments").await?;
    for (_, path) in deployments.into_iter().filter(|(id, _)| !known.contains(id)) {
        removed(path).await?;
    }
    let known = ids(app, "SELECT id FROM jobs").await?;
    let gone: HashSet<i64> = logs.into_iter().map(|(id, _)| id).filter(|id| !known.contains(id)).collect();
    for job in gone {
        app.logs.remove(job).map_err(|e| Problem::internal("removing the log of a job", &e))?;
    }
    for (project, path) in mirrors.into_iter().filter(|(id, _)| projects.contains(id)) {
        forget(app, project, path).await?;
    }
    Ok(())
}

async fn ids(app: &App, text: &'static str) -> Answer<HashSet<i64>> {
    let all: Vec<i64> = sqlx::query_scalar(text).fetch_all(&app.db.pool).await?;
    Ok(all.into_iter().collect())
}

/// What is in a directory, by the number that its name begins with: `12.git`, `12`, `12.log`.
async fn numbered(app: &App, name: &str) -> Answer<Vec<(i64, PathBuf)>> {
    let dir = app.dir(name);
    let read = move || -> io::Result<Vec<(i64, PathBuf)>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.split('.').next().and_then(|number| number.parse().ok());
            found.extend(number.map(|number| (number, entry.path())));
        }
        Ok(found)
    };
    mirror::blocking(read).await?.map_err(|e| Problem::internal("searching what is left over", &e))
}

async fn removed(path: PathBuf) -> Answer<()> {
    let remove = move || {
        let done = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io::Error::new(error.kind(), format!("`{}`: {error}", path.display())))
            }
            _ => Ok(()),
        }
    };
    mirror::blocking(remove).await?.map_err(|e| Problem::internal("removing what is left over", &e))
}

/// Lets commits go that were kept for pipelines which are gone.
async fn forget(app: &App, project: i64, path: PathBuf) -> Answer<()> {
    let shown = path.clone();
    let listed = mirror::blocking(move || kept(&path)).await?;
    let told = |e: git2::Error| Problem::internal("looking into a mirror", &e.message());
    let listed = listed.map_err(told)?;
    let query = sqlx::query_scalar("SELECT id FROM pipelines WHERE project_id = $1").bind(project);
    let known: Vec<i64> = query.fetch_all(&app.db.pool).await?;
    let known: HashSet<i64> = known.into_iter().collect();
    let gone: Vec<i64> = listed.into_iter().filter(|id| !known.contains(id)).collect();
    let drop = move || -> Result<(), git2::Error> {
        let repository = git2::Repository::open_bare(shown)?;
        for id in gone {
            repository.find_reference(&format!("refs/pipelines/{id}"))?.delete()?;
        }
        Ok(())
    };
    mirror::blocking(drop).await?.map_err(told)
}

fn kept(mirror: &Path) -> Result<Vec<i64>, git2::Error> {
    let repository = git2::Repository::open_bare(mirror)?;
    let mut all = Vec::new();
    for name in repository.references_glob("refs/pipelines/*")?.names() {
        all.extend(name?.rsplit('/').next().and_then(|id| id.parse::<i64>().ok()));
    }
    Ok(all)
}
