//! An nginx include file with an upstream, and the weights in it. Pure.

/// The text with `percent` of the requests for `new` and the rest for `old`; all else stays as it was written.
/// `None`: the text has no such upstream.
pub(super) fn weigh(text: &str, upstream: &str, old: &str, new: &str, percent: u32) -> Option<String> {
    let (before, body, after) = split(text, upstream)?;
    // what follows the brace stands on lines of its own
    let mut lines: Vec<String> = if body.is_empty() { vec![String::new()] } else { Vec::new() };
    let mut seen = [false; 2];
    for line in body.lines() {
        match server(line) {
            Some((address, rest)) if address == old || address == new => {
                let share = if address == new { percent } else { 100 - percent };
                seen[usize::from(address == new)] = true;
                let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
                lines.push(format!("{indent}server {address} {}{rest};", share_of(share)));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    for (index, (address, share)) in [(old, 100 - percent), (new, percent)].into_iter().enumerate() {
        if !seen[index] {
            lines.push(format!("    server {address} {};", share_of(share)));
        }
    }
    Some(format!("{before}{}\n{after}", lines.join("\n")))
}

/// The one of `backends` that gets the most requests. `None`: neither gets any.
pub(super) fn active<'a>(text: &str, upstream: &str, backends: &'a [String; 2]) -> Option<&'a str> {
    let (_, body, _) = split(text, upstream)?;
    let weight = |address: &str| {
        let line = body.lines().find(|line| server(line).is_some_and(|(of, _)| of == address))?;
        let words: Vec<&str> = line.trim().trim_end_matches(';').split_whitespace().collect();
        let weight = words.iter().find_map(|word| word.strip_prefix("weight=")?.parse::<u32>().ok());
        (!words.contains(&"down")).then_some(weight.unwrap_or(1))
    };
    let [a, b] = backends;
    match (weight(a), weight(b)) {
        (None, None) => None,
        (Some(a_weight), Some(b_weight)) => Some(if a_weight >= b_weight { a } else { b }),
        (Some(_), None) => Some(a),
        (None, Some(_)) => Some(b),
    }
}

/// nginx takes no weight of 0.
fn share_of(percent: u32) -> String {
    if percent == 0 { "down".to_owned() } else { format!("weight={percent}") }
}

/// The text before, in and after the braces of the upstream.
fn split<'a>(text: &'a str, upstream: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let pattern = format!(r"(?m)^\s*upstream\s+{}\s*\{{", regex::escape(upstream));
    let start = regex::Regex::new(&pattern).ok()?.find(text)?.end();
    let end = start + text[start..].find('}')?;
    Some((&text[..start], text[start..end].trim_end(), &text[end..]))
}

/// Address and parameters, without weight and `down`, of a `server` line.
fn server(line: &str) -> Option<(&str, String)> {
    let mut words = line.split('#').next()?.trim().strip_suffix(';')?.split_whitespace();
    if words.next()? != "server" {
        return None;
    }
    let address = words.next()?;
    let rest = words.filter(|word| *word != "down" && !word.starts_with("weight="));
    Some((address, rest.map(|word| format!(" {word}")).collect()))
}

/// Requests that reached `address`, and how many of them failed, in lines of `$upstream_addr|$upstream_status`.
/// One request may have asked several backends.
pub(super) fn count(log: &str, address: &str) -> (u64, u64) {
    let (mut all, mut bad) = (0, 0);
    for line in log.lines() {
        let Some((addresses, statuses)) = line.rsplit_once('|') else { continue };
        let addresses = addresses.split([',', ' ']).filter(|word| !word.is_empty() && *word != ":");
        let statuses = statuses.split([',', ' ']).filter(|word| !word.is_empty() && *word != ":");
        for (of, status) in addresses.zip(statuses) {
            if of == address {
                all += 1;
                bad += u64::from(!matches!(status.parse::<u16>(), Ok(100..=499)));
            }
        }
    }
    (all, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\nupstream app {\n    least_conn;\n    server 127.0.0.1:1 weight=100 max_fails=3; # a\n    server 127.0.0.1:2 down;\n    keepalive 8;\n}\nupstream other {\n    server 127.0.0.1:1;\n}\n";

    fn backends() -> [String; 2] {
        ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]
    }

    #[test]
    fn only_weights_of_the_two_backends_change() {
        let text = weigh(TEXT, "app", "127.0.0.1:1", "127.0.0.1:2", 10).unwrap();
        assert_eq!(
            text,
            "# ours\nupstream app {\n    least_conn;\n    server 127.0.0.1:1 weight=90 max_fails=3;\n    server 127.0.0.1:2 weight=10;\n    keepalive 8;\n}\nupstream other {\n    server 127.0.0.1:1;\n}\n"
        );
        let text = weigh(&text, "app", "127.0.0.1:1", "127.0.0.1:2", 100).unwrap();
        assert!(
            text.contains("server 127.0.0.1:1 down max_fails=3;")
                && text.contains("server 127.0.0.1:2 weight=100;"),
            "{text}"
        );
        assert_eq!(active(&text, "app", &backends()), Some("127.0.0.1:2"));
        assert_eq!(active(TEXT, "app", &backends()), Some("127.0.0.1:1"));
        assert_eq!(weigh(TEXT, "none", "a", "b", 1), None);
        assert_eq!(active(TEXT, "ap", &backends()), None);
    }

    #[test]
    fn a_backend_that_is_not_listed_is_added() {
        let text = weigh("upstream a {\n}\n", "a", "h:1", "h:2", 0).unwrap();
        assert_eq!(text, "upstream a {\n    server h:1 weight=100;\n    server h:2 down;\n}\n");
    }

    #[test]
    fn a_request_that_went_to_the_next_backend_counts_for_both() {
        let log = "h:1|200\nh:2|502\nh:2, h:1|500, 200\nh:2|-\nnonsense\nh:2|404\nh:1 : h:2|200 : 200\n";
        assert_eq!(count(log, "h:2"), (5, 3));
        assert_eq!(count(log, "h:1"), (3, 0));
        assert_eq!(count("", "h:1"), (0, 0));
    }
}
