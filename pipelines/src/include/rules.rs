//! `include:rules`: `if`, `changes`, `exists`, and `when` of `always` or `never`.

use super::loader::{Loader, Origin};
use crate::diagnostic::Diagnostic;
use crate::expression;
use crate::rules;
use crate::source::Span;
use crate::variables::Unknown;
use crate::yaml::{self, Key, Mapping, Node, Value};

const KEYS: [&str; 4] = ["if", "exists", "changes", "when"];
const MAX_PATHS: usize = 50;

impl Loader<'_> {
    /// Does an entry with these rules take part? The first rule that holds decides; none means no.
    ///
    /// # Errors
    /// The first thing that is wrong with the rules, whether they are reached or not.
    pub(super) fn rules_pass(&self, node: &Node, origin: &Origin) -> Result<bool, Diagnostic> {
        check(node)?;
        let rules = node.as_sequence().unwrap_or_default();
        for rule in rules.iter().filter_map(Node::as_mapping) {
            if self.rule_holds(rule, origin)? {
                return Ok(rule.get("when").and_then(Node::as_str) != Some("never"));
            }
        }
        Ok(false)
    }

    fn rule_holds(&self, rule: &Mapping, origin: &Origin) -> Result<bool, Diagnostic> {
        if let Some(condition) = rule.get("if").and_then(Node::as_str) {
            let parsed = expression::parse(condition);
            if !parsed.is_ok_and(|parsed| parsed.holds(&|name| self.variable(name, origin))) {
                return Ok(false);
            }
        }
        if let Some(changes) = rule.get("changes").filter(|node| !node.is_null()) {
            self.check_compare_to(changes)?;
            if !rules::changes(&self.patterns(changes), self.request) {
                return Ok(false);
            }
        }
        match rule.get("exists").filter(|node| !node.is_null()) {
            Some(exists) => self.exists(exists, origin),
            None => Ok(true),
        }
    }

    fn check_compare_to(&self, changes: &Node) -> Result<(), Diagnostic> {
        let Some(node) = changes.as_mapping().and_then(|mapping| mapping.get("compare_to")) else {
            return Ok(());
        };
        let name = self.scope.expand(node.as_str().unwrap_or_default(), Unknown::Keep);
        match &self.request.known_refs {
            Some(known) if !known.contains(&name) => {
                let message = "Failed to parse rule for include: rules:changes:compare_to is not a valid ref";
                Err(Diagnostic::error("include-rules", message).at(node.span, ""))
            }
            _ => Ok(()),
        }
    }

    fn exists(&self, node: &Node, origin: &Origin) -> Result<bool, Diagnostic> {
        let text = |key: &str| {
            let text = node.as_mapping().and_then(|mapping| mapping.get(key)).and_then(Node::as_str)?;
            Some(self.scope.expand(text, Unknown::Keep))
        };
        let (project, reference) = match (text("project"), origin) {
            (Some(project), _) => (project, text("ref")),
            (None, Origin::Own) => return Ok(rules::exists(&self.patterns(node), self.files)),
            (None, Origin::Project { project, sha }) => (project.clone(), sha.clone()),
            (None, Origin::Nowhere) => return Ok(false),
        };
        if self.is_own(&project) {
            return Ok(rules::exists(&self.patterns(node), self.files));
        }
        let patterns = self.patterns(node);
        match self.files.list(&project.to_lowercase(), reference.as_deref()) {
            Ok(paths) => Ok(rules::exists_in(&patterns, rules::top_level_only(&patterns), &paths)),
            Err(error) => {
                let why = rules::unknown_place(&project, reference.as_deref(), &error);
                let message = format!("Failed to parse rule for include: {}", self.masked(&why));
                Err(Diagnostic::error("include-rules", message).at(node.span, ""))
            }
        }
    }

    /// Paths of `changes` or `exists` in any of their forms, variables expanded.
    fn patterns(&self, node: &Node) -> Vec<String> {
        let paths = node.as_mapping().map_or(Some(node), |mapping| mapping.get("paths"));
        let items = match paths.map(|node| &node.value) {
            Some(Value::Sequence(items)) => items.as_slice(),
            Some(_) => paths.map(std::slice::from_ref).unwrap_or_default(),
            None => &[],
        };
        items.iter().filter_map(Node::as_str).map(|path| self.scope.expand(path, Unknown::Keep)).collect()
    }
}

fn error(message: &str, span: Span) -> Diagnostic {
    Diagnostic::error("include-rules", format!("include:{message}")).at(span, "")
}

fn check(node: &Node) -> Result<(), Diagnostic> {
    let Some(rules) = node.as_sequence() else {
        return Err(error("rules config should be a array", node.span));
    };
    if rules.is_empty() {
        return Err(error("rules config can't be blank", node.span));
    }
    rules.iter().try_for_each(check_rule)
}

fn check_rule(node: &Node) -> Result<(), Diagnostic> {
    let Some(rule) = node.as_mapping() else { return Err(error("rule config should be a hash", node.span)) };
    if rule.is_empty() {
        return Err(error("rule config can't be blank", node.span));
    }
    let is_known = |key: &Key| matches!(key, Key::String(name) if KEYS.contains(&&**name));
    let unknown: Vec<_> = rule.iter().filter(|(key, _)| !is_known(key)).collect();
    if let Some((_, entry)) = unknown.first() {
        let names: Vec<_> = unknown.iter().map(|(key, _)| key.to_string()).collect();
        let message = format!("rule config contains unknown keys: {}", names.join(", ")).to_lowercase();
        return Err(error(&message, entry.key_span)
            .help("an include's rule may have `if`, `exists`, `changes`, `when`"));
    }
    let given = |key: &str| rule.get(key).filter(|node| !node.is_null());
    if let Some(node) = given("if") {
        let parsed = node.as_str().map(expression::parse);
        if !matches!(parsed, Some(Ok(_))) {
            return Err(error("rule if invalid expression syntax", node.span));
        }
    }
    if let Some(node) = given("when")
        && !matches!(node.as_str(), Some("always" | "never"))
    {
        let message = format!("rule when unknown value: {}", yaml::text(node)).to_lowercase();
        return Err(error(&message, node.span).help("`always` or `never`"));
    }
    given("changes").map_or(Ok(()), |node| check_paths("changes", node))?;
    given("exists").filter(|node| node.as_str().is_none()).map_or(Ok(()), |node| check_paths("exists", node))
}

fn check_paths(key: &str, node: &Node) -> Result<(), Diagnostic> {
    let (at, list) = match &node.value {
        Value::Sequence(_) => (format!("rule:{key} config"), node),
        Value::Mapping(mapping) => match mapping.get("paths") {
            Some(paths) => (format!("rule:{key} paths"), paths),
            None => return Err(error(&format!("rule:{key} config missing required keys: paths"), node.span)),
        },
        _ => return Err(error(&format!("rule:{key} should be an array or a hash"), node.span)),
    };
    let items = list.as_sequence().filter(|items| items.iter().all(|item| item.as_str().is_some()));
    match items {
        None => Err(error(&format!("{at} should be an array of strings"), list.span)),
        Some(items) if items.len() > MAX_PATHS && key == "changes" => {
            Err(error(&format!("{at} has too many entries (maximum {MAX_PATHS})"), list.span))
        }
        Some(_) => Ok(()),
    }
}
