//! What templates can say: times, durations, statuses, sizes.

use crate::server::db::now;
use handlebars::{Context, Handlebars, Helper, HelperResult, Output, RenderContext, html_escape};
use jiff::Timestamp;
use percent::encode;
use serde_json::Value as Json;
use std::fmt::Write as _;

/// Makes the words known: `{{ago at}}`, `{{took from to}}`, `{{badge s}}`, `{{icon s}}`, `{{sha s}}`, `{{bytes n}}`,
/// `{{enc s}}`, `{{plural n "job"}}`.
pub(super) fn register(registry: &mut Handlebars<'_>) {
    add(registry, "ago", |words| ago(number(words, 0)));
    add(registry, "took", |words| took(number(words, 0), number(words, 1)));
    add(registry, "badge", |words| status(&text(words, 0), true));
    add(registry, "icon", |words| status(&text(words, 0), false));
    add(registry, "sha", |words| html_escape(short(&text(words, 0))));
    add(registry, "bytes", |words| bytes(number(words, 0).unwrap_or(0)));
    add(registry, "enc", |words| encode(&text(words, 0)));
    add(registry, "plural", |words| plural(number(words, 0).unwrap_or(0), &text(words, 1)));
    add(registry, "span", |words| span(number(words, 0).unwrap_or(0)));
}

fn add(registry: &mut Handlebars<'_>, name: &str, word: fn(&[Json]) -> String) {
    let say = move |h: &Helper<'_>,
                    _: &Handlebars<'_>,
                    _: &Context,
                    _: &mut RenderContext<'_, '_>,
                    out: &mut dyn Output|
          -> HelperResult {
        let words: Vec<Json> = h.params().iter().map(|p| p.value().clone()).collect();
        out.write(&word(&words))?;
        Ok(())
    };
    registry.register_helper(name, Box::new(say));
}

fn number(words: &[Json], at: usize) -> Option<i64> {
    words.get(at)?.as_i64()
}

fn text(words: &[Json], at: usize) -> String {
    match words.get(at) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The first letters of a commit.
pub(super) fn short(sha: &str) -> &str {
    sha.get(..8).unwrap_or(sha)
}

/// `1 h 5 min`: the two greatest units of milliseconds.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min {} s", seconds % 60),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

/// `3 min ago`, `in 2 h`; the script keeps it right.
fn ago(at: Option<i64>) -> String {
    let Some(at) = at else { return "–".to_owned() };
    let moment = Timestamp::from_millisecond(at).unwrap_or_default();
    let exact = moment.strftime("%Y-%m-%d %H:%M:%S UTC");
    let far = (now() - at).abs();
    let rough = match far / 1000 {
        0..45 => "now".to_owned(),
        s @ 45..5400 => format!("{} min", (s + 30) / 60),
        s @ 5400..129_600 => format!("{} h", (s + 1800) / 3600),
        s => format!("{} d", (s + 43_200) / 86_400),
    };
    let words = match (rough.as_str(), at > now()) {
        ("now", _) => "just now".to_owned(),
        (_, true) => format!("in {rough}"),
        (_, false) => format!("{rough} ago"),
    };
    format!("<time datetime=\"{moment}\" data-ago=\"{at}\" title=\"{exact}\">{words}</time>")
}

fn took(from: Option<i64>, to: Option<i64>) -> String {
    match (from, to) {
        (None, _) => "–".to_owned(),
        (Some(from), Some(to)) => span(to - from),
        (Some(from), None) => format!("<span data-since=\"{from}\">{}</span>", span(now() - from)),
    }
}

/// Statuses with a picture of their own; others share `created`'s.
const DRAWN: &[&str] = &[
    "created",
    "waiting_for_resource",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
    "warning",
];

/// The picture and the colour for what a thing is in; those of deliveries and deployments are seen as a pipeline's.
pub(super) fn look(status: &str) -> &str {
    match status {
        "done" | "pipeline" | "online" | "approved" => "success",
        "waiting" | "held" => "manual",
        "queued" | "planning" => "pending",
        "refused" | "rejected" | "unknown" | "expired" => "warning",
        "rolled_back" => "canceled",
        "ignored" | "offline" | "paused" | "superseded" => "skipped",
        status => DRAWN.iter().find(|drawn| **drawn == status).unwrap_or(&"created"),
    }
}

fn status(status: &str, with_text: bool) -> String {
    let look = look(status);
    let words = html_escape(&status.replace('_', " "));
    let hidden = if with_text { "" } else { " class=\"hidden\"" };
    format!(
        "<span class=\"status is-{look}\"><svg class=\"icon\" aria-hidden=\"true\"><use href=\"/assets/icons.svg#{look}\"/></svg>\
         <span{hidden}>{words}</span></span>"
    )
}

/// `12.3 MiB`.
pub(super) fn bytes(count: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let mut out = String::new();
    let places = usize::from(value < 100.0);
    // writing into a text can't fail
    let _ = write!(out, "{value:.places$} {}", UNITS[unit]);
    out
}

fn plural(count: i64, word: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {}{end}", html_escape(word))
}

/// Parts of addresses.
pub(super) mod percent {
    use std::fmt::Write as _;

    /// For one part of a path, or a value of a query.
    pub(in crate::server::pages) fn encode(text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                // writing into a text can't fail
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let table = [
            (900, "0 s"),
            (59_000, "59 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
            (-5, "0 s"),
        ];
        for (ms, said) in table {
            assert_eq!(span(ms), said);
        }
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (count, said) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (500 << 20, "500 MiB")] {
            assert_eq!(bytes(count), said);
        }
    }

    #[test]
    fn a_status_from_outside_is_escaped() {
        let said = status("<script>", true);
        assert!(!said.contains("<script>"), "{said}");
    }

    #[test]
    fn parts_of_addresses_are_encoded() {
        assert_eq!(encode("group/na me?"), "group%2Fna%20me%3F");
    }
}
