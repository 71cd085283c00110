//! `spec:inputs`: the header of a file, the values that its inputs get, and `$[[ ... ]]` blocks.

mod block;
mod function;
mod header;
mod interpolate;
mod value;

pub(crate) use header::{Header, Input, read_shared};
pub(crate) use interpolate::{Scope, interpolate};
pub(crate) use value::{Given, Values, from_texts, resolve};

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// One thing that is wrong with a header, an input or a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    message: String,
    span: Span,
}

impl Finding {
    fn new(message: impl Into<String>, span: Span) -> Finding {
        Finding { message: message.into(), span }
    }
}

/// GitLab joins the first three different messages into one; each keeps its place.
fn joined(code: &'static str, findings: &[Finding]) -> Diagnostic {
    let mut messages: Vec<&str> = Vec::new();
    for finding in findings {
        if !messages.contains(&finding.message.as_str()) {
            messages.push(&finding.message);
        }
    }
    messages.truncate(3);
    let shown = findings.iter().filter(|finding| messages.contains(&finding.message.as_str()));
    let single = messages.len() == 1;
    shown.fold(Diagnostic::error(code, messages.join(", ")), |diagnostic, finding| {
        diagnostic.at(finding.span, if single { "" } else { &finding.message })
    })
}
