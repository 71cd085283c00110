//! The entries of one `include`, in GitLab's order of steps: normalise, filter by rules, expand lists and
//! wildcards, expand variables, find the kind.

use super::loader::{Loader, Origin};
use super::wildcard;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::inputs::Given;
use crate::source::Span;
use crate::variables::{Unknown, expand};
use crate::yaml::{self, Entry, Key, Mapping, Node, Value};
use std::sync::Arc;

/// Kinds of includes, in the order in which GitLab names them.
pub(super) const SUBKEYS: [&str; 6] = ["local", "project", "remote", "template", "artifact", "component"];

/// One file to bring in.
#[derive(Clone, Debug)]
pub(super) struct Location {
    pub(super) kind: Kind,
    /// The file, path or address, as messages name it.
    pub(super) name: String,
    /// Values for the file's inputs.
    pub(super) inputs: Given,
    /// The entry.
    pub(super) span: Span,
}

/// Where the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    Project { project: String, reference: Option<String> },
    Remote { integrity: Option<String> },
    Template,
    Artifact,
    Component,
}

impl Loader<'_> {
    /// The files that an `include` (or `spec:include`) means here and now.
    ///
    /// # Errors
    /// The first entry that is not well formed.
    pub(super) fn locations(&self, include: &Node, origin: &Origin) -> Result<Vec<Location>, Diagnostic> {
        let items = match &include.value {
            Value::Null => &[],
            Value::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(include),
        };
        let entries = items.iter().map(|item| self.normalise(item, origin)).collect::<Result<Vec<_>, _>>()?;
        let mut passed = Vec::new();
        for (entry, span) in entries {
            let rules = entry.get("rules").filter(|rules| !rules.is_null());
            if rules.map_or(Ok(true), |rules| self.rules_pass(rules, origin))? {
                passed.push((entry, span));
            }
        }
        let mut locations = Vec::new();
        for (entry, span) in passed {
            for entry in self.spread(entry, span, origin)? {
                locations.push((self.expand_entry(&entry, origin), span));
            }
        }
        locations.iter().map(|(entry, span)| self.matched(entry, *span)).collect()
    }

    fn normalise(&self, item: &Node, origin: &Origin) -> Result<(Arc<Mapping>, Span), Diagnostic> {
        match &item.value {
            Value::Mapping(mapping) => Ok((mapping.clone(), item.span)),
            Value::String(text) => {
                let text = self.expand_text(&text.text, origin);
                let key =
                    if is_address(&text, &["http", "https", "ssh", "git"]) { "remote" } else { "local" };
                let node = Node::string(text, item.span);
                let mut mapping = Mapping::default();
                mapping.entries.insert(Key::from(key), Entry { key_span: item.span, node });
                Ok((Arc::new(mapping), item.span))
            }
            _ => Err(Diagnostic::error("include-kind", "Each include must be a hash or a string")
                .at(item.span, "")),
        }
    }

    /// One entry for each of a project's files, or for each file that a wildcard finds.
    fn spread(
        &self,
        entry: Arc<Mapping>,
        span: Span,
        origin: &Origin,
    ) -> Result<Vec<Arc<Mapping>>, Diagnostic> {
        let with = |key: &str, node: Node| {
            let mut copy = (*entry).clone();
            copy.entries.insert(Key::from(key), Entry { key_span: node.span, node });
            Arc::new(copy)
        };
        if entry.get("project").is_some_and(is_present) {
            return Ok(match entry.get("file") {
                Some(Node { value: Value::Sequence(items), .. }) => {
                    items.iter().map(|item| with("file", item.clone())).collect()
                }
                // no file, no include: what is wrong is said when the entry proves unused
                None | Some(Node { value: Value::Null, .. }) => Vec::new(),
                Some(_) => vec![entry],
            });
        }
        let Some(pattern) = entry.get("local").and_then(Node::as_str).filter(|path| path.contains('*'))
        else {
            return Ok(vec![entry]);
        };
        match origin {
            Origin::Own => Ok(wildcard::matching(pattern, self.files.paths())
                .into_iter()
                .map(|path| with("local", Node::string(path.as_str(), span)))
                .collect()),
            Origin::Project { project, sha } => {
                let paths = self.files.list(project, sha.as_deref()).map_err(|error| {
                    let message = format!("the files of `{project}` can't be listed: {error}");
                    Diagnostic::error("include-file", message).at(span, "")
                })?;
                Ok(wildcard::matching(pattern, &paths)
                    .into_iter()
                    .map(|path| with("local", Node::string(path.as_str(), span)))
                    .collect())
            }
            Origin::Nowhere => Ok(vec![entry]),
        }
    }

    /// Variables in all texts but those of inputs, which are passed on as they are.
    fn expand_entry(&self, entry: &Mapping, origin: &Origin) -> Mapping {
        let mut expanded = entry.clone();
        for (key, entry) in &mut expanded.entries {
            if !matches!(key, Key::String(name) if matches!(&**name, "inputs" | "rules")) {
                entry.node = self.expand_node(&entry.node, origin);
            }
        }
        expanded
    }

    fn expand_node(&self, node: &Node, origin: &Origin) -> Node {
        let value = match &node.value {
            Value::String(text) => return Node::string(self.expand_text(&text.text, origin), node.span),
            Value::Sequence(items) => {
                Value::Sequence(Arc::new(items.iter().map(|item| self.expand_node(item, origin)).collect()))
            }
            other => other.clone(),
        };
        Node::new(value, node.span)
    }

    fn expand_text(&self, text: &str, origin: &Origin) -> String {
        expand(text, Unknown::Remove, &|name| self.variable(name, origin))
    }

    fn matched(&self, entry: &Mapping, span: Span) -> Result<Location, Diagnostic> {
        let present = |key: &str| entry.get(key).filter(|node| is_present(node));
        let kinds: Vec<&str> = SUBKEYS
            .into_iter()
            .filter(|key| present(key).is_some() && (*key != "project" || present("file").is_some()))
            .collect();
        let all = SUBKEYS.join("`, `");
        let [kind] = kinds[..] else {
            let message = if kinds.is_empty() {
                let shown = self.masked(&json(entry));
                format!("`{shown}` does not have a valid subkey for include. Valid subkeys are: `{all}`")
            } else {
                format!("Each include must use only one of: `{all}`")
            };
            let diagnostic = Diagnostic::error("include-kind", message).at(span, "");
            let near = entry.iter().find_map(|(key, _)| did_you_mean(&key.to_string(), SUBKEYS));
            return Err(match near.filter(|_| kinds.is_empty()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            });
        };
        let name = present(if kind == "project" { "file" } else { kind });
        let Some(text) = name.and_then(Node::as_str) else {
            let shown = name.map(yaml::text).unwrap_or_default();
            let message = format!("Included file `{}` needs to be a string", self.masked(&shown));
            return Err(Diagnostic::error("include-kind", message).at(span, ""));
        };
        Ok(Location { kind: kind_of(kind, entry), name: place(kind, text), inputs: given(entry)?, span })
    }
}

