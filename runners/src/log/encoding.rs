//! The forms in which a secret may turn up in a log.

use std::collections::BTreeSet;

/// Encoded forms shorter than this match too much that is no secret.
const SHORTEST_ENCODED: usize = 6;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The value itself, its lines when it has several, and what the usual encoders make of it.
pub(super) fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    if value.is_empty() {
        return forms;
    }
    let mut encoded = base64_forms(value);
    encoded.extend([hex(value, b"0123456789abcdef"), hex(value, b"0123456789ABCDEF")]);
    encoded.extend(url_forms(value));
    encoded.extend(json_forms(value));
    encoded.extend(shell_forms(value));
    forms.extend(encoded.into_iter().filter(|form| form.len() >= SHORTEST_ENCODED));
    let lines: Vec<&[u8]> = value.split(|byte| *byte == b'\n').collect();
    if lines.len() > 1 {
        let trimmed = lines.iter().map(|line| line.trim_ascii_end());
        forms.extend(trimmed.filter(|line| line.len() >= 8).map(<[u8]>::to_vec));
        forms.insert(value.trim_ascii_end().to_vec());
    }
    forms.insert(value.to_vec());
    forms.remove(&Vec::new());
    forms
}

/// Base64 of the value at each place that it can have in a triple of bytes, without the characters that depend
/// on its neighbours; and the whole, as `base64` prints it with line breaks.
fn base64_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for alphabet in [BASE64, BASE64_URL] {
        for shift in 0..3 {
            let mut shifted = vec![0; shift];
            shifted.extend_from_slice(value);
            let text = base64(&shifted, alphabet);
            let (first, last) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
            forms.push(text[first.min(last)..last].to_vec());
        }
        let whole = base64(value, alphabet);
        for width in [64, 76] {
            if whole.len() > width {
                forms.push(whole.chunks(width).collect::<Vec<_>>().join(&b'\n'));
            }
        }
        forms.push(whole);
    }
    forms
}

fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| chunk.get(i).copied().map_or(0, u32::from);
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            let index = (bits >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { alphabet[index as usize] } else { b'=' });
        }
    }
    out
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

/// Percent encoding with the usual sets of characters that stay, in both cases; a form's `+` for a space.
fn url_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        for keep in [&b"-_.~"[..], b"-_.~/", b"-_.!~*'()", b"-_.*"] {
            for plus in [false, true] {
                let mut out = Vec::new();
                for byte in value {
                    match byte {
                        b' ' if plus => out.push(b'+'),
                        _ if byte.is_ascii_alphanumeric() || keep.contains(byte) => out.push(*byte),
                        _ => {
                            out.push(b'%');
                            out.extend(hex(&[*byte], digits));
                        }
                    }
                }
                forms.push(out);
            }
        }
    }
    forms
}

/// The inside of a JSON string: plain, with `\/`, and with everything beyond ASCII escaped.
fn json_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(value) else { return Vec::new() };
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    let plain = quoted[1..quoted.len() - 1].to_owned();
    let mut ascii = String::new();
    for character in plain.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let html = ascii.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    vec![plain.replace('/', "\\/").into_bytes(), plain.into_bytes(), ascii.into_bytes(), html.into_bytes()]
}

/// As shells print words: inside single quotes, after backslashes (`printf %q`), inside double quotes, `$'...'`.
fn shell_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let escaped = |needs: &dyn Fn(u8) -> bool| {
        let mut out = Vec::new();
        for byte in value {
            if needs(*byte) {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out
    };
    let mut single = Vec::new();
    let mut double_quoted_single = Vec::new();
    let mut ansi = Vec::new();
    for byte in value {
        match byte {
            b'\'' => {
                single.extend(b"'\\''");
                double_quoted_single.extend(b"'\"'\"'");
                ansi.extend(b"\\'");
            }
            _ => {
                single.push(*byte);
                double_quoted_single.push(*byte);
                match byte {
                    b'\\' => ansi.extend(b"\\\\"),
                    b'\n' => ansi.extend(b"\\n"),
                    b'\t' => ansi.extend(b"\\t"),
                    b'\r' => ansi.extend(b"\\r"),
                    other => ansi.push(*other),
                }
            }
        }
    }
    let word = |byte: u8| !(byte.is_ascii_alphanumeric() || b"_-./:=+@%^".contains(&byte) || byte >= 0x80);
    vec![
        single,
        double_quoted_single,
        ansi,
        escaped(&word),
        escaped(&|byte| word(byte) || b"^".contains(&byte)),
        escaped(&|byte| b"\"\\$`".contains(&byte)),
        escaped(&|byte| b"\"\\$`!".contains(&byte)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes(), BASE64), expected.as_bytes());
        }
    }

    #[test]
    fn every_form_is_there() {
        let all = forms(b"pa/ss w'o\"rd");
        for expected in [
            "pa/ss w'o\"rd",
            "cGEvc3MgdydvInJk",
            "70612f737320",
            "pa%2Fss%20w%27o%22rd",
            "pa%2fss+w%27o%22rd",
            "pa/ss w'o\\\"rd",
            "pa\\/ss w'o\\\"rd",
            "pa/ss w'\\''o\"rd",
            "pa/ss\\ w\\'o\\\"rd",
        ] {
            let found =
                all.iter().any(|form| form.windows(expected.len()).any(|part| part == expected.as_bytes()));
            assert!(found, "{expected}");
        }
    }

    #[test]
    fn short_values_bring_no_short_forms() {
        assert_eq!(forms(b"ab").into_iter().collect::<Vec<_>>(), [b"ab".to_vec()]);
        assert!(forms(b"").is_empty());
    }
}
