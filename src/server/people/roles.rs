//! What a person may do in a project: the rows of `members` for the project and for all projects, the best of them.

use crate::server::access::{Access, Actor};
use crate::server::{Answer, App};

/// What somebody may do in a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The best role; none: may not even see it.
    access: Option<Access>,
    /// Environments that may be deployed to; `*`: all.
    environments: Vec<String>,
}

impl Rights {
    /// Is this within their role? For [`Access::Deployer`] it is whether there is any environment that they deploy to:
    /// ask [`Rights::deploys`] for the one in hand.
    pub fn allows(&self, access: Access) -> bool {
        access <= Access::SignedIn || self.access.is_some_and(|mine| mine >= access)
    }

    /// May they deploy to this environment (`*`: to all)? A token needs the scope `deploy`, too.
    pub fn deploys(&self, environment: &str) -> bool {
        self.environments.iter().any(|e| e == "*" || e == environment)
    }
}

/// The access that a role of `members` gives.
pub(super) fn access_of(role: &str) -> Option<Access> {
    match role {
        "viewer" => Some(Access::Viewer),
        "developer" => Some(Access::Developer),
        "deployer" => Some(Access::Deployer),
        "maintainer" => Some(Access::Maintainer),
        _ => None,
    }
}

/// What the actor may do in the project.
///
/// # Errors
/// The database does not answer.
pub async fn rights(app: &App, actor: &Actor, project: i64) -> Answer<Rights> {
    let Some(user) = actor.user else { return Ok(Rights::default()) };
    if actor.only_project.is_some_and(|only| only != project) {
        return Ok(Rights::default());
    }
    let mut rights = Rights::default();
    if actor.admin {
        rights = Rights { access: Some(Access::Admin), environments: vec!["*".to_owned()] };
    } else {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT role, environment FROM members WHERE user_id = $1 AND (project_id = $2 OR project_id IS NULL)",
        )
        .bind(user)
        .bind(project)
        .fetch_all(&app.db.pool)
        .await?;
        for (role, environment) in rows {
            let access = access_of(&role);
            rights.access = rights.access.max(access);
            match access {
                Some(Access::Deployer) => rights.environments.push(environment),
                Some(Access::Maintainer) => rights.environments.push("*".to_owned()),
                _ => {}
            }
        }
    }
    if !actor.has_scope("deploy") {
        rights.environments.clear();
    }
    Ok(rights)
}

/// The projects that the actor sees; none: all there are. For lists.
///
/// # Errors
/// The database does not answer.
pub async fn visible_projects(app: &App, actor: &Actor) -> Answer<Option<Vec<i64>>> {
    let rows: Vec<(Option<i64>,)> = match actor.user {
        None => return Ok(Some(Vec::new())),
        Some(_) if actor.admin => vec![(None,)],
        Some(user) => {
            let query = sqlx::query_as("SELECT DISTINCT project_id FROM members WHERE user_id = $1");
            query.bind(user).fetch_all(&app.db.pool).await?
        }
    };
    let all = rows.iter().any(|(project,)| project.is_none());
    let some: Vec<i64> = rows.into_iter().filter_map(|(project,)| project).collect();
    Ok(match actor.only_project {
        Some(only) if all || some.contains(&only) => Some(vec![only]),
        Some(_) => Some(Vec::new()),
        None if all => None,
        None => Some(some),
    })
}
