//! Posts a message by HTTP.

use super::message::{self, Message};
use super::notifier::NotifierKind;
use super::retry::{PATIENCE, Refusal, attempts};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use std::io::Read;
use std::time::Duration;

/// Answers are short; nobody makes us read more.
const ANSWER: u64 = 64 * 1024;

/// Sends the message, made anew for each attempt: its signature has the time in it.
pub(super) fn post(kind: NotifierKind, message: impl Fn() -> Result<Message, String>) -> Result<(), String> {
    // a redirected POST would become a GET of somebody else's choice
    let client = Client::builder().timeout(PATIENCE).redirect(Policy::none()).build();
    let client = client.map_err(|e| e.without_url().to_string())?;
    attempts(|| {
        let message = message().map_err(Refusal::for_good)?;
        let mut request = client.post(message.url).body(message.body);
        for (name, value) in message.headers {
            request = request.header(name, value);
        }
        let answer = request.send().map_err(|e| Refusal {
            again: e.is_connect() || e.is_timeout(),
            what: cause(&e.without_url()),
            after: None,
        })?;
        judge(kind, answer)
    })
}

fn judge(kind: NotifierKind, answer: Response) -> Result<(), Refusal> {
    let status = answer.status();
    if status.is_success() {
        let mut bytes = Vec::new();
        // whoever sent an answer has the message: one that breaks off is no reason to send it twice
        let _ = answer.take(ANSWER).read_to_end(&mut bytes);
        let refused = message::refused(kind, &String::from_utf8_lossy(&bytes));
        return refused.map_or(Ok(()), |what| Err(Refusal::for_good(what)));
    }
    let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
    Err(Refusal {
        what: format!("the answer was {status}"),
        again: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        after: after.map(Duration::from_secs),
    })
}

/// The innermost reason says what happened, such as "connection refused".
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let outer = error.to_string();
    let inner = inner.to_string();
    if inner == outer { outer } else { format!("{outer}: {inner}") }
}
