//! What each kind of server is sent, and how it says that it took it.

use super::event::Event;
use super::notifier::{NotifierKind, Occasion};
use super::sign::hmac_sha256;
use super::template;
use crate::digest::hex;
use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;
use serde_json::{Value as Json, json};

/// What is posted.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

/// The values that a message is made of.
pub(super) struct Draft<'a> {
    pub(super) kind: NotifierKind,
    pub(super) url: &'a str,
    pub(super) secret: Option<&'a str>,
    pub(super) template: Option<&'a str>,
    pub(super) event: &'a Event,
    /// Milliseconds since the epoch.
    pub(super) now: i64,
}

impl Draft<'_> {
    /// The message, signed.
    ///
    /// # Errors
    /// The URL or the template is wrong; never says the URL.
    pub(super) fn message(&self) -> Result<Message, String> {
        let url = Url::parse(self.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let mut url = url.ok_or("its URL is none of HTTP (`https://...`)")?;
        let text = shorten(template::render(self.kind, self.template, self.event)?, self.limit());
        let mut headers = vec![("content-type", "application/json".to_owned())];
        let body = match self.kind {
            NotifierKind::Slack | NotifierKind::Mattermost => json!({"text": text}).to_string(),
            NotifierKind::Wecom => json!({"msgtype": "text", "text": {"content": text}}).to_string(),
            NotifierKind::Dingtalk => {
                self.sign_dingtalk(&mut url);
                json!({"msgtype": "text", "text": {"content": text}}).to_string()
            }
            NotifierKind::Feishu => self.feishu(&text).to_string(),
            NotifierKind::Webhook => {
                let body = self.webhook(text)?;
                headers.extend(self.webhook_headers(&body));
                body
            }
            NotifierKind::Email => return Err("mail is not posted".to_owned()),
        };
        Ok(Message { url, headers, body })
    }

    /// Bytes of text that the service takes.
    fn limit(&self) -> usize {
        match self.kind {
            NotifierKind::Wecom => 2048,
            NotifierKind::Webhook => usize::MAX,
            _ => 15_000,
        }
    }

    /// `timestamp` in milliseconds, and `sign` of "timestamp, line end, secret" under the secret, in the query.
    fn sign_dingtalk(&self, url: &mut Url) {
        let Some(secret) = self.secret else { return };
        let text = format!("{}\n{secret}", self.now);
        let sign = STANDARD.encode(hmac_sha256(secret.as_bytes(), text.as_bytes()));
        url.query_pairs_mut().append_pair("timestamp", &self.now.to_string()).append_pair("sign", &sign);
    }

    /// A card of plain text: nothing in it is interpreted. The signature is of nothing, under "seconds, line end, secret".
    fn feishu(&self, text: &str) -> Json {
        let colour = match self.event.occasion {
            Some(Occasion::Succeeded | Occasion::Fixed) => "green",
            Some(Occasion::Failed) => "red",
            Some(Occasion::RolledBack | Occasion::ApprovalNeeded) => "orange",
            Some(Occasion::Started) | None => "blue",
        };
        let mut body = json!({
            "msg_type": "interactive",
            "card": {
                "header": {"title": {"tag": "plain_text", "content": self.event.title}, "template": colour},
                "elements": [{"tag": "div", "text": {"tag": "plain_text", "content": text}}],
            },
        });
        if let Some(secret) = self.secret {
            let seconds = (self.now / 1000).to_string();
            let sign = hmac_sha256(format!("{seconds}\n{secret}").as_bytes(), b"");
            body["timestamp"] = seconds.into();
            body["sign"] = STANDARD.encode(sign).into();
        }
        body
    }

    fn webhook(&self, text: String) -> Result<String, String> {
        if self.template.is_none() {
            return serde_json::to_string(self.event).map_err(|e| format!("writing the event: {e}"));
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            Ok(_) => Ok(text),
            Err(e) => Err(format!("its template makes no JSON document: {e}")),
        }
    }

    /// The signature covers the time, so that nobody sends an old body again, and the body.
    fn webhook_headers(&self, body: &str) -> Vec<(&'static str, String)> {
        let seconds = (self.now / 1000).to_string();
        let subject = serde_json::to_value(self.event.subject).unwrap_or_default();
        let mut headers = vec![("x-slipway-event", subject.as_str().unwrap_or_default().to_owned())];
        if let Some(secret) = self.secret {
            let code = hmac_sha256(secret.as_bytes(), format!("{seconds}.{body}").as_bytes());
            headers.push(("x-slipway-signature", format!("sha256={}", hex(&code))));
        }
        headers.push(("x-slipway-timestamp", seconds));
        headers
    }
}

/// The error of a service that answers 200 whatever happened.
pub(super) fn refused(kind: NotifierKind, answer: &str) -> Option<String> {
    let (code, message) = match kind {
        NotifierKind::Dingtalk | NotifierKind::Wecom => ("errcode", "errmsg"),
        NotifierKind::Feishu => ("code", "msg"),
        _ => return None,
    };
    let answer: Json = match serde_json::from_str(answer) {
        Ok(answer) => answer,
        Err(_) => {
            return Some("the answer is not what this service gives: is the URL that of a robot?".to_owned());
        }
    };
    let number = answer.get(code).and_then(Json::as_i64).filter(|number| *number != 0)?;
    let why = answer.get(message).and_then(Json::as_str).unwrap_or("no reason given");
    Some(format!("refused with code {number}: {why}"))
}

