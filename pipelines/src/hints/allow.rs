//! `# ci-lint: allow CODE, CODE`, on the line of a finding or in the comments just above it.

use crate::diagnostic::Diagnostic;
use crate::source::SourceMap;

/// Does a comment at the main place of a warning allow it? Errors can't be allowed.
pub fn is_allowed(diagnostic: &Diagnostic, sources: &SourceMap) -> bool {
    let Some((span, _)) = diagnostic.labels.first().filter(|_| !diagnostic.is_error()) else { return false };
    let text = &sources.file(span.file).text;
    let start = (span.start as usize).min(text.len());
    let line_start = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |i| i + 1);
    let (above, from) = text.split_at(line_start);
    let comments = above.lines().rev().take_while(|line| line.trim_start().starts_with('#'));
    from.lines().next().into_iter().chain(comments).any(|line| allows(line, diagnostic.code))
}

fn allows(line: &str, code: &str) -> bool {
    line.split('#').skip(1).any(|comment| {
        let list =
            comment.trim_start().strip_prefix("ci-lint:").and_then(|c| c.trim_start().strip_prefix("allow"));
        list.is_some_and(|list| list.split([',', ' ', '\t']).any(|word| word == code))
    })
}
