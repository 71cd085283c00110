//! Notifiers with the values of their variables: the ways on which an event goes out.

use super::event::Event;
use super::message::Draft;
use super::notifier::{Notifier, NotifierKind};
use super::{mail, post};
use reqwest::Url;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// All of a notifier's attempts together.
const LONGEST: Duration = Duration::from_secs(45);

/// Everybody who may be told.
#[derive(Clone, Default)]
pub struct Channels(Vec<Channel>);

#[derive(Clone)]
struct Channel {
    notifier: Notifier,
    /// `None`: the variable is not set.
    url: Option<String>,
    secret: Option<String>,
}

/// A notifier that could not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("telling `{notifier}`: {what}")]
pub struct Failure {
    /// Its name.
    pub notifier: String,
    /// Why; has no URL and no secret in it.
    pub what: String,
    /// Its URL's variable is not set, as is usual on a developer's own machine.
    pub unset: bool,
}

impl Channels {
    /// Those notifiers, each once; `variable` looks a variable up.
    pub fn new<'a>(
        notifiers: impl IntoIterator<Item = &'a Notifier>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Channels {
        let value = |name: &str| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let mut channels: Vec<Channel> = Vec::new();
        for notifier in notifiers {
            if channels.iter().any(|channel| channel.notifier == *notifier) {
                continue;
            }
            let secret = notifier.secret.as_deref().map(|name| value(name).unwrap_or_default());
            channels.push(Channel { notifier: notifier.clone(), url: value(&notifier.url), secret });
        }
        Channels(channels)
    }

    /// Nobody?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|channel| channel.notifier.name())
    }

    /// Only those of these names.
    #[must_use]
    pub fn only(mut self, names: &[String]) -> Channels {
        self.0.retain(|channel| names.iter().any(|name| name == channel.notifier.name()));
        self
    }

    /// Tells all who want to hear of it, at once. Blocks, for 45 seconds at most.
    pub fn tell(&self, event: &Event) -> Vec<Failure> {
        let wanted: Vec<&Channel> = self.0.iter().filter(|c| c.notifier.wants(event)).collect();
        let started: Vec<_> = wanted
            .into_iter()
            .map(|channel| {
                let (sender, receiver) = mpsc::sync_channel(1);
                let (owned, event) = (channel.clone(), event.clone());
                // not joined: whoever takes longer is left behind
                std::thread::spawn(move || sender.send(owned.tell(&event)));
                (channel, receiver)
            })
            .collect();
        let end = Instant::now() + LONGEST;
        let result = |(channel, receiver): (&Channel, mpsc::Receiver<Result<(), String>>)| {
            let told = receiver
                .recv_timeout(end.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|_| Err(format!("gave up after {} seconds", LONGEST.as_secs())));
            told.err().map(|what| channel.failure(&what))
        };
        started.into_iter().filter_map(result).collect()
    }

    /// As [`Channels::tell`], while the caller goes on.
    pub fn tell_meanwhile(&self, event: Event) -> JoinHandle<Vec<Failure>> {
        let channels = self.clone();
        std::thread::spawn(move || channels.tell(&event))
    }
}

impl Channel {
    fn tell(&self, event: &Event) -> Result<(), String> {
        let Notifier { kind, url: name, secret, template, .. } = &self.notifier;
        let url = self.url.as_deref().ok_or_else(|| format!("the variable `{name}` is not set"))?;
        // what should be signed is not sent without
        if let (Some(name), Some("")) = (secret, self.secret.as_deref()) {
            return Err(format!("the variable `{name}` with its secret is not set"));
        }
        if *kind == NotifierKind::Email {
            return mail::send(&self.notifier, url, event);
        }
        post::post(*kind, || {
            let now = jiff::Timestamp::now().as_millisecond();
            let (secret, template) = (self.secret.as_deref(), template.as_deref());
            Draft { kind: *kind, url, secret, template, event, now }.message()
        })
    }

    fn failure(&self, what: &str) -> Failure {
        let notifier = self.notifier.name().to_owned();
        Failure { notifier, what: self.hide(what), unset: self.url.is_none() }
    }

    /// A server may repeat what it was sent.
    fn hide(&self, text: &str) -> String {
        let mut hidden: Vec<String> = self.url.iter().chain(&self.secret).cloned().collect();
        if let Some(url) = self.url.as_deref().and_then(|url| Url::parse(url).ok()) {
            hidden.push(url.to_string());
            hidden.extend(url.password().map(str::to_owned));
            hidden.extend(url.query().map(str::to_owned));
            hidden.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
            hidden.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        }
        hidden.sort_by_key(|part| std::cmp::Reverse(part.len()));
        // short parts are words such as `hooks`
        let parts = hidden.iter().filter(|part| part.len() >= 8);
        parts.fold(text.to_owned(), |text, part| text.replace(part.as_str(), "[hidden]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_repeat_is_hidden() {
        let notifier = serde_yaml::from_str("{kind: slack, url: U, secret: S}").unwrap();
        let channel = Channel {
            notifier,
            url: Some("https://u:passw0rd@h.example.org/hooks/T0PS3CRET?key=0123456789".into()),
            secret: Some("SECabcdef".into()),
        };
        let text = "h.example.org: no /hooks/T0PS3CRET with 0123456789 and SECabcdef for u:passw0rd";
        assert_eq!(
            channel.hide(text),
            "h.example.org: no /hooks/[hidden] with [hidden] and [hidden] for u:[hidden]"
        );
    }

    #[test]
    fn unset_variables_are_named() {
        let notifiers: Vec<Notifier> = serde_yaml::from_str(
            "[{kind: slack, url: U}, {kind: slack, url: U}, {kind: webhook, url: W, secret: S}]",
        )
        .unwrap();
        let channels = Channels::new(&notifiers, |name| (name == "W").then(|| "http://127.0.0.1:9/x".into()));
        let failures = channels.tell(&Event::message("m"));
        let said: Vec<_> = failures.iter().map(|f| (f.to_string(), f.unset)).collect();
        assert_eq!(
            said,
            [
                ("telling `slack`: the variable `U` is not set".to_owned(), true),
                ("telling `webhook`: the variable `S` with its secret is not set".to_owned(), false)
            ]
        );
    }
}
