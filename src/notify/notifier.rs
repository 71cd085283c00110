//! Where people are told: `notify:` in `.ci/deploy.yml` (deployments) and `.ci/settings.yml` (pipelines of `ci run`).
//!
//! ```yaml
//! notify:
//!   - {kind: slack, url: SLACK_URL, on: [failed, fixed]}      # SLACK_URL is a variable: secrets are not in the file
//!   - {kind: dingtalk, url: DING_URL, secret: DING_SECRET}    # signed
//!   - {name: ops, kind: email, url: SMTP_URL, from: ci@example.org, to: [ops@example.org]}
//! ```

use super::event::{Event, Subject};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Where deployments and pipelines are told of. Secrets are names of variables, never values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notifier {
    /// For `ci notify --to NAME` and `ci notify test NAME`; default: the kind.
    #[serde(default)]
    pub name: Option<String>,
    /// What takes the message.
    pub kind: NotifierKind,
    /// Variable with the URL, or with the SMTP URL (`smtps://user:password@host`).
    #[serde(deserialize_with = "variable")]
    pub url: String,
    /// Variable with the signing secret, for those that sign: `dingtalk`, `feishu`, `webhook`.
    #[serde(default, deserialize_with = "optional_variable")]
    pub secret: Option<String>,
    /// Mail addresses.
    #[serde(default)]
    pub to: Vec<String>,
    /// Sender's address.
    #[serde(default)]
    pub from: Option<String>,
    /// Empty: of deployments all but `started`, of pipelines `failed` and `fixed`.
    #[serde(default)]
    pub on: Vec<Occasion>,
    /// Only deployments to these environments; empty: all.
    #[serde(default)]
    pub environments: Vec<String>,
    /// Handlebars template: of the text, of a webhook's JSON body, or of a mail's HTML.
    #[serde(default)]
    pub template: Option<String>,
}

/// What takes the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifierKind {
    /// Incoming webhook of Slack.
    Slack,
    /// Incoming webhook of Mattermost.
    Mattermost,
    /// Robot of a DingTalk group, signed when it has a secret.
    Dingtalk,
    /// Robot of a WeCom group.
    Wecom,
    /// Robot of a Feishu or Lark group, signed when it has a secret.
    Feishu,
    /// Any HTTP server: the event as JSON, signed by HMAC-SHA256 when it has a secret.
    Webhook,
    /// Mail by SMTP.
    Email,
}

impl NotifierKind {
    /// All, in the order of the documentation.
    pub const ALL: [NotifierKind; 7] = [
        NotifierKind::Slack,
        NotifierKind::Mattermost,
        NotifierKind::Dingtalk,
        NotifierKind::Wecom,
        NotifierKind::Feishu,
        NotifierKind::Webhook,
        NotifierKind::Email,
    ];

    /// As settings have it.
    pub fn name(self) -> &'static str {
        match self {
            NotifierKind::Slack => "slack",
            NotifierKind::Mattermost => "mattermost",
            NotifierKind::Dingtalk => "dingtalk",
            NotifierKind::Wecom => "wecom",
            NotifierKind::Feishu => "feishu",
            NotifierKind::Webhook => "webhook",
            NotifierKind::Email => "email",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It began.
    Started,
    /// It ended well.
    Succeeded,
    /// It ended badly, or was refused.
    Failed,
    /// A pipeline ended well whose last run for the same ref had failed; also whoever wants `succeeded` hears of it.
    Fixed,
    /// A deployment failed after the target was changed; the old version serves again, or should.
    RolledBack,
    /// A deployment waits for people to agree.
    ApprovalNeeded,
}

impl Notifier {
    /// As people name it.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.name())
    }

    /// Whether it is to hear of the event.
    pub fn wants(&self, event: &Event) -> bool {
        // messages are sent by a person, to whom that person chose
        let Some(occasion) = event.occasion else { return true };
        let on = if self.on.is_empty() { usual(event.subject) } else { &self.on };
        let wanted =
            on.contains(&occasion) || occasion == Occasion::Fixed && on.contains(&Occasion::Succeeded);
        let here = event.environment.as_ref().is_none_or(|environment| {
            self.environments.is_empty() || self.environments.contains(environment)
        });
        wanted && here
    }
}

fn usual(subject: Subject) -> &'static [Occasion] {
    match subject {
        Subject::Pipeline => &[Occasion::Failed, Occasion::Fixed],
        Subject::Deployment | Subject::Message => {
            &[Occasion::Succeeded, Occasion::Failed, Occasion::RolledBack, Occasion::ApprovalNeeded]
        }
    }
}

/// A name, so that nobody's URL is committed; what stands there instead is not repeated: it may be a secret.
fn variable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(name);
    }
    Err(de::Error::custom(
        "`url` and `secret` are names of variables, as `SLACK_URL`: the value belongs in `.ci/variables.yml` or the \
         CI/CD settings, not in this file",
    ))
}

fn optional_variable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    variable(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Notifier, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    #[test]
    fn each_kind_is_read_by_its_name() {
        for kind in NotifierKind::ALL {
            let notifier = read(&format!("{{kind: {}, url: A_URL}}", kind.name())).unwrap();
            assert_eq!((notifier.kind, notifier.name()), (kind, kind.name()));
        }
    }

    #[test]
    fn a_value_in_place_of_a_variable_is_refused_and_not_repeated() {
        for text in [
            "{kind: slack, url: 'https://hooks.example.org/t0p'}",
            "{kind: webhook, url: A, secret: 't0p-secret'}",
            "{kind: webhook, url: ''}",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("names of variables") && !error.contains("t0p"), "{error}");
        }
    }

    #[test]
    fn who_hears_of_what() {
        use Occasion::{ApprovalNeeded, Failed, Fixed, RolledBack, Started, Succeeded};
        let pipeline = |occasion| Event::pipeline(occasion, "p");
        let dev = |occasion| Event::deployment(occasion, "urf", "1", "dev");
        let table = [
            ("", pipeline(Failed), true),
            ("", pipeline(Fixed), true),
            ("", pipeline(Succeeded), false),
            ("", pipeline(Started), false),
            ("on: [succeeded]", pipeline(Fixed), true),
            ("on: [fixed]", pipeline(Succeeded), false),
            ("environments: [dev]", pipeline(Failed), true),
            ("", dev(Started), false),
            ("", dev(Succeeded), true),
            ("", dev(RolledBack), true),
            ("", dev(ApprovalNeeded), true),
            ("on: [started]", dev(Started), true),
            ("on: [failed]", dev(RolledBack), false),
            ("environments: [sit]", dev(Failed), false),
            ("environments: [sit, dev]", dev(Failed), true),
            ("on: [failed]", Event::message("m"), true),
        ];
        for (more, event, expected) in table {
            let notifier = read(&format!("kind: slack\nurl: A\n{more}\n")).unwrap();
            assert_eq!(notifier.wants(&event), expected, "{more}: {event:?}");
        }
    }
}
