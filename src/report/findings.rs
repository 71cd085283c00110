//! Findings in the forms that other programs read: SARIF 2.1.0 and GitLab's code quality report.

use pipelines::diagnostic::{Diagnostic, Severity};
use pipelines::source::{SourceMap, Span};
use serde_json::{Value as Json, json};
use std::collections::{BTreeSet, HashMap};

use super::explain;

/// What was looked at: the findings with their files, and the file that stands for those without a place.
pub struct Findings<'a> {
    /// The files.
    pub sources: &'a SourceMap,
    /// What was found.
    pub diagnostics: &'a [Diagnostic],
    /// The root file's path.
    pub file: &'a str,
}

impl Findings<'_> {
    /// A SARIF log with one run.
    pub fn sarif(&self) -> Json {
        let codes: BTreeSet<&str> = self.diagnostics.iter().map(|d| d.code).collect();
        let rule = |code: &&str| {
            let page = explain::page(code);
            let summary = page.map_or(*code, |page| page.summary());
            json!({"id": code, "shortDescription": {"text": summary}, "help": {"text": page.map_or(summary, |p| p.text)}})
        };
        let result = |d: &Diagnostic| {
            let message = d.help.as_ref().map_or(d.message.clone(), |help| format!("{}\n{help}", d.message));
            let related = d.labels.iter().skip(1).map(|(span, text)| {
                let mut location = self.location(Some(*span));
                if !text.is_empty() {
                    location["message"] = json!({"text": text});
                }
                location
            });
            let mut result = json!({
                "ruleId": d.code,
                "ruleIndex": codes.iter().position(|code| *code == d.code),
                "level": if d.is_error() { "error" } else { "warning" },
                "message": {"text": message},
                "locations": [self.location(d.labels.first().map(|(span, _)| *span))],
            });
            let related: Vec<Json> = related.collect();
            if !related.is_empty() {
                result["relatedLocations"] = related.into();
            }
            result
        };
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "ci lint",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": codes.iter().map(rule).collect::<Vec<_>>(),
                }},
                "columnKind": "unicodeCodePoints",
                "results": self.diagnostics.iter().map(result).collect::<Vec<_>>(),
            }],
        })
    }

    fn location(&self, span: Option<Span>) -> Json {
        let Some(span) = span else {
            return json!({"physicalLocation": {"artifactLocation": {"uri": uri(self.file)}}});
        };
        let start = self.sources.position(span);
        let end = self.sources.position(Span { start: span.end, ..span });
        json!({"physicalLocation": {
            "artifactLocation": {"uri": uri(&self.sources.file(span.file).name)},
            "region": {
                "startLine": start.line, "startColumn": start.column,
                "endLine": end.line, "endColumn": end.column,
            },
        }})
    }

    /// GitLab's code quality report: a list of issues. Fingerprints do not depend on line numbers, so that a finding
    /// stays the same one when lines are added above it.
    pub fn code_quality(&self) -> Json {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let issue = |d: &Diagnostic| {
            let (path, line) = match d.labels.first() {
                Some((span, _)) => {
                    (self.sources.file(span.file).name.as_str(), self.sources.position(*span).line)
                }
                None => (self.file, 1),
            };
            let identity = format!("{path}\0{}\0{}", d.code, d.message);
            let count = seen.entry(identity.clone()).or_default();
            *count += 1;
            json!({
                "description": d.message,
                "check_name": d.code,
                "fingerprint": crate::digest::sha256_hex(format!("{identity}\0{count}").as_bytes()),
                "severity": if d.severity == Severity::Error { "critical" } else { "minor" },
                "location": {"path": path, "lines": {"begin": line}},
            })
        };
        self.diagnostics.iter().map(issue).collect()
    }
}

/// A path as a relative reference; addresses stay as they are.
fn uri(name: &str) -> String {
    if name.contains("://") {
        return name.to_owned();
    }
    let mut uri = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> (SourceMap, Vec<Diagnostic>) {
        let mut sources = SourceMap::new();
        let file = sources.add("ci/a b.yml", "é: x\nj:\n  scirpt: y\n", None);
        let at = |start, end| Span::new(file, start, end);
        let found = vec![
            Diagnostic::error("unknown-key", "unknown")
                .at(at(11, 17), "here")
                .at(at(0, 2), "there")
                .help("do it"),
            Diagnostic::hint("duplicate-key", "twice").at(at(6, 7), ""),
            Diagnostic::hint("duplicate-key", "twice").at(at(11, 12), ""),
            Diagnostic::error("config-empty", "empty"),
        ];
        (sources, found)
    }

    #[test]
    fn sarif_has_rules_places_and_levels() {
        let (sources, diagnostics) = sources();
        let log = Findings { sources: &sources, diagnostics: &diagnostics, file: ".gitlab-ci.yml" }.sarif();
        let run = &log["runs"][0];
        let rules: Vec<_> = run["tool"]["driver"]["rules"]
            .as_array()
            .expect("rules")
            .iter()
            .map(|r| r["id"].as_str())
            .collect();
        assert_eq!(rules, [Some("config-empty"), Some("duplicate-key"), Some("unknown-key")]);
        let first = &run["results"][0];
        assert_eq!((&first["ruleIndex"], &first["level"]), (&json!(2), &json!("error")));
        assert_eq!(first["message"]["text"], "unknown\ndo it");
        let place = &first["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "ci/a%20b.yml");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 3, "endLine": 3, "endColumn": 9}));
        assert_eq!(first["relatedLocations"][0]["physicalLocation"]["region"]["endColumn"], 2);
        let without = &run["results"][3]["locations"][0]["physicalLocation"];
        assert_eq!(without["artifactLocation"]["uri"], ".gitlab-ci.yml");
    }

    #[test]
    fn issues_have_fingerprints_of_their_own() {
        let (sources, diagnostics) = sources();
        let report =
            Findings { sources: &sources, diagnostics: &diagnostics, file: ".gitlab-ci.yml" }.code_quality();
        let issues = report.as_array().expect("a list");
        let prints: BTreeSet<_> = issues.iter().map(|i| i["fingerprint"].as_str()).collect();
        assert_eq!(prints.len(), 4);
        assert_eq!(issues[1]["location"], json!({"path": "ci/a b.yml", "lines": {"begin": 2}}));
        assert_eq!((&issues[0]["severity"], &issues[1]["severity"]), (&json!("critical"), &json!("minor")));
        assert_eq!(issues[3]["location"]["path"], ".gitlab-ci.yml");
    }
}
