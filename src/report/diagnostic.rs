//! Findings of the language, drawn with the lines that they are about.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use pipelines::diagnostic::{Diagnostic, Severity};
use pipelines::source::{FileId, SourceMap, Span};
use serde_json::json;

/// All findings as text for people, each with its places; colours are left to the stream.
pub fn render(sources: &SourceMap, diagnostics: &[Diagnostic]) -> String {
    let renderer = Renderer::styled();
    diagnostics.iter().map(|d| format!("{}\n\n", renderer.render(&groups(sources, d)))).collect()
}

fn groups<'a>(sources: &'a SourceMap, diagnostic: &'a Diagnostic) -> Vec<annotate_snippets::Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code);
    let mut snippets: Vec<(FileId, Snippet<'a, annotate_snippets::Annotation<'a>>)> = Vec::new();
    for (i, (span, text)) in diagnostic.labels.iter().enumerate() {
        let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let label = (!text.is_empty()).then_some(text.as_str());
        let annotation = kind.span(shown(sources, *span)).label(label);
        match snippets.iter().position(|(file, _)| *file == span.file) {
            Some(at) => {
                let (file, snippet) = snippets.swap_remove(at);
                snippets.insert(at.min(snippets.len()), (file, snippet.annotation(annotation)));
            }
            None => {
                let file = sources.file(span.file);
                let snippet = Snippet::source(&*file.text).path(file.name.as_str()).fold(true);
                snippets.push((span.file, snippet.annotation(annotation)));
            }
        }
    }
    let mut group = title.elements(snippets.into_iter().map(|(_, s)| s));
    for from in included_from(sources, diagnostic) {
        group = group.element(Level::NOTE.message(from));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    vec![group]
}

/// The span's first line: a finding about a whole job need not draw the whole job.
fn shown(sources: &SourceMap, span: Span) -> std::ops::Range<usize> {
    let text = &sources.file(span.file).text;
    let start = (span.start as usize).min(text.len());
    let end = (span.end as usize).clamp(start, text.len());
    let line_end = text[start..end].find('\n').map_or(end, |i| start + i);
    start..line_end
}

fn included_from(sources: &SourceMap, diagnostic: &Diagnostic) -> Vec<String> {
    let Some((span, _)) = diagnostic.labels.first() else { return Vec::new() };
    let mut lines = Vec::new();
    let mut file = span.file;
    while let Some(from) = sources.file(file).included_from {
        let name = &sources.file(from.file).name;
        lines.push(format!(
            "`{}` is included from {name}:{}",
            sources.file(file).name,
            sources.position(from).line
        ));
        file = from.file;
    }
    lines
}

/// All findings for machines: `[{code, severity, message, file, line, column, help, places}]`.
pub fn to_json(sources: &SourceMap, diagnostics: &[Diagnostic]) -> serde_json::Value {
    let place = |(span, text): &(Span, String)| {
        let at = sources.position(*span);
        json!({"file": sources.file(span.file).name, "line": at.line, "column": at.column, "text": text})
    };
    let one = |d: &Diagnostic| {
        let first = d.labels.first().map(place).unwrap_or_default();
        json!({
            "code": d.code, "severity": d.severity, "message": d.message,
            "file": first["file"], "line": first["line"], "column": first["column"],
            "help": d.help, "places": d.labels.iter().map(place).collect::<Vec<_>>(),
        })
    };
    diagnostics.iter().map(one).collect()
}
