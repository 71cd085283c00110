//! `inherit`: which defaults and which root variables a job takes.

use super::check::{Entry, Findings, Path, texts};
use super::inheritable;
use super::ruby;
use super::types::Inherit;
use crate::yaml::{Node, Value};

/// `inherit`.
#[derive(Clone, Debug, Default)]
pub(super) struct Inheritance {
    /// `inherit:default`.
    pub(super) defaults: Inherit,
    /// `inherit:variables`.
    pub(super) variables: Inherit,
}

impl Inheritance {
    /// Does the job take this default keyword?
    pub(super) fn takes(&self, keyword: &str) -> bool {
        match &self.defaults {
            Inherit::All => true,
            Inherit::None => false,
            Inherit::Only(keywords) => keywords.iter().any(|k| k == keyword),
        }
    }
}

/// `inherit`.
pub(super) fn inherit(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Inheritance {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&["default", "variables"]);
    if !entry.valid {
        return Inheritance::default();
    }
    let mut part = |key: &str, known: Option<&[&str]>| {
        entry.field(key).map(|n| choice(n, &path.child(key), entry.findings, known)).unwrap_or_default()
    };
    Inheritance { defaults: part("default", Some(&inheritable::KEYS)), variables: part("variables", None) }
}

fn choice(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>, known: Option<&[&str]>) -> Inherit {
    let mut entry = Entry::new(node, path, findings);
    match &node.value {
        Value::Bool(true) => Inherit::All,
        Value::Bool(false) => Inherit::None,
        Value::Sequence(_) => {
            entry.is("config", ruby::is_texts, "should be an array of strings");
            if let Some(known) = known {
                entry.known_items("config", known);
            }
            Inherit::Only(texts(node))
        }
        _ => {
            entry.unsupported("should be a bool or array of strings");
            Inherit::None
        }
    }
}