fn kind_of(kind: &str, entry: &Mapping) -> Kind {
    let text = |key: &str| entry.get(key).filter(|node| is_present(node)).map(yaml::text);
    match kind {
        "local" => Kind::Local,
        "project" => Kind::Project {
            project: text("project").unwrap_or_default().to_lowercase(),
            reference: text("ref").filter(|reference| reference != "HEAD"),
        },
        "remote" => Kind::Remote { integrity: text("integrity") },
        "template" => Kind::Template,
        "artifact" => Kind::Artifact,
        _ => Kind::Component,
    }
}

fn place(kind: &str, text: &str) -> String {
    match kind {
        "local" | "project" => text.trim_start_matches('/').to_owned(),
        _ => text.to_owned(),
    }
}

fn given(entry: &Mapping) -> Result<Given, Diagnostic> {
    match entry.get("inputs") {
        None | Some(Node { value: Value::Null, .. }) => Ok(Given::new()),
        Some(Node { value: Value::Mapping(inputs), .. }) => {
            Ok(inputs.iter().map(|(key, entry)| (Arc::from(key.to_string()), entry.node.clone())).collect())
        }
        Some(node) => {
            Err(Diagnostic::error("include-kind", "include:include inputs should be a hash")
                .at(node.span, ""))
        }
    }
}

/// Rails' `present?`.
pub(super) fn is_present(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.text.trim().is_empty(),
        Value::Sequence(items) => !items.is_empty(),
        Value::Mapping(mapping) => !mapping.is_empty(),
        _ => true,
    }
}

/// Has the text a scheme of these, and something behind it?
pub(super) fn is_address(text: &str, schemes: &[&str]) -> bool {
    text.trim().split_once("://").is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

/// As Rails writes JSON: compact, with the characters escaped that matter in HTML.
fn json(entry: &Mapping) -> String {
    let members = entry.iter().map(|(key, entry)| (key.to_string(), entry.node.to_json())).collect();
    let text = serde_json::Value::Object(members).to_string();
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}
