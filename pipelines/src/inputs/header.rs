//! The header document: `spec`, checked as GitLab's header entries do.

use super::{Finding, joined};
use crate::diagnostic::Diagnostic;
use crate::expression::{self, Expression};
use crate::source::Span;
use crate::yaml::{self, Key, Mapping, Node, Value};
use std::sync::Arc;

const MAX_OPTIONS: usize = 50;
const SPEC_KEYS: [&str; 4] = ["inputs", "include", "component", "description"];
const INPUT_KEYS: [&str; 6] = ["type", "default", "description", "options", "regex", "rules"];
const COMPONENT_KEYS: [&str; 4] = ["name", "sha", "version", "reference"];

/// A checked header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    /// Declared inputs, in order.
    pub(crate) inputs: Vec<Input>,
    /// `spec:include`, as written.
    pub(crate) include: Option<Node>,
    /// Keys of `$[[ component.x ]]` that the file asks for.
    pub(crate) component: Vec<Arc<str>>,
}

/// A declared input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: Arc<str>,
    /// Where the name stands.
    pub(crate) span: Span,
    pub(super) kind: Kind,
    /// None: the input is required. Null counts as a default.
    pub(super) default: Option<Node>,
    pub(super) options: Option<Node>,
    pub(super) regex: Option<Node>,
    pub(super) rules: Vec<Rule>,
}

/// `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    String,
    Number,
    Boolean,
    Array,
}

impl Kind {
    fn parse(text: &str) -> Option<Kind> {
        Some(match text {
            "string" => Kind::String,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "array" => Kind::Array,
            _ => return None,
        })
    }
}

/// One of an input's `rules`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// None: the fallback.
    pub(super) condition: Option<Expression>,
    pub(super) options: Option<Node>,
    pub(super) default: Option<Node>,
}

impl Header {
    /// Checks a header document.
    ///
    /// # Errors
    /// GitLab's messages for unknown keys and wrong types, joined.
    pub(crate) fn read(document: &Mapping) -> Result<Header, Diagnostic> {
        let mut findings = Vec::new();
        unknown_keys("header", document, &["spec"], &mut findings);
        let mut header = Header::default();
        if let Some(spec) = document.get("spec") {
            header.read_spec(spec, &mut findings);
        }
        if findings.is_empty() { Ok(header) } else { Err(joined("header", &findings)) }
    }

    fn read_spec(&mut self, spec: &Node, findings: &mut Vec<Finding>) {
        let Some(mapping) = mapping_or_null("header:spec", spec, findings) else { return };
        unknown_keys("header:spec", mapping, &SPEC_KEYS, findings);
        self.include = mapping.get("include").filter(|node| !node.is_null()).cloned();
        if let Some(component) = mapping.get("component") {
            self.read_component(component, findings);
        }
        if let Some(inputs) = mapping.get("inputs") {
            self.inputs = read_inputs(inputs, findings);
        }
    }

    fn read_component(&mut self, node: &Node, findings: &mut Vec<Finding>) {
        let Some(items) = node.as_sequence() else {
            findings
                .push(Finding::new("header:spec:component config should be an array of strings", node.span));
            return;
        };
        for item in items {
            match item.as_str() {
                Some(key) if COMPONENT_KEYS.contains(&key) => self.component.push(Arc::from(key)),
                _ => {
                    let message =
                        format!("header:spec:component config contains unknown values: {}", yaml::text(item));
                    findings.push(Finding::new(message, item.span));
                }
            }
        }
    }
}

/// Inputs of a mapping under `inputs`, also that of a file from `spec:include`.
pub(super) fn read_inputs(node: &Node, findings: &mut Vec<Finding>) -> Vec<Input> {
    let Some(mapping) = mapping_or_null("header:spec:inputs", node, findings) else { return Vec::new() };
    mapping.iter().map(|(key, entry)| read_input(key, entry.key_span, &entry.node, findings)).collect()
}

/// The inputs of a file named in `spec:include`, whose only key is `inputs`.
///
/// # Errors
/// Other keys, or what is wrong with the inputs.
pub(crate) fn read_shared(document: &Mapping) -> Result<Vec<Input>, Diagnostic> {
    let mut findings = Vec::new();
    unknown_keys("header:spec:include", document, &["inputs"], &mut findings);
    let inputs = document.get("inputs").map(|node| read_inputs(node, &mut findings)).unwrap_or_default();
    if findings.is_empty() { Ok(inputs) } else { Err(joined("header", &findings)) }
}

