//! The tree that YAML text becomes. Cheap to clone: collections and texts are shared, so that `extends`,
//! anchors and matrix instances cost a pointer, and an alias bomb costs nothing.

use crate::source::Span;
use foldhash::fast::RandomState;
use indexmap::{Equivalent, IndexMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    pub span: Span,
}

/// What a [`Node`] can be, after YAML 1.1 resolution as Ruby's Psych does it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `~`, `null` or nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// Decimal, octal, hexadecimal, binary or sexagesimal.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// Text. Symbols (`:word`) are text with `symbol` set. Integers beyond 64 bits are text too: only variables
    /// can use them, and there every digit counts.
    String(Text),
    /// A sequence.
    Sequence(Arc<Vec<Node>>),
    /// A mapping.
    Mapping(Arc<Mapping>),
    /// `!reference [a, b]`: the path, not yet resolved.
    Reference(Arc<Vec<Node>>),
}

/// A scalar text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text itself.
    pub text: Arc<str>,
    /// Written as a Ruby symbol (`:word`); most validators take it for a string.
    pub symbol: bool,
}

/// Key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Text.
    String(Arc<str>),
    /// An integer: allowed by YAML, mostly an error later (`jobs:10 name should be a symbol`).
    Integer(i64),
    /// Anything else, as Ruby prints it (`true`, `1.5`; null is empty): never the name of anything.
    Other(Arc<str>),
}

/// Key's place and the value of one mapping entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

/// Entries by key; keywords are looked up so often that the hash counts.
pub type Entries = IndexMap<Key, Entry, RandomState>;

/// A mapping in the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping {
    /// The entries.
    pub entries: Entries,
}

impl Mapping {
    /// The value under a text key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// The entry under a text key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(&TextKey(key))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }
}

impl Key {
    /// The text of what is no integer.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Key::String(text) | Key::Other(text) => Some(text),
            Key::Integer(_) => None,
        }
    }
}

/// A text that looks up its [`Key::String`] without becoming one: keywords are looked up often.
struct TextKey<'t>(&'t str);

impl Hash for TextKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Key> for TextKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(key, Key::String(text) if **text == *self.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Key::String(text) | Key::Other(text) => text.hash(state),
            Key::Integer(number) => number.hash(state),
        }
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::String(Arc::from(text))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::String(s) | Key::Other(s) => f.write_str(s),
            Key::Integer(i) => write!(f, "{i}"),
        }
    }
}

impl Node {
    /// A node.
    pub fn new(value: Value, span: Span) -> Node {
        Node { value, span }
    }

    /// A plain text node.
    pub fn string(text: impl Into<Arc<str>>, span: Span) -> Node {
        Node::new(Value::String(Text { text: text.into(), symbol: false }), span)
    }

    /// The text of a string or symbol.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(t) => Some(&t.text),
            _ => None,
        }
    }

    /// The mapping, if it is one.
    pub fn as_mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(m) => Some(m),
            _ => None,
        }
    }

    /// The items, if it is a sequence.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(s) => Some(s),
            _ => None,
        }
    }

    /// Is it null?
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value as JSON, for values that are passed on as written.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Integer(i) => Json::from(*i),
            Value::Float(f) => serde_json::Number::from_f64(*f).map_or(Json::Null, Json::Number),
            Value::String(t) => Json::String(t.text.to_string()),
            Value::Sequence(s) | Value::Reference(s) => Json::Array(s.iter().map(Node::to_json).collect()),
            Value::Mapping(m) => {
                Json::Object(m.iter().map(|(k, e)| (k.to_string(), e.node.to_json())).collect())
            }
        }
    }
}
