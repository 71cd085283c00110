//! Replaces the blocks of a content document. Values keep their type where a block is the whole scalar, and a list
//! that is a whole item of a list becomes part of it.

use super::{Finding, Values, block, joined};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::yaml::{self, Entry, Key, Mapping, Node, Value};
use std::collections::HashMap;
use std::sync::Arc;

const MAX_NODES: usize = 500_000;
const MAX_BLOCKS: usize = 10_000;
const MAX_TEXT: usize = 1024 * 1024;
const START: &str = "$[[";

/// What blocks can refer to.
pub(crate) struct Scope<'a> {
    /// `inputs.x`.
    pub(crate) inputs: &'a Values,
    /// `component.x`.
    pub(crate) component: &'a Values,
    /// Variables for `expand_vars`.
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Is the variable's value to be kept secret?
    pub(crate) is_masked: &'a dyn Fn(&str) -> bool,
}

/// The content with all blocks replaced.
///
/// # Errors
/// The messages of all wrong blocks, joined; or the result is too big.
pub(crate) fn interpolate(content: &Node, scope: &Scope<'_>) -> Result<Node, Diagnostic> {
    let mut walk = Walk { scope, blocks: HashMap::new(), findings: Vec::new(), nodes: 0 };
    let node = walk.node(content).map_or_else(|| content.clone(), |replaced| replaced.node);
    if walk.nodes > MAX_NODES {
        return Err(Diagnostic::error("yaml-too-big", "The parsed YAML is too big").at(content.span, ""));
    }
    if walk.findings.is_empty() { Ok(node) } else { Err(joined("interpolation", &walk.findings)) }
}

struct Walk<'a> {
    scope: &'a Scope<'a>,
    blocks: HashMap<String, Result<Option<Node>, String>>,
    findings: Vec<Finding>,
    nodes: usize,
}

/// `splice`: the value of a whole-scalar block, which a list takes in item by item.
struct Replaced {
    node: Node,
    splice: bool,
}

impl Walk<'_> {
    /// None: nothing to replace.
    fn node(&mut self, node: &Node) -> Option<Replaced> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return None;
        }
        let value = match &node.value {
            Value::String(text) if text.text.contains(START) => return self.text(&text.text, node.span),
            Value::Sequence(items) => Value::Sequence(Arc::new(self.items(items)?)),
            Value::Mapping(mapping) => Value::Mapping(Arc::new(self.mapping(mapping)?)),
            _ => return None,
        };
        Some(Replaced { node: Node::new(value, node.span), splice: false })
    }

    fn items(&mut self, items: &[Node]) -> Option<Vec<Node>> {
        let mut new: Option<Vec<Node>> = None;
        for (i, item) in items.iter().enumerate() {
            let replaced = self.node(item);
            if replaced.is_some() && new.is_none() {
                new = Some(items[..i].to_vec());
            }
            let Some(new) = &mut new else { continue };
            match replaced {
                None => new.push(item.clone()),
                Some(Replaced { node, splice }) => match node.as_sequence().filter(|_| splice) {
                    Some(inner) => {
                        self.nodes += inner.len();
                        new.extend_from_slice(inner);
                    }
                    None => new.push(node),
                },
            }
        }
        new
    }

    fn mapping(&mut self, mapping: &Mapping) -> Option<Mapping> {
        let mut changed = false;
        let mut new = Mapping::default();
        for (key, entry) in mapping.iter() {
            let replaced = match key {
                Key::String(text) if text.contains(START) => self.text(text, entry.key_span),
                _ => None,
            };
            let new_key = replaced.map(|replaced| Key::String(Arc::from(yaml::text(&replaced.node))));
            let node = self.node(&entry.node).map(|replaced| replaced.node);
            changed |= new_key.is_some() || node.is_some();
            let node = node.unwrap_or_else(|| entry.node.clone());
            new.entries
                .insert(new_key.unwrap_or_else(|| key.clone()), Entry { key_span: entry.key_span, node });
        }
        changed.then_some(new)
    }

    fn text(&mut self, text: &str, span: Span) -> Option<Replaced> {
        if !text.contains("$[[") {
            return None;
        }
        let whole = block::PATTERN.captures(text).filter(|found| found[0].len() == text.len());
        if let Some(captures) = whole {
            let value = self.block(&captures[0], &captures[1], span)?;
            return Some(Replaced { node: Node::new(value.value, span), splice: true });
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = 0;
        for captures in block::PATTERN.captures_iter(text) {
            let Some(found) = captures.get(0) else { continue };
            let Some(value) = self.block(found.as_str(), &captures[1], span) else { continue };
            out.push_str(&text[rest..found.start()]);
            let value = yaml::text(&value);
            push_as_gsub(&mut out, &value, found.as_str(), &text[found.end()..]);
            rest = found.end();
            if out.len() > MAX_TEXT {
                self.findings.push(Finding::new("interpolated text is larger than 1 MiB", span));
                return None;
            }
        }
        if rest == 0 {
            return None;
        }
        out.push_str(&text[rest..]);
        Some(Replaced { node: Node::string(out, span), splice: false })
    }

    fn block(&mut self, text: &str, content: &str, span: Span) -> Option<Node> {
        if self.blocks.len() >= MAX_BLOCKS && !self.blocks.contains_key(text) {
            self.findings.push(Finding::new("too many interpolation blocks", span));
            return None;
        }
        let scope = self.scope;
        let result = self.blocks.entry(text.to_owned()).or_insert_with(|| block::evaluate(content, scope));
        match result {
            Ok(value) => {
                let value = value.clone();
                self.nodes += 1;
                value
            }
            Err(message) => {
                self.findings.push(Finding::new(message.clone(), span));
                None
            }
        }
    }
}

/// Appends a value as GitLab's `gsub(block, value)` does: Ruby reads `\\`, `\&`, `\0`, `` \` ``, `\'` and `\1` to `\9` in
/// a replacement text as itself, the match, what stands before and after it, and nothing.
fn push_as_gsub(out: &mut String, value: &str, block: &str, after: &str) {
    let before = out.len();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.clone().next() {
            Some('\\') => out.push('\\'),
            Some('&' | '0') => out.push_str(block),
            Some('`') => {
                let prematch = out[..before].to_owned();
                out.push_str(&prematch);
            }
            Some('\'') => out.push_str(after),
            Some('1'..='9') => {}
            _ => {
                out.push('\\');
                continue;
            }
        }
        chars.next();
    }
}
