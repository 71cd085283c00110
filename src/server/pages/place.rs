//! The project that a page is about, and what who asks may do there.

use super::words::percent;
use crate::server::access::{Access, Actor};
use crate::server::rows::Project;
use crate::server::{Answer, App, people};
use serde::Serialize;

/// Whether `p` (a row of `projects`) may be seen: `$1` 1 for admins, `$2` the person, `$3` the only project of a token.
pub(super) const SEEN: &str = "(($1 = 1 OR EXISTS (SELECT 1 FROM members m WHERE m.user_id = $2 AND \
    (m.project_id IS NULL OR m.project_id = p.id))) AND ($3 = 0 OR p.id = $3))";

/// What [`SEEN`] is asked with.
pub(super) fn seen_by(actor: &Actor) -> (i64, i64, i64) {
    (i64::from(actor.admin), actor.user.unwrap_or(-1), actor.only_project.unwrap_or(0))
}

/// The project of a page.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// Number.
    pub id: i64,
    /// `group/name`.
    pub path: String,
    /// Address of its pages.
    pub url: String,
    /// Which entry of its navigation is lit.
    pub tab: &'static str,
    /// Does it take no new pipelines?
    pub paused: bool,
    /// May who asks run, retry, cancel?
    pub developer: bool,
    /// May who asks change its settings?
    pub maintainer: bool,
}

impl Place {
    /// Looks up the project and what the actor may do there.
    ///
    /// # Errors
    /// There is no such project; or the database does not answer.
    pub async fn of(app: &App, actor: &Actor, name: &str, tab: &'static str) -> Answer<(Project, Place)> {
        let project = app.project(name).await?;
        // what is shown, not what is allowed: that the guard decides
        let rights = people::rights(app, actor, project.id).await?;
        let place = Place {
            id: project.id,
            path: project.path.clone(),
            url: url(&project.path),
            tab,
            paused: project.paused != 0,
            developer: rights.allows(Access::Developer),
            maintainer: rights.allows(Access::Maintainer),
        };
        Ok((project, place))
    }
}

/// Address of a project's pages.
pub(super) fn url(path: &str) -> String {
    format!("/projects/{}", percent::encode(path))
}

pub(super) use percent::encode;
