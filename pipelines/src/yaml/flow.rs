//! Where saphyr is more lenient than libyaml, which GitLab uses: scalars inside brackets.

use super::document::{Failure, Piece};
use crate::source::Span;
use saphyr_parser::ScalarStyle;

/// What a `:` in a plain scalar must not stand before.
const INDICATORS: [char; 6] = [',', '?', '[', ']', '{', '}'];

/// Refuses what libyaml refuses; the errors name its reason.
pub(super) fn check_scalar(
    piece: &Piece<'_>,
    span: Span,
    style: ScalarStyle,
    is_key: bool,
) -> Result<(), Failure> {
    let (start, end) = (span.start as usize, span.end as usize);
    let local = |at: usize| at.saturating_sub(piece.start).min(piece.text.len());
    let raw = piece.text.get(local(start)..local(end)).unwrap_or_default();
    if raw.is_empty() {
        return Ok(());
    }
    let rest = piece.text.get(local(end)..).unwrap_or_default();
    let blank = rest.len() - rest.trim_start().len();
    let colon = rest.trim_start().strip_prefix(':');
    if style == ScalarStyle::Plain {
        if raw.starts_with(':') {
            return refused("did not find expected node content while parsing a flow node", start, start + 1);
        }
        let inside = raw.char_indices().filter(|(_, c)| *c == ':').map(|(i, _)| i);
        let inside = inside.filter(|i| next_is_indicator(raw.get(i + 1..).filter(|text| !text.is_empty())));
        let unexpected = inside.map(|i| start + i).next().or_else(|| {
            let at_end = raw.ends_with(':') && next_is_indicator(Some(rest));
            at_end.then(|| end - 1).or_else(|| next_is_indicator(colon).then_some(end + blank))
        });
        if let Some(at) = unexpected {
            return refused("found unexpected ':' while scanning a plain scalar", at, at + 1);
        }
    }
    let before = piece.text.get(..local(start)).unwrap_or_default().trim_end();
    let lines = raw.contains('\n') || rest.get(..blank).unwrap_or_default().contains('\n');
    if is_key && colon.is_some() && lines && !before.ends_with('?') {
        return refused(
            "did not find expected ',' or '}' while parsing a flow mapping: a key has to be on one line",
            start,
            end,
        );
    }
    Ok(())
}

fn next_is_indicator(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.starts_with(INDICATORS))
}

fn refused(message: &str, start: usize, end: usize) -> Result<(), Failure> {
    let help = Some("inside brackets, quote texts with a `:` at their beginning or end");
    let help = if message.starts_with("did not find expected ','") { None } else { help };
    Err(Failure { code: "yaml-syntax", message: message.to_owned(), start, end, repaired: None, help })
}
