//! A line with ANSI sequences as safe HTML. Of the sequences only colours and styles (SGR) mean something; all others
//! are dropped: links, titles, movements of the cursor.

use std::iter::Peekable;
use std::str::Chars;

/// Colours and styles that hold at some place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    foreground: Option<u8>,
    background: Option<u8>,
    /// One bit for each of [`STYLES`].
    styles: u8,
}

const BOLD: u8 = 1;
const DIM: u8 = 2;
const STYLES: [(u8, &str); 5] =
    [(BOLD, "ansi-bold"), (DIM, "ansi-dim"), (4, "ansi-italic"), (8, "ansi-underline"), (16, "ansi-strike")];

/// The line as text and `<span class="…">`; `style` is what holds at its beginning, and then at its end.
pub fn html(line: &[u8], style: &mut Style) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len() + 16);
    let mut open = Style::default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => sequence(&mut chars, style),
            '\t' => show(&mut out, "\t", *style, &mut open),
            '&' => show(&mut out, "&amp;", *style, &mut open),
            '<' => show(&mut out, "&lt;", *style, &mut open),
            '>' => show(&mut out, "&gt;", *style, &mut open),
            '"' => show(&mut out, "&quot;", *style, &mut open),
            '\'' => show(&mut out, "&#39;", *style, &mut open),
            // would turn the text around and so show something else than there is
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                show(&mut out, "\u{fffd}", *style, &mut open)
            }
            c if c.is_control() => {}
            c => show(&mut out, c.encode_utf8(&mut [0; 4]), *style, &mut open),
        }
    }
    if open != Style::default() {
        out.push_str("</span>");
    }
    out
}

/// Appends text that is escaped already, in the span that it needs.
fn show(out: &mut String, text: &str, style: Style, open: &mut Style) {
    if style != *open {
        if *open != Style::default() {
            out.push_str("</span>");
        }
        if style != Style::default() {
            out.push_str("<span class=\"");
            out.push_str(&classes(style));
            out.push_str("\">");
        }
        *open = style;
    }
    out.push_str(text);
}

fn classes(style: Style) -> String {
    let mut classes: Vec<String> = STYLES
        .iter()
        .filter(|(bit, _)| style.styles & bit != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    classes.extend(style.foreground.map(|color| format!("ansi-fg-{color}")));
    classes.extend(style.background.map(|color| format!("ansi-bg-{color}")));
    classes.join(" ")
}

/// After ESC. A sequence that never ends takes the rest of the line with it.
fn sequence(chars: &mut Peekable<Chars<'_>>, style: &mut Style) {
    match chars.next() {
        Some('[') => {
            let mut parameters = String::new();
            for c in chars.by_ref() {
                match c {
                    '\x20'..='\x3f' if parameters.len() < 256 => parameters.push(c),
                    'm' => return set(&parameters, style),
                    '\x40'..='\x7e' => return,
                    _ => {}
                }
            }
        }
        // to BEL or ESC \
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        // a character set
        Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => {
            chars.next();
        }
        _ => {}
    }
}

fn set(parameters: &str, style: &mut Style) {
    let mut numbers = parameters.split([';', ':']).map(|number| number.parse::<u16>().unwrap_or(0));
    while let Some(number) = numbers.next() {
        match number {
            0 => *style = Style::default(),
            1 => style.styles |= BOLD,
            2 => style.styles |= DIM,
            3 => style.styles |= 4,
            4 => style.styles |= 8,
            9 => style.styles |= 16,
            22 => style.styles &= !(BOLD | DIM),
            23 => style.styles &= !4,
            24 => style.styles &= !8,
            29 => style.styles &= !16,
            30..=37 => style.foreground = Some((number - 30) as u8),
            38 => style.foreground = color(&mut numbers),
            39 => style.foreground = None,
            40..=47 => style.background = Some((number - 40) as u8),
            48 => style.background = color(&mut numbers),
            49 => style.background = None,
            90..=97 => style.foreground = Some((number - 90 + 8) as u8),
            100..=107 => style.background = Some((number - 100 + 8) as u8),
            _ => {}
        }
    }
}

/// `5;N` or `2;R;G;B`, as the nearest of the sixteen that have a class.
fn color(numbers: &mut dyn Iterator<Item = u16>) -> Option<u8> {
    let mut next = || numbers.next().map(|number| number.min(255) as u8);
    match next()? {
        5 => Some(match next()? {
            basic @ 0..=15 => basic,
            cube @ 16..=231 => {
                let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
                let cube = cube - 16;
                nearest([level(cube / 36), level(cube / 6 % 6), level(cube % 6)])
            }
            gray => nearest([8 + 10 * (gray - 232); 3]),
        }),
        2 => Some(nearest([next()?, next()?, next()?])),
        _ => None,
    }
}

fn nearest(color: [u8; 3]) -> u8 {
    let basic = |index: u8| -> [u8; 3] {
        let (off, on) = if index < 8 { (0, 170) } else { (85, 255) };
        [1, 2, 4].map(|bit| if index & bit != 0 { on } else { off })
    };
    let distance = |index: &u8| -> u32 {
        let pairs = basic(*index).into_iter().zip(color);
        pairs.map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    (0..16).min_by_key(distance).unwrap_or(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_styles_are_spans_and_the_rest_is_dropped() {
        let table: &[(&str, &str)] = &[
            ("plain", "plain"),
            ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#39;"),
            ("\x1b[31mred\x1b[0m.", "<span class=\"ansi-fg-1\">red</span>."),
            ("\x1b[1;32mok\x1b[m", "<span class=\"ansi-bold ansi-fg-2\">ok</span>"),
            ("\x1b[38;5;196mx", "<span class=\"ansi-fg-1\">x</span>"),
            ("\x1b[38;2;255;255;255;44mx", "<span class=\"ansi-fg-15 ansi-bg-4\">x</span>"),
            ("\x1b[97mx\x1b[39my", "<span class=\"ansi-fg-15\">x</span>y"),
            ("\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x1b\\.", "link."),
            ("\x1b[2J\x1b[10;10Ha\x1b[0Kb\x07\x08c", "abc"),
            ("a\x1b[", "a"),
            ("a\x1b]never ends<script>", "a"),
            ("\x1b(Bx", "x"),
            ("a\u{202e}b", "a\u{fffd}b"),
        ];
        for (line, expected) in table {
            assert_eq!(html(line.as_bytes(), &mut Style::default()), *expected, "{line:?}");
        }
    }

    #[test]
    fn nothing_of_a_line_becomes_markup() {
        use proptest::prelude::*;
        let pieces = prop_oneof![
            Just("\x1b[".to_owned()),
            Just("\x1b]8;;".to_owned()),
            Just("<script>".to_owned()),
            Just("\" onload=x".to_owned()),
            Just("&lt;".to_owned()),
            "[0-9;:]{0,12}m",
            "\\PC{0,6}",
            any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ];
        let span = regex::Regex::new(r#"^<span class="[a-z0-9 -]+">"#).unwrap();
        proptest!(|(parts in proptest::collection::vec(pieces, 0..24))| {
            let out = html(parts.concat().as_bytes(), &mut Style::default());
            let mut depth = 0i32;
            for (at, _) in out.match_indices('<') {
                let rest = &out[at..];
                if rest.starts_with("</span>") {
                    depth -= 1;
                } else {
                    prop_assert!(span.is_match(rest), "{rest}");
                    depth += 1;
                }
                prop_assert!((0..=1).contains(&depth));
            }
            prop_assert_eq!(depth, 0);
            prop_assert!(!out.contains(|c: char| c.is_control() && c != '\t'));
        });
    }
}
