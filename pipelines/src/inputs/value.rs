//! What an input is worth: given, or else its default, checked against type, options and pattern.

use super::header::{Header, Input, Kind, Rule};
use super::{Finding, joined};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::expression::Regexp;
use crate::source::Span;
use crate::yaml::{self, Entry, Key, Mapping, Node, Text, Value};
use indexmap::IndexMap;
use std::sync::Arc;

/// Levels and values of one given input.
const MAX_DEPTH: usize = 100;
const MAX_NODES: usize = 500_000;

/// Values given to a file, by name.
pub(crate) type Given = IndexMap<Arc<str>, Node>;
/// The values of a file's inputs.
pub(crate) type Values = IndexMap<Arc<str>, Node>;

/// Values that came as text, from outside of any file.
pub(crate) fn from_texts(texts: &IndexMap<String, String>, span: Span) -> Given {
    texts.iter().map(|(name, text)| (Arc::from(name.as_str()), Node::string(text.as_str(), span))).collect()
}

/// Gives every declared input its value. `lookup` serves the `if` of input rules.
///
/// # Errors
/// GitLab's messages for unknown, missing and wrong values, joined.
pub(crate) fn resolve(
    header: &Header,
    given: &Given,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Values, Diagnostic> {
    let mut findings = Vec::new();
    let known = |name: &str| header.inputs.iter().any(|input| *input.name == *name);
    let unknown: Vec<_> = given.iter().filter(|(name, _)| !known(name)).collect();
    if let Some((first, node)) = unknown.first() {
        let names: Vec<&str> = unknown.iter().map(|(name, _)| &***name).collect();
        findings.push(Finding::new(format!("unknown input arguments: {}", names.join(", ")), node.span));
        let near = did_you_mean(first, header.inputs.iter().map(|input| &*input.name));
        if let (1, Some(near)) = (findings.len(), near) {
            return Err(joined("input", &findings).help(format!("did you mean `{near}`?")));
        }
    }
    let mut values = Values::new();
    // rules may look at any other input that has none itself
    let (plain, ruled): (Vec<_>, Vec<_>) = header.inputs.iter().partition(|input| input.rules.is_empty());
    for input in plain.into_iter().chain(ruled) {
        let chosen = choose(input, &values, lookup);
        let mut check = Check { input: &chosen, findings: &mut findings };
        if let Some(value) = check.value(given.get(&input.name)) {
            values.insert(input.name.clone(), value);
        }
    }
    if findings.is_empty() { Ok(values) } else { Err(joined("input", &findings)) }
}

/// The input with the options and the default of its first rule that holds.
fn choose(input: &Input, values: &Values, lookup: &dyn Fn(&str) -> Option<String>) -> Input {
    let value = |name: &str| values.get(name).map(Node::to_json);
    let holds = |rule: &&Rule| rule.condition.as_ref().is_none_or(|c| c.holds_with_inputs(lookup, &value));
    match input.rules.iter().find(holds) {
        Some(rule) => Input { options: rule.options.clone(), default: rule.default.clone(), ..input.clone() },
        None => input.clone(),
    }
}

struct Check<'a> {
    input: &'a Input,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn value(&mut self, given: Option<&Node>) -> Option<Node> {
        let before = self.findings.len();
        let given = given.filter(|node| !node.is_null()).map(|node| self.input.kind.read(node));
        let default = self.input.default.as_ref().map(|node| self.input.kind.coerce(node));
        if given.is_none() && default.is_none() {
            self.error("required value has not been provided", self.input.span);
            return None;
        }
        if let Some(default) = &default {
            self.check(default, "default");
        }
        if let Some(given) = &given {
            self.check(given, "provided");
        }
        given.or(default).filter(|_| self.findings.len() == before)
    }

    fn error(&mut self, message: impl std::fmt::Display, span: Span) {
        self.findings.push(Finding::new(format!("`{}` input: {message}", self.input.name), span));
    }

    fn check(&mut self, value: &Node, which: &str) {
        if !is_bounded(value) {
            self.findings.push(Finding::new("The parsed YAML is too big", value.span));
            return;
        }
        let (fits, kind) = match self.input.kind {
            Kind::String => (value.as_str().is_some(), "a string"),
            Kind::Number => (matches!(value.value, Value::Integer(_) | Value::Float(_)), "a number"),
            Kind::Boolean => (matches!(value.value, Value::Bool(_)), "a boolean"),
            Kind::Array => (value.as_sequence().is_some(), "an array"),
        };
        if !fits {
            self.error(format_args!("{which} value is not {kind}"), value.span);
        }
        self.check_options(value);
        self.check_regex(value, which);
    }

    fn check_options(&mut self, value: &Node) {
        let Some(options) = self.input.options.as_ref().and_then(Node::as_sequence) else { return };
        let (allowed, list) = match self.input.kind {
            Kind::String => {
                (options.iter().any(|option| yaml::text(option) == yaml::text(value)), "allowed options")
            }
            Kind::Number => (options.iter().any(|option| same_number(option, value)), "the allowed options"),
            Kind::Boolean | Kind::Array => {
                return self.error("Options can only be used with string and number inputs", value.span);
            }
        };
        if !allowed {
            let shown = yaml::text(value);
            self.error(
                format_args!("`{shown}` cannot be used because it is not in the list of {list}"),
                value.span,
            );
        }
    }

    fn check_regex(&mut self, value: &Node, which: &str) {
        let Some(pattern) = self.input.regex.clone() else { return };
        if self.input.kind != Kind::String {
            return self.error("RegEx validation can only be used with string inputs", pattern.span);
        }
        match (pattern.as_str().map(|pattern| Regexp::new(pattern, "")), value.as_str()) {
            (Some(Ok(regexp)), Some(text)) if regexp.is_match(text) => {}
            (Some(Ok(_)), _) => {
                self.error(format_args!("{which} value does not match required RegEx pattern"), value.span);
            }
            _ => self.error("invalid regular expression", pattern.span),
        }
    }
}