fn shorten(mut text: String, limit: usize) -> String {
    const MORE: &str = " ...";
    if text.len() > limit {
        let end = (0..=limit - MORE.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(MORE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: NotifierKind, event: &Event) -> Draft<'_> {
        let url = "https://robot.example.org/send?access_token=abc";
        Draft { kind, url, secret: Some("SECabc"), template: None, event, now: 1_700_000_000_123 }
    }

    #[test]
    fn each_service_gets_its_own_form() {
        let event = Event::message("it \"broke\"");
        let body =
            |kind| -> Json { serde_json::from_str(&draft(kind, &event).message().unwrap().body).unwrap() };
        assert_eq!(body(NotifierKind::Slack), json!({"text": "it \"broke\""}));
        assert_eq!(body(NotifierKind::Mattermost), json!({"text": "it \"broke\""}));
        let text = json!({"msgtype": "text", "text": {"content": "it \"broke\""}});
        assert_eq!(body(NotifierKind::Wecom), text);
        assert_eq!(body(NotifierKind::Dingtalk), text);
        let feishu = body(NotifierKind::Feishu);
        assert_eq!(feishu.pointer("/card/elements/0/text/content").unwrap(), "it \"broke\"");
        assert_eq!(body(NotifierKind::Webhook)["title"], "it \"broke\"");
    }

    /// Values made with Python's hmac and base64.
    #[test]
    fn signatures_are_those_of_the_services() {
        let event = Event::message("x");
        let url = draft(NotifierKind::Dingtalk, &event).message().unwrap().url;
        let query: Vec<_> = url.query_pairs().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            query,
            [
                "access_token=abc",
                "timestamp=1700000000123",
                "sign=IqXBU/aLfwMA3S/tDcfRmHx5vWHw9Y1aOgFLBr1Ti9w="
            ]
        );
        let feishu: Json =
            serde_json::from_str(&draft(NotifierKind::Feishu, &event).message().unwrap().body).unwrap();
        assert_eq!(
            (&feishu["timestamp"], &feishu["sign"]),
            (&"1700000000".into(), &"XprR1de+0SSBnwWyU/4k6x2TL+Q2SJlM5NNEdAv7MWg=".into())
        );
        let own = Draft { template: Some("{\"a\":\"{{title}}\"}"), ..draft(NotifierKind::Webhook, &event) };
        let message = own.message().unwrap();
        assert_eq!(message.body, "{\"a\":\"x\"}");
        let signature = message.headers.iter().find(|(name, _)| *name == "x-slipway-signature").unwrap();
        assert_eq!(signature.1, "sha256=2a5710e627101fd1595d8ed1699606a43f4d9cbb9619f3a097dd8736a469b2d8");
    }

    #[test]
    fn an_answer_of_200_may_still_be_a_refusal() {
        let table = [
            (NotifierKind::Dingtalk, r#"{"errcode":0,"errmsg":"ok"}"#, None),
            (
                NotifierKind::Dingtalk,
                r#"{"errcode":310000,"errmsg":"sign not match"}"#,
                Some("310000: sign not match"),
            ),
            (NotifierKind::Wecom, r#"{"errcode":93000}"#, Some("93000: no reason given")),
            (NotifierKind::Feishu, r#"{"StatusCode":0,"code":0}"#, None),
            (
                NotifierKind::Feishu,
                r#"{"code":19021,"msg":"sign match fail"}"#,
                Some("19021: sign match fail"),
            ),
            (NotifierKind::Feishu, "<html>", Some("is the URL that of a robot?")),
            (NotifierKind::Slack, "ok", None),
        ];
        for (kind, answer, expected) in table {
            let said = refused(kind, answer);
            assert_eq!(said.is_some(), expected.is_some(), "{answer}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{answer}");
        }
    }

    #[test]
    fn texts_fit_the_service_and_stay_text() {
        let event = Event::message(&"\u{4e2d}".repeat(3000));
        let body: Json =
            serde_json::from_str(&draft(NotifierKind::Wecom, &event).message().unwrap().body).unwrap();
        let content = body.pointer("/text/content").unwrap().as_str().unwrap();
        assert!(content.len() <= 2048 && content.len() > 2040 && content.ends_with("\u{4e2d} ..."));
    }

    #[test]
    fn mistakes_are_told_without_the_url() {
        let event = Event::message("x");
        for url in ["t0p", "ftp://h/t0p", "file:///t0p"] {
            let error = Draft { url, ..draft(NotifierKind::Slack, &event) }.message().unwrap_err();
            assert!(error.contains("URL") && !error.contains("t0p"), "{error}");
        }
        let own = Draft { template: Some("{{title}}"), ..draft(NotifierKind::Webhook, &event) };
        assert!(own.message().unwrap_err().contains("no JSON"));
    }
}
