//! Where saphyr is stricter than libyaml, which GitLab uses. YAML 1.2 wants the inside of flow collections and quoted
//! scalars indented, and no tabs before it; for libyaml white space there means nothing. So what saphyr refuses for
//! these reasons alone gets the spaces that it wants, and is parsed once more.

use super::document::Piece;

/// More than any indentation that a person writes.
const INDENT: usize = 200;

/// The piece with the fault at a character repaired; none when GitLab would refuse it as well.
pub(super) fn repair(
    piece: &Piece<'_>,
    message: &str,
    at: usize,
    in_flow: bool,
) -> Option<(String, Vec<u32>)> {
    let chars: Vec<char> = piece.parsed().chars().collect();
    let offset = |i: usize| piece.local_byte(i) as u32;
    let mut tabs = Vec::new();
    let mut indented = Vec::new();
    match message {
        "invalid indentation" | "invalid indentation in flow construct" => {
            indented.push(line_start(&chars, at))
        }
        "invalid indentation in quoted scalar" => indented = inner_lines(&chars, at),
        "':' must be followed by a valid YAML whitespace" => tabs = tabs_before(&chars, at),
        "tabs disallowed within this context (block indentation)" | "tabs disallowed in this context"
            if in_flow =>
        {
            tabs = tabs_before(&chars, at);
            tabs.extend(tabs_before(&chars, at + 1));
        }
        _ => return None,
    }
    if indented.is_empty() && tabs.is_empty() {
        return None;
    }
    let (mut text, mut offsets) = (String::with_capacity(chars.len()), Vec::with_capacity(chars.len()));
    for (i, c) in chars.iter().enumerate() {
        if indented.contains(&i) {
            text.extend(std::iter::repeat_n(' ', INDENT));
            offsets.extend(std::iter::repeat_n(offset(i), INDENT));
        }
        text.push(if tabs.contains(&i) { ' ' } else { *c });
        offsets.push(offset(i));
    }
    Some((text, offsets))
}

fn line_start(chars: &[char], at: usize) -> usize {
    let at = at.min(chars.len());
    chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1)
}

/// Tabs of the white space that ends before a character.
fn tabs_before(chars: &[char], at: usize) -> Vec<usize> {
    let at = at.min(chars.len());
    (0..at).rev().take_while(|&i| matches!(chars[i], ' ' | '\t')).filter(|&i| chars[i] == '\t').collect()
}

/// Starts of the lines inside the quoted scalar that starts at a character.
fn inner_lines(chars: &[char], at: usize) -> Vec<usize> {
    let Some(&quote) = chars.get(at).filter(|c| matches!(c, '"' | '\'')) else { return Vec::new() };
    let mut lines = Vec::new();
    let mut i = at + 1;
    while let Some(&c) = chars.get(i) {
        match c {
            '\\' if quote == '"' && chars.get(i + 1) != Some(&'\n') => i += 1,
            '\n' => lines.push(i + 1),
            '\'' if quote == '\'' && chars.get(i + 1) == Some(&'\'') => i += 1,
            c if c == quote => break,
            _ => {}
        }
        i += 1;
    }
    lines
}