impl Kind {
    /// A given value. Text for another type is read as JSON; what is no JSON stays text and fails the check.
    fn read(self, node: &Node) -> Node {
        match (self, node.as_str()) {
            (Kind::String, _) | (_, None) => self.coerce(node),
            (_, Some(text)) => match serde_json::from_str(text) {
                Ok(json) => from_json(&json, node.span),
                Err(_) => node.clone(),
            },
        }
    }

    /// For a text input everything becomes text.
    fn coerce(self, node: &Node) -> Node {
        match &node.value {
            Value::String(text) if text.symbol => Node::string(text.text.clone(), node.span),
            Value::String(_) => node.clone(),
            _ if self == Kind::String && is_bounded(node) => Node::string(yaml::text(node), node.span),
            _ => node.clone(),
        }
    }
}

fn same_number(a: &Node, b: &Node) -> bool {
    let number = |node: &Node| match node.value {
        Value::Integer(i) => Some(i as f64),
        Value::Float(f) => Some(f),
        _ => None,
    };
    number(a).is_some_and(|a| number(b) == Some(a))
}

/// Is the value small enough to be inserted wherever its block stands? Sharing hides how large it really is.
fn is_bounded(node: &Node) -> bool {
    let mut open = vec![(node, 1)];
    let mut count = 0;
    while let Some((node, depth)) = open.pop() {
        count += 1;
        if depth > MAX_DEPTH || count > MAX_NODES {
            return false;
        }
        match &node.value {
            Value::Sequence(items) | Value::Reference(items) => {
                open.extend(items.iter().map(|n| (n, depth + 1)))
            }
            Value::Mapping(mapping) => open.extend(mapping.iter().map(|(_, e)| (&e.node, depth + 1))),
            _ => {}
        }
    }
    true
}

fn from_json(json: &serde_json::Value, span: Span) -> Node {
    use serde_json::Value as Json;
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Value::Integer(i),
            (None, Some(f)) => Value::Float(f),
            (None, None) => Value::String(Text { text: Arc::from(n.to_string()), symbol: false }),
        },
        Json::String(text) => Value::String(Text { text: Arc::from(text.as_str()), symbol: false }),
        Json::Array(items) => {
            Value::Sequence(Arc::new(items.iter().map(|item| from_json(item, span)).collect()))
        }
        Json::Object(members) => {
            let entry = |json| Entry { key_span: span, node: from_json(json, span) };
            let entries = members.iter().map(|(key, json)| (Key::from(key.as_str()), entry(json))).collect();
            Value::Mapping(Arc::new(Mapping { entries }))
        }
    };
    Node::new(value, span)
}
