//! `release`.

use super::check::{Entry, Findings, Path};
use super::ruby;
use crate::yaml::{self, Node};

const KEYS: [&str; 8] =
    ["tag_name", "tag_message", "name", "description", "ref", "released_at", "milestones", "assets"];
const LINK_TYPES: [&str; 4] = ["other", "runbook", "image", "package"];

/// Checks a `release`; its value is passed on as written.
pub(super) fn release(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&KEYS);
    entry.required_string("tag_name");
    entry.present("tag_name");
    if entry.field("tag_message").is_some_and(|n| !ruby::is_blank(n)) {
        entry.string("tag_message");
    }
    entry.required_string("description");
    entry.present("description");
    if entry.field("milestones").is_some_and(|n| !ruby::is_blank(n)) {
        entry.strings_or_string("milestones");
    }
    if entry.field("released_at").is_some_and(|n| !n.as_str().is_some_and(is_iso8601)) {
        entry.fail("bad-value", "released_at", "must be a valid datetime");
    }
    if entry.field("ref").is_some_and(|n| !n.as_str().is_some_and(is_ref)) {
        entry.fail("bad-value", "ref", "must be a valid ref");
    }
    let assets = entry.field("assets").filter(|_| entry.valid);
    if let Some(assets) = assets {
        check_assets(assets, &path.child("assets"), findings);
    }
}

fn check_assets(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&["links"]);
    let links = entry.field("links").and_then(Node::as_sequence);
    if !links.is_some_and(|items| items.iter().all(|n| n.as_mapping().is_some())) {
        entry.fail("wrong-type", "links", "should be an array of hashes");
    }
    entry.present("links");
    if !entry.valid {
        return;
    }
    let links_at = path.child("links");
    let at = links_at.child("link");
    for link in links.unwrap_or_default() {
        check_link(&mut Entry::new(link, &at, findings));
    }
}

fn check_link(entry: &mut Entry<'_, '_, '_>) {
    entry.allowed_keys(&["name", "url", "filepath", "link_type"]);
    entry.required_string("name");
    entry.present("name");
    entry.present("url");
    match entry.field("url") {
        Some(url) if ruby::is_blank(url) => entry.fail("bad-value", "url", "must be a valid url"),
        None => entry.fail("bad-value", "url", "must be a valid url"),
        Some(url) if !yaml::text(url).starts_with("http://") && !yaml::text(url).starts_with("https://") => {
            entry.fail("bad-value", "url", "is blocked: only allowed schemes are http, https");
        }
        Some(_) => {}
    }
    entry.string("filepath");
    entry.one_of("link_type", &LINK_TYPES, "is not included in the list");
}

/// A calendar date, perhaps with a time and a zone: `2024-01-01T10:00:00Z`.
fn is_iso8601(text: &str) -> bool {
    let (date, time) = text.split_once(['T', 't', ' ']).map_or((text, None), |(d, t)| (d, Some(t)));
    let parts: Vec<&str> = if date.contains('-') {
        date.split('-').collect()
    } else if date.len() == 8 && date.is_ascii() {
        vec![&date[..4], &date[4..6], &date[6..]]
    } else {
        return false;
    };
    let number = |s: &str| s.chars().all(|c| c.is_ascii_digit()).then(|| s.parse::<u32>().ok()).flatten();
    let [Some(year), Some(month), Some(day)] = [0, 1, 2].map(|i| parts.get(i).and_then(|s| number(s))) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    parts.len() == 3 && (1..=12).contains(&month) && (1..=days).contains(&day) && time.is_none_or(is_time)
}

fn is_time(text: &str) -> bool {
    let clock = text.trim_end_matches(['Z', 'z']);
    let clock = clock.split(['+', '-']).next().unwrap_or(clock);
    let clock = clock.split(['.', ',']).next().unwrap_or(clock);
    let limits = [24, 59, 60];
    let compact = !clock.contains(':') && clock.is_ascii() && matches!(clock.len(), 4 | 6);
    let parts: Vec<&str> = if compact {
        (0..clock.len()).step_by(2).map(|i| &clock[i..i + 2]).collect()
    } else {
        clock.split(':').collect()
    };
    let within =
        |(part, limit): (&&str, &u32)| part.len() == 2 && part.parse::<u32>().is_ok_and(|n| n <= *limit);
    parts.len() <= 3 && parts.iter().zip(&limits).all(within)
}

/// What git accepts as a name of a ref or a revision that looks like one.
fn is_ref(text: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !text.is_empty()
        && !text.contains(bad)
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
        && !text.contains("@{")
        && text != "@"
        && text.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for text in
            ["2024-01-01T10:00:00Z", "2024-02-29", "20240101T101010+02:00", "2021-03-15T08:00:00.000+01:00"]
        {
            assert!(is_iso8601(text), "{text}");
        }
        for text in ["tomorrow", "2023-02-29", "2024-13-01", "2024-01-01T25:00:00Z", "", "2024-01"] {
            assert!(!is_iso8601(text), "{text}");
        }
    }

    #[test]
    fn refs() {
        for text in ["main", "feature/x", "v1.0", "$CI_COMMIT_SHA"] {
            assert!(is_ref(text), "{text}");
        }
        for text in ["a b", "-x", "a..b", "a/.b", "x.lock", "a:b", "", "/a"] {
            assert!(!is_ref(text), "{text}");
        }
    }
}
