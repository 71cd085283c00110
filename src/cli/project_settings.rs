//! `ci project set`

use super::Format;
use super::on_server::OnServer;
use super::project::{forges, shown};
use crate::error::{CliError, CliResult};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

/// Change a project on a server; what is not named stays
#[derive(clap::Args)]
pub(super) struct SetArgs {
    /// New path
    #[arg(long, value_name = "GROUP/PROJECT")]
    path: Option<String>,
    /// Repository
    #[arg(long, value_name = "URL")]
    git_url: Option<String>,
    /// Who sends its deliveries
    #[arg(long, value_name = "FORGE", value_parser = forges())]
    forge: Option<String>,
    /// Address of the forge's API; empty: no commit statuses are sent
    #[arg(long, value_name = "URL")]
    forge_url: Option<String>,
    /// Default branch
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Protected branches and tags, instead of those that are: patterns, by commas
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    protect: Option<Vec<String>>,
    /// What merge requests from forks do
    #[arg(long, value_name = "WHAT", value_parser = ["ignore", "approve", "run"])]
    forks: Option<String>,
    /// Addresses or networks that may send deliveries, by commas; empty: any
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
    allowed_ips: Option<Vec<String>>,
    /// Does a new pipeline of a branch cancel interruptible jobs of older ones?
    #[arg(long, value_name = "BOOL")]
    auto_cancel: Option<bool>,
    /// Days that pipelines are kept; `default`: as the server says
    #[arg(long, value_name = "N", value_parser = number)]
    keep_days: Option<Json>,
    /// Pipelines that are kept whatever their age; `default`: as the server says
    #[arg(long, value_name = "N", value_parser = number)]
    keep_pipelines: Option<Json>,
    /// May anybody see the badge?
    #[arg(long, value_name = "BOOL")]
    public_badge: Option<bool>,
    /// Starts nothing while it is so
    #[arg(long, value_name = "BOOL")]
    paused: Option<bool>,
    #[command(flatten)]
    on: OnServer,
    /// How the project is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn number(text: &str) -> Result<Json, String> {
    match text {
        "default" => Ok(Json::Null),
        text => text.parse::<u64>().map(Json::from).map_err(|_| "give a number, or `default`".to_owned()),
    }
}

pub(super) fn set(args: &SetArgs) -> CliResult {
    let place = args.on.place()?;
    let before: Json = place.server.get(&place.path(""))?;
    let changes = args.changes(&before["settings"]);
    if changes.is_empty() {
        return Err(CliError::usage("say what to change").hint("`ci project set --help` lists it"));
    }
    shown(&place.server.change(Method::PATCH, &place.path(""), Some(&Json::Object(changes)))?, args.format)
}

impl SetArgs {
    /// What the API is sent: settings are changed as a whole.
    fn changes(&self, settings: &Json) -> Map<String, Json> {
        let list = |list: &Option<Vec<String>>| {
            list.as_ref().map(|list| json!(list.iter().filter(|one| !one.is_empty()).collect::<Vec<_>>()))
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let named = |pairs: Vec<(&str, Option<Json>)>| {
            let given = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            given.collect::<Map<String, Json>>()
        };
        let mut changes = named(vec![
            ("path", text(&self.path)),
            ("git_url", text(&self.git_url)),
            ("forge", text(&self.forge)),
            ("forge_url", text(&self.forge_url)),
            ("default_branch", text(&self.branch)),
            ("protected_refs", list(&self.protect)),
            ("paused", self.paused.map(Json::from)),
        ]);
        let inner = named(vec![
            ("forks", text(&self.forks)),
            ("allowed_ips", list(&self.allowed_ips)),
            ("auto_cancel", self.auto_cancel.map(Json::from)),
            ("keep_days", self.keep_days.clone()),
            ("keep_pipelines", self.keep_pipelines.clone()),
            ("public_badge", self.public_badge.map(Json::from)),
        ]);
        if !inner.is_empty() {
            let mut whole = settings.as_object().cloned().unwrap_or_default();
            whole.extend(inner);
            changes.insert("settings".to_owned(), Json::Object(whole));
        }
        changes
    }
}
