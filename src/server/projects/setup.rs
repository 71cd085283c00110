//! How to set the hook up at each forge, for people.

use crate::server::App;
use crate::server::hooks::forge::Forge;
use crate::server::rows::Project;

/// The script for a repository on a git server without a forge: tells of each ref that was pushed. It asks for what a
/// machine with git has anyway: `perl` (signs; the secret is in no argument) and `curl`.
const POST_RECEIVE: &str = include_str!("post-receive");

/// Where a project's deliveries go.
pub fn hook_url(app: &App, project: &Project) -> String {
    format!("{}/hooks/{}", app.config.public_url(), project.hook)
}

/// Steps, one a line.
pub fn setup(forge: Forge, hook_url: &str) -> String {
    let steps = match forge {
        Forge::Github => format!(
            "On GitHub: Settings, Webhooks, Add webhook.\n\
             Payload URL: {hook_url}\n\
             Content type: application/json\n\
             Secret: the hook secret.\n\
             Events: Pushes, and Pull requests.\n\
             For commit statuses: a token with the right `Commit statuses: write`, stored as a secret of kind `forge`."
        ),
        Forge::Gitlab => format!(
            "On GitLab: Settings, Webhooks, Add new webhook.\n\
             URL: {hook_url}\n\
             Secret token: the hook secret. (Where GitLab signs: store its signing token, `whsec_…`, as a secret of kind \
             `hook`; from then on only signed deliveries are taken.)\n\
             Triggers: Push events, Tag push events, Merge request events.\n\
             For commit statuses: an access token with the scope `api`, stored as a secret of kind `forge`."
        ),
        Forge::Gitea => format!(
            "On Gitea or Forgejo: Settings, Webhooks, Add webhook, Gitea (Forgejo).\n\
             Target URL: {hook_url}\n\
             HTTP method: POST, content type: application/json\n\
             Secret: the hook secret.\n\
             Trigger on: Push, Pull request, Pull request synchronized.\n\
             For commit statuses: a token with `write:repository`, stored as a secret of kind `forge`."
        ),
        Forge::BitbucketCloud => format!(
            "On Bitbucket: Repository settings, Webhooks, Add webhook.\n\
             URL: {hook_url}\n\
             Secret: the hook secret.\n\
             Triggers: Repository push; Pull request created and updated.\n\
             For commit statuses: an access token with `repository:write`, stored as a secret of kind `forge`."
        ),
        Forge::BitbucketDc => format!(
            "On Bitbucket: Repository settings, Webhooks, Create webhook.\n\
             URL: {hook_url}\n\
             Secret: the hook secret.\n\
             Events: Repository push; Pull request opened, source branch updated.\n\
             For commit statuses: an HTTP access token with repository write, stored as a secret of kind `forge`."
        ),
        Forge::Gogs => format!(
            "On Gogs: Settings, Webhooks, Add a new webhook, Gogs.\n\
             Payload URL: {hook_url}\n\
             Content type: application/json\n\
             Secret: the hook secret.\n\
             Events: Push, Pull request. Gogs takes no commit statuses."
        ),
        Forge::Generic => format!(
            "On the git server: put this into `hooks/post-receive` of the bare repository and make it executable; put the \
             hook secret into `hooks/slipway-secret`, readable only by whom git runs as.\n\n{}",
            POST_RECEIVE.replace("@HOOK_URL@", hook_url)
        ),
    };
    format!("{steps}\n")
}
