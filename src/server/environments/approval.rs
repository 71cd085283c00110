//! People agree to a deployment, or don't.

use super::desk::Desk;
use super::rows::{Deployment, Vote};
use crate::deploy::Approvals;
use crate::ledger::standing;
use crate::promotion::approval::is_author;
use crate::server::access::{Access, Actor, allows};
use crate::server::app::Changed;
use crate::server::db::now;
use crate::server::rows::{Audit, Project, audit};
use crate::server::{Answer, App, Problem};
use serde_json::json;

/// What a person says.
#[derive(Clone, Debug, serde::Deserialize, utoipa::ToSchema)]
pub(super) struct Said {
    /// For the record.
    #[serde(default)]
    pub(super) comment: String,
    /// Digest of the plan that the person saw.
    pub(super) plan_digest: String,
}

/// Records a vote: one for each person, the last counts. A rejection ends the deployment; enough agreement lets it go on.
///
/// # Errors
/// The person may not, or the plan is another one by now.
pub(super) async fn vote(
    app: &App,
    project: &Project,
    deployment: &Deployment,
    actor: &Actor,
    yes: bool,
    said: &Said,
) -> Answer<Deployment> {
    if deployment.status != "waiting" {
        return Err(Problem::conflict(format!(
            "the deployment is {}: nobody has to agree",
            deployment.status
        )));
    }
    if said.plan_digest.len() < 12 || !deployment.plan_digest.starts_with(&said.plan_digest) {
        return Err(Problem::conflict("the plan is another one than you saw: look at it again"));
    }
    let Some(user) = actor.user else { return Err(Problem::unauthorized()) };
    let rules = rules(app, project, deployment).await?;
    if yes {
        may_agree(app, project, deployment, actor, &rules).await?;
    } else if !asked(app, project, deployment, actor, &rules.rules).await? {
        return Err(Problem::forbidden("you are not asked to agree to this deployment"));
    }
    let mut tx = app.db.write().await?;
    let text = "INSERT INTO approvals (deployment_id, user_id, name, approved, comment, plan_digest, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (deployment_id, user_id) DO UPDATE SET \
         approved = excluded.approved, comment = excluded.comment, plan_digest = excluded.plan_digest, at = excluded.at";
    sqlx::query(text)
        .bind(deployment.id)
        .bind(user)
        .bind(&actor.name)
        .bind(i64::from(yes))
        .bind(&said.comment)
        .bind(&deployment.plan_digest)
        .bind(now())
        .execute(&mut *tx)
        .await?;
    let action = if yes { "deployment.approve" } else { "deployment.reject" };
    let detail = json!({
        "deployment": deployment.id, "environment": deployment.environment, "version": deployment.version,
        "plan_digest": deployment.plan_digest, "comment": said.comment,
    });
    let subject = &deployment.environment;
    audit(&mut tx, Audit { actor, action, project: Some(project.id), subject, detail }).await?;
    tx.commit().await?;
    app.changed(Changed::Environment { project: project.id });
    if yes {
        proceed(app, deployment, rules.rules.count).await?;
    } else {
        let reason = format!("{} said no{}", actor.name, behind(&said.comment));
        deployment.advance(app, "waiting", "rejected", &reason).await?;
    }
    Deployment::find(app, project.id, deployment.id).await
}

fn behind(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(": {comment}") }
}

/// Lets it go on when enough people agreed to the plan as it is.
pub(super) async fn proceed(app: &App, deployment: &Deployment, count: u32) -> Answer<()> {
    let yes = agreed(&deployment.votes(app).await?, &deployment.plan_digest);
    if yes.len() >= count as usize {
        let reason = if yes.is_empty() { String::new() } else { format!("approved by {}", yes.join(", ")) };
        deployment.advance(app, "waiting", "queued", &reason).await?;
    }
    Ok(())
}

/// Who agreed to that plan.
pub(super) fn agreed(votes: &[Vote], digest: &str) -> Vec<String> {
    let yes = votes.iter().filter(|vote| vote.approved == 1 && vote.plan_digest == digest);
    yes.map(|vote| vote.name.clone()).collect()
}

struct Rules {
    rules: Approvals,
    /// Of the released commit, as `Name <mail>`.
    author: String,
}

async fn rules(app: &App, project: &Project, deployment: &Deployment) -> Answer<Rules> {
    let desk = Desk::of(app, project).await?;
    let settings = desk.file()?.and_then(|file| file.environments.get(&deployment.environment));
    let released = standing::releases(desk.entries()?, &deployment.version)
        .find(|released| released.content == deployment.content);
    Ok(Rules {
        rules: settings.map(|settings| settings.approvals.clone()).unwrap_or_default(),
        author: released.map(|released| released.author.clone()).unwrap_or_default(),
    })
}

/// Is the person one of those whom the rules name? Without names: whoever may deploy there.
async fn asked(
    app: &App,
    project: &Project,
    deployment: &Deployment,
    actor: &Actor,
    rules: &Approvals,
) -> Answer<bool> {
    match rules.from.is_empty() {
        true => allows(app, actor, project.id, Access::Deployer, Some(&deployment.environment)).await,
        false => Ok(rules.from.contains(&actor.name)),
    }
}

async fn may_agree(
    app: &App,
    project: &Project,
    deployment: &Deployment,
    actor: &Actor,
    rules: &Rules,
) -> Answer<()> {
    if !asked(app, project, deployment, actor, &rules.rules).await? {
        let names = rules.rules.from.join(", ");
        let who = if names.is_empty() { "who may deploy there".to_owned() } else { names };
        return Err(Problem::forbidden(format!("you are not asked to agree to this deployment; {who} can")));
    }
    if rules.rules.author {
        return Ok(());
    }
    let mail: Option<(String,)> = sqlx::query_as("SELECT email FROM users WHERE id = $1")
        .bind(actor.user)
        .fetch_optional(&app.db.pool)
        .await?;
    let mail = mail.map(|(mail,)| mail).unwrap_or_default();
    let theirs =
        !mail.is_empty() && rules.author.to_lowercase().contains(&format!("<{}>", mail.to_lowercase()));
    if theirs || is_author(&actor.name, &rules.author, None) {
        return Err(Problem::forbidden("the released commit is yours: somebody else has to agree"));
    }
    if deployment.requested_by == actor.name {
        return Err(Problem::forbidden("you asked for this deployment: somebody else has to agree"));
    }
    Ok(())
}