fn read_input(key: &Key, span: Span, node: &Node, findings: &mut Vec<Finding>) -> Input {
    let at = format!("header:spec:inputs:{key}").to_lowercase();
    let mut input = Input {
        name: Arc::from(key.to_string()),
        span,
        kind: Kind::default(),
        default: None,
        options: None,
        regex: None,
        rules: Vec::new(),
    };
    let Some(mapping) = mapping_or_null(&at, node, findings) else { return input };
    unknown_keys(&at, mapping, &INPUT_KEYS, findings);
    let given = |key: &str| mapping.get(key).filter(|node| !node.is_null());
    for key in ["description", "regex"] {
        if let Some(node) = given(key).filter(|node| node.as_str().is_none()) {
            findings.push(Finding::new(format!("{at} input {key} should be a string"), node.span));
        }
    }
    if let Some(kind) = given("type") {
        match kind.as_str().and_then(Kind::parse) {
            Some(kind) => input.kind = kind,
            None => {
                let message = format!("{at} input type unknown value: {}", yaml::text(kind)).to_lowercase();
                findings.push(Finding::new(message, kind.span));
            }
        }
    }
    check_options(&at, given("options"), findings);
    if let Some(rules) = given("rules") {
        for key in ["options", "default"] {
            if let Some(entry) = mapping.entry(key) {
                let message = format!("{at} config these keys cannot be used together: rules, {key}");
                findings.push(Finding::new(message, entry.key_span));
            }
        }
        input.rules = read_rules(&at, rules, findings);
    }
    input.default = mapping.get("default").cloned();
    input.options = given("options").cloned();
    input.regex = given("regex").cloned();
    input
}

fn check_options(at: &str, options: Option<&Node>, findings: &mut Vec<Finding>) {
    let Some(options) = options else { return };
    match options.as_sequence() {
        None => findings.push(Finding::new(format!("{at} input options should be an array"), options.span)),
        Some(items) if items.len() > MAX_OPTIONS => {
            let message = format!("{at} config cannot define more than {MAX_OPTIONS} options");
            findings.push(Finding::new(message, options.span));
        }
        Some(_) => {}
    }
}

fn read_rules(at: &str, node: &Node, findings: &mut Vec<Finding>) -> Vec<Rule> {
    let Some(items) = node.as_sequence() else {
        findings.push(Finding::new(format!("{at} input rules should be an array"), node.span));
        return Vec::new();
    };
    items.iter().filter_map(|item| read_rule(&format!("{at}:rules:rule"), item, findings)).collect()
}

fn read_rule(at: &str, item: &Node, findings: &mut Vec<Finding>) -> Option<Rule> {
    let Some(mapping) = item.as_mapping() else {
        findings.push(Finding::new(format!("{at} config should be a hash"), item.span));
        return None;
    };
    unknown_keys(at, mapping, &["if", "options", "default"], findings);
    let condition = mapping.get("if").and_then(|node| {
        let parsed = node.as_str().and_then(|text| expression::parse_with_inputs(text).ok());
        if parsed.is_none() {
            findings.push(Finding::new(format!("{at} if invalid expression syntax"), node.span));
        }
        parsed
    });
    let options = mapping.get("options").filter(|node| !node.is_null());
    check_options(at, options, findings);
    if mapping.get("if").is_none() && options.is_none() {
        findings.push(Finding::new(format!("{at} config without `if` must define options"), item.span));
    }
    Some(Rule { condition, options: options.cloned(), default: mapping.get("default").cloned() })
}

fn mapping_or_null<'a>(at: &str, node: &'a Node, findings: &mut Vec<Finding>) -> Option<&'a Mapping> {
    match &node.value {
        Value::Mapping(mapping) => Some(mapping),
        Value::Null => None,
        _ => {
            findings.push(Finding::new(format!("{at} config should be a hash"), node.span));
            None
        }
    }
}

fn unknown_keys(at: &str, mapping: &Mapping, known: &[&str], findings: &mut Vec<Finding>) {
    let unknown = |key: &&Key| !matches!(key, Key::String(name) if known.contains(&&**name));
    let keys: Vec<_> = mapping.iter().map(|(key, _)| key).filter(unknown).collect();
    if let Some(first) = keys.first() {
        let names: Vec<_> = keys.iter().map(ToString::to_string).collect();
        let message = format!("{at} config contains unknown keys: {}", names.join(", ")).to_lowercase();
        findings.push(Finding::new(message, mapping.entries[*first].key_span));
    }
}
