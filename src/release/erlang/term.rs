//! The term type, its accessors and its printer.

use std::fmt;

/// An Erlang term, as far as configuration, release files and probes need it.
///
/// A string and a list of integers are the same thing in Erlang, yet not here: text keeps what the source
/// wrote, the external format gives `Str` for printable byte lists. [`Term::text`] reads them all.
/// The empty string is the empty list.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// An atom, unquoted.
    Atom(String),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A larger integer, in decimal digits with an optional minus sign.
    Big(String),
    /// A float.
    Float(f64),
    /// A non-empty string.
    Str(String),
    /// A binary.
    Binary(Vec<u8>),
    /// A proper list.
    List(Vec<Term>),
    /// An improper list: elements, then the tail.
    Improper(Vec<Term>, Box<Term>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A map, pairs in their written order.
    Map(Vec<(Term, Term)>),
    /// A pid, port, reference or fun: only to be printed and compared.
    Opaque(String),
}

impl Term {
    /// The atom `name`.
    #[must_use]
    pub fn atom(name: &str) -> Term {
        Term::Atom(name.to_owned())
    }

    /// The string `text`; the empty list when it is empty.
    #[must_use]
    pub fn string(text: &str) -> Term {
        if text.is_empty() { Term::List(Vec::new()) } else { Term::Str(text.to_owned()) }
    }

    /// The name, if this is an atom.
    #[must_use]
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// The elements, if this is a tuple.
    #[must_use]
    pub fn as_tuple(&self) -> Option<&[Term]> {
        match self {
            Term::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The elements, if this is a list (not a string).
    #[must_use]
    pub fn as_list(&self) -> Option<&[Term]> {
        match self {
            Term::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a string, a list of code points or a UTF-8 binary.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Term::Str(text) => Some(text.clone()),
            Term::Binary(bytes) => String::from_utf8(bytes.clone()).ok(),
            Term::List(items) => items
                .iter()
                .map(|item| match item {
                    Term::Int(code) => u32::try_from(*code).ok().and_then(char::from_u32),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    /// In a property list: the value of the first `{key, Value}`, or `true` for a bare `key`.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<Term> {
        self.as_list()?.iter().find_map(|item| match item {
            Term::Atom(name) if name == key => Some(Term::atom("true")),
            Term::Tuple(pair) if pair.len() == 2 && pair[0].as_atom() == Some(key) => Some(pair[1].clone()),
            _ => None,
        })
    }

    /// In a map: the value at the atom `key`.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Term> {
        match self {
            Term::Map(pairs) => pairs.iter().find(|(k, _)| k.as_atom() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }
}

impl fmt::Display for Term {
    /// Prints what `file:consult` reads back, on one line, without the final dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Atom(name) => write_atom(f, name),
            Term::Int(value) => write!(f, "{value}"),
            Term::Big(digits) => f.write_str(digits),
            // Erlang wants a digit on both sides of the point, which `{:?}` leaves out before an exponent.
            Term::Float(value) => match format!("{value:?}").split_once('e') {
                Some((mantissa, exponent)) if !mantissa.contains('.') => write!(f, "{mantissa}.0e{exponent}"),
                _ => write!(f, "{value:?}"),
            },
            Term::Str(text) => write_quoted(f, text, '"'),
            Term::Binary(bytes) => write_binary(f, bytes),
            Term::List(items) => write_sequence(f, "[", items, "]"),
            Term::Improper(items, tail) => {
                write_sequence(f, "[", items, "|")?;
                write!(f, "{tail}]")
            }
            Term::Tuple(items) => write_sequence(f, "{", items, "}"),
            Term::Map(pairs) => {
                f.write_str("#{")?;
                for (i, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key} => {value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("}")
            }
            Term::Opaque(text) => f.write_str(text),
        }
    }
}

fn write_sequence(f: &mut fmt::Formatter<'_>, open: &str, items: &[Term], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { "," })?;
    }
    f.write_str(close)
}

const RESERVED: &[&str] = &[
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond",
    "div", "else", "end", "fun", "if", "let", "maybe", "not", "of", "or", "orelse", "receive", "rem", "try",
    "when", "xor",
];

fn write_atom(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@')
        && !RESERVED.contains(&name);
    if plain { f.write_str(name) } else { write_quoted(f, name, '\'') }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    write!(f, "{quote}")?;
    for c in text.chars() {
        match c {
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\x{{{:x}}}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    write!(f, "{quote}")
}

fn write_binary(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("<<")?;
    if !bytes.is_empty() && bytes.iter().all(|b| (b' '..=b'~').contains(b)) {
        write_quoted(f, &String::from_utf8_lossy(bytes), '"')?;
    } else {
        for (i, byte) in bytes.iter().enumerate() {
            write!(f, "{}{byte}", if i == 0 { "" } else { "," })?;
        }
    }
    f.write_str(">>")
}
