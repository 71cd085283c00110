//! What commands that ask a server have in common.

use crate::client::{Place, Server};
use crate::error::CliResult;
use serde_json::Value as Json;

/// Which server, which project there.
#[derive(clap::Args)]
pub(super) struct OnServer {
    /// On a server [default: $SLIPWAY_SERVER, or the last that `ci login` signed in to]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    server: Option<String>,
    /// Project on the server [default: as the remote `origin` says]
    #[arg(long, value_name = "GROUP/PROJECT")]
    project: Option<String>,
}

impl OnServer {
    /// Is a server meant?
    pub(super) fn is_asked(&self) -> bool {
        self.server.is_some() || self.project.is_some()
    }

    pub(super) fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    pub(super) fn server(&self) -> CliResult<Server> {
        Server::open(self.server.as_deref().filter(|address| !address.is_empty()))
    }

    pub(super) fn place(&self) -> CliResult<Place> {
        Place::find(self.server()?, self.project.as_deref())
    }
}

/// A text of a document on one line, safe for a terminal.
pub(super) fn text(document: &Json, name: &str) -> String {
    let text = match &document[name] {
        Json::Null => return String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How long ago a time in milliseconds since the epoch was.
pub(super) fn ago(document: &Json, name: &str) -> String {
    let Some(at) = document[name].as_i64() else { return "-".to_owned() };
    span(jiff::Timestamp::now().as_millisecond() - at)
}

/// Milliseconds in the greatest unit that fits.
pub(super) fn span(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// From a time to another, or until now.
pub(super) fn took(document: &Json) -> String {
    let Some(from) = document["started_at"].as_i64() else { return "-".to_owned() };
    let to = document["finished_at"].as_i64().unwrap_or_else(|| jiff::Timestamp::now().as_millisecond());
    span(to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_the_greatest_unit_that_fits() {
        let table =
            [(-5, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (7_200_000, "2 h"), (86_400_000 * 13, "13 d")];
        for (milliseconds, expected) in table {
            assert_eq!(span(milliseconds), expected);
        }
    }

    #[test]
    fn texts_of_others_stay_on_their_line() {
        let document = serde_json::json!({ "a": "x\n\u{1b}[31my", "b": 7 });
        assert_eq!(text(&document, "a"), "x  [31my");
        assert_eq!((text(&document, "b"), text(&document, "c")), ("7".to_owned(), String::new()));
    }
}
