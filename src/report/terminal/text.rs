//! Text for terminals: job output made safe, columns, durations.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A line of job output without whatever could move the cursor, change the terminal's state or turn the reading
/// direction. Colours stay with `keep_colours` and end with the line. A carriage return overwrites what stood
/// before it. None: the line was only a section marker.
pub(in crate::report) fn clean(line: &[u8], keep_colours: bool) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\r', '\n']);
    let last = line.rsplit_once('\r').map_or(line, |(_, last)| last);
    let text = strip(last, keep_colours);
    let marker = line.contains("section_start:") || line.contains("section_end:");
    if marker && strip(last, false).is_empty() { None } else { Some(text) }
}

/// A name or a message without control characters, on one line.
pub(in crate::report) fn plain(text: &str) -> String {
    strip(&text.replace('\n', " "), false)
}

fn strip(text: &str, keep_colours: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\x1b' => {
                let (sequence, after) = escape(rest);
                if keep_colours && is_colour(sequence) {
                    out.push('\x1b');
                    out.push_str(sequence);
                    coloured = true;
                }
                rest = after;
            }
            // the one-character form of ESC [
            '\u{9b}' => rest = control_sequence(rest).1,
            '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    out
}

/// What belongs to an escape sequence (without the ESC), and the rest.
fn escape(text: &str) -> (&str, &str) {
    match text.as_bytes().first() {
        Some(b'[') => {
            let end = 1 + control_sequence(&text[1..]).0.len();
            text.split_at(end)
        }
        // strings up to BEL or ESC \: titles, links, device controls
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = text.find(['\x07', '\x1b']).map_or(text.len(), |at| at + 1);
            let end = if text[end..].starts_with('\\') { end + 1 } else { end };
            text.split_at(end)
        }
        Some(_) => {
            let final_at = text.find(|c: char| !(' '..='/').contains(&c)).unwrap_or(text.len());
            let length = text[final_at..].chars().next().filter(char::is_ascii).map_or(0, char::len_utf8);
            text.split_at(final_at + length)
        }
        None => ("", ""),
    }
}

fn control_sequence(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(' '..='?').contains(&c));
    let length = end.map_or(text.len(), |at| {
        at + usize::from(('@'..='~').contains(&text[at..].chars().next().unwrap_or(' ')))
    });
    text.split_at(length)
}

fn is_colour(sequence: &str) -> bool {
    let parameters = sequence.strip_prefix('[').and_then(|s| s.strip_suffix('m'));
    parameters.is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':'))
}

/// Columns that the text takes. It must have no escape sequences.
pub(in crate::report) fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most `columns` columns; what is cut off leaves an ellipsis. Tabs become blanks.
pub(in crate::report) fn fit(text: &str, columns: usize) -> String {
    let text = text.replace('\t', "  ");
    if text.width() <= columns {
        return text;
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        // one column is for the ellipsis
        if used >= columns {
            break;
        }
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The text in exactly `columns` columns.
pub(in crate::report) fn pad(text: &str, columns: usize) -> String {
    let mut out = fit(text, columns);
    let missing = columns.saturating_sub(out.width());
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// `0.3s`, `59.9s`, `1m 05s`, `2h 00m`.
pub(in crate::report) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}.{}s", milliseconds % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// As [`duration`], in whole seconds: `5s`.
pub(super) fn rounded(milliseconds: u64) -> String {
    match milliseconds.div_ceil(1000) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => duration(seconds * 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn job_output_cannot_move_the_cursor() {
        let table: [(&str, Option<&str>, Option<&str>); 19] = [
            ("plain\n", Some("plain"), Some("plain")),
            ("crlf\r\n", Some("crlf"), Some("crlf")),
            ("10%\r20%\r100%", Some("100%"), Some("100%")),
            ("\x1b[32;1m$ ls\x1b[0;m", Some("$ ls"), Some("\x1b[32;1m$ ls\x1b[0;m\x1b[0m")),
            ("\x1b[31mred", Some("red"), Some("\x1b[31mred\x1b[0m")),
            ("up\x1b[2A\x1b[Kdown", Some("updown"), Some("updown")),
            ("\x1b[?25lhidden", Some("hidden"), Some("hidden")),
            ("\x1b]0;title\x07text", Some("text"), Some("text")),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", Some("link"), Some("link")),
            ("\x1bPq#0\x1b\\after", Some("after"), Some("after")),
            ("\x1b(Bcharset\x1bcreset", Some("charsetreset"), Some("charsetreset")),
            ("bell\x07 back\x08 tab\t.", Some("bell back tab\t."), Some("bell back tab\t.")),
            ("\u{9b}31mC1", Some("C1"), Some("C1")),
            ("cut off \x1b[31", Some("cut off "), Some("cut off ")),
            ("cut off \x1b", Some("cut off "), Some("cut off ")),
            ("right\u{202e}left", Some("rightleft"), Some("rightleft")),
            ("section_start:1:a\r\x1b[0K", None, None),
            ("section_start:1:a\r\x1b[0KHeader", Some("Header"), Some("Header")),
            ("section_end:1:a\r\x1b[0Ksection_start:2:b\r\x1b[0K$ x", Some("$ x"), Some("$ x")),
        ];
        for (line, bare, coloured) in table {
            assert_eq!(clean(line.as_bytes(), false).as_deref(), bare, "{line:?}");
            assert_eq!(clean(line.as_bytes(), true).as_deref(), coloured, "{line:?}");
        }
        assert_eq!(clean(b"bad \xff\xfe bytes", false).unwrap(), "bad \u{fffd}\u{fffd} bytes");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(fit("漢字かな", 8), "漢字かな");
        assert_eq!(fit("漢字かな", 7), "漢字か…");
        assert_eq!(fit("漢字かな", 6), "漢字…");
        assert_eq!(pad("漢字かな", 6), "漢字… ");
        assert_eq!(pad("ab", 4), "ab  ");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit("e\u{301}te\u{301}", 3), "e\u{301}te\u{301}");
        assert_eq!(fit("a\tb", 9), "a  b");
    }

    #[test]
    fn durations_are_short() {
        let table =
            [(0, "0.0s"), (349, "0.3s"), (59_999, "59.9s"), (65_000, "1m 05s"), (7_200_000, "2h 00m")];
        for (milliseconds, expected) in table {
            assert_eq!(duration(milliseconds), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_but_printable_text_is_left(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(text) = clean(&line, false) {
                prop_assert!(text.chars().all(|c| c == '\t' || !c.is_control()), "{text:?}");
            }
        }

        #[test]
        fn escape_soup_is_taken_without_panic(line in "[\\x1b\\[\\];0-9mKA\\\\\\x07é漢 \r]{0,30}") {
            let text = clean(line.as_bytes(), true).unwrap_or_default();
            let bare = clean(text.as_bytes(), false).unwrap_or_default();
            prop_assert!(bare.chars().all(|c| !c.is_control()));
        }

        #[test]
        fn padded_text_has_exactly_its_columns(text in "\\PC{0,20}", columns in 0usize..30) {
            prop_assert_eq!(width(&pad(&text, columns)), columns);
        }
    }
}
