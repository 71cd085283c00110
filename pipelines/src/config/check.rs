//! What all keywords share: where a value stands (`jobs:test:image`), the findings, and the validators with
//! GitLab's exact words.

use super::ruby;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::duration;
use crate::expression::{self, Regexp, SyntaxError};
use crate::source::Span;
use crate::yaml::{self, Node, Value};
use std::collections::HashSet;
use std::fmt::{self, Display};

/// Location of an entry: keys from the root down. Lives on the stack; printed only for an error.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
}

/// The root has no name in messages.
pub(super) const ROOT: Path<'static> = Path { parent: None, name: "" };

impl<'a> Path<'a> {
    /// The entry that this one is part of.
    pub(super) fn parent(&self) -> Option<&'a Path<'a>> {
        self.parent
    }

    /// The entry under `name`.
    pub(super) fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), name }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !parent.name.is_empty() {
                f.write_str(":")?;
            }
        }
        f.write_str(self.name)
    }
}

/// Where findings go; knows how many of them are errors.
pub(super) struct Findings<'d> {
    diagnostics: &'d mut Vec<Diagnostic>,
    start: usize,
    errors: usize,
    /// Right ones: jobs have them in common through `extends`, and regular expressions take long to compile.
    sound: HashSet<(Syntax, String)>,
    /// Has GitLab stopped looking?
    beyond: bool,
    /// The entry that GitLab looks no deeper into, and the number of findings before it.
    unsound: Option<(Span, usize)>,
}

/// What [`Findings::look_on`] changed.
pub(super) struct Before {
    beyond: bool,
    unsound: Option<(Span, usize)>,
}

/// What a text can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Syntax {
    /// A condition.
    Expression,
    /// `/expression/flags`.
    Regexp,
}

impl<'d> Findings<'d> {
    /// Appends to `diagnostics`.
    pub(super) fn new(diagnostics: &'d mut Vec<Diagnostic>) -> Findings<'d> {
        let start = diagnostics.len();
        Findings { diagnostics, start, errors: 0, sound: HashSet::new(), beyond: false, unsound: None }
    }

    /// What is wrong with a text, if anything is.
    pub(super) fn mistake(&mut self, syntax: Syntax, text: &str) -> Option<SyntaxError> {
        let key = (syntax, text.to_owned());
        if self.sound.contains(&key) {
            return None;
        }
        let mistake = match syntax {
            Syntax::Expression => expression::parse(text).err(),
            Syntax::Regexp => Regexp::literal(text).err(),
        };
        if mistake.is_none() {
            self.sound.insert(key);
        }
        mistake
    }

    /// Takes a finding; the same error text is kept once.
    pub(super) fn push(&mut self, mut diagnostic: Diagnostic) {
        self.errors += usize::from(diagnostic.is_error());
        diagnostic.gitlab &= !self.beyond;
        if diagnostic.is_error() && self.is_known(&diagnostic) {
            return;
        }
        let twice = |d: &Diagnostic| d.message == diagnostic.message && d.labels == diagnostic.labels;
        if !self.diagnostics.last().is_some_and(twice) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Errors so far: two equal counts say that nothing in between failed.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// How many findings there are: the place where those of an entry begin.
    pub(super) fn mark(&self) -> usize {
        self.diagnostics.len()
    }

    /// Before what stands in an entry is looked at. GitLab does not when the entry itself is not sound; `mark` is
    /// where its findings begin.
    pub(super) fn look_on(&mut self, sound: bool, entry: Span, mark: usize) -> Before {
        let before = Before { beyond: self.beyond, unsound: self.unsound };
        if !sound {
            self.beyond = true;
            self.unsound = Some((entry, mark));
        }
        before
    }

    /// After that.
    pub(super) fn look_back(&mut self, before: &Before) {
        self.beyond = before.beyond;
        self.unsound = before.unsound;
    }

    /// Has something been said already about the value, or about one that it is part of?
    fn is_known(&self, diagnostic: &Diagnostic) -> bool {
        let (Some((entry, mark)), Some((new, _))) = (self.unsound, diagnostic.labels.first()) else {
            return false;
        };
        let said = self.diagnostics.get(mark..).unwrap_or_default();
        said.iter().flat_map(|d| &d.labels).any(|(span, _)| *span != entry && covers(*span, *new))
    }

    /// GitLab stops here; what else is found is for people who want to see all their mistakes at once.
    pub(super) fn go_beyond(&mut self) {
        self.beyond = true;
    }

    /// GitLab stops at this one and forgets what it found before.
    pub(super) fn replace_all(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.truncate(self.start);
        self.push(diagnostic);
    }
}

/// One value under validation. `config` as attribute is the value itself, else a key of it.
pub(super) struct Entry<'a, 'f, 'd> {
    /// The value.
    pub(super) node: &'a Node,
    /// Its location.
    pub(super) path: &'a Path<'a>,
    /// Where findings go.
    pub(super) findings: &'f mut Findings<'d>,
    /// No validator has failed.
    pub(super) valid: bool,
}

impl<'a, 'f, 'd> Entry<'a, 'f, 'd> {
    /// Starts validation.
    pub(super) fn new(
        node: &'a Node,
        path: &'a Path<'a>,
        findings: &'f mut Findings<'d>,
    ) -> Entry<'a, 'f, 'd> {
        Entry { node, path, findings, valid: true }
    }

    /// Value of a key, null counting as absent.
    pub(super) fn field(&self, key: &str) -> Option<&'a Node> {
        field(self.node, key)
    }

    /// Is the key there, with whatever value?
    pub(super) fn has(&self, key: &str) -> bool {
        self.node.as_mapping().is_some_and(|m| m.get(key).is_some())
    }

    /// Text of a key, if it is one.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.field(key).and_then(Node::as_str).map(str::to_owned)
    }

    fn value(&self, attribute: &str) -> Option<&'a Node> {
        if attribute == "config" { Some(self.node) } else { self.field(attribute) }
    }

    fn span(&self, attribute: &str) -> Span {
        self.value(attribute).map_or(self.node.span, |n| n.span)
    }

    /// Reports a failed validation of an attribute, lower case as GitLab does it.
    pub(super) fn fail(&mut self, code: &'static str, attribute: &str, message: impl Display) {
        let span = self.span(attribute);
        self.fail_at(code, attribute, message, span);
    }

    /// As [`Entry::fail`], with the place said.
    pub(super) fn fail_at(&mut self, code: &'static str, attribute: &str, message: impl Display, span: Span) {
        let text = format!("{} {} {message}", self.path, ruby::humanize(attribute)).to_lowercase();
        self.report(Diagnostic::error(code, text).at(span, ""));
    }

    /// Reports GitLab's `UnknownStrategy` texts: location and message, letter case kept.
    pub(super) fn unsupported(&mut self, message: &str) {
        let text = format!("{} {message}", self.path);
        self.report(Diagnostic::error("wrong-type", text).at(self.node.span, ""));
    }

    /// Takes a finished diagnostic.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.valid = false;
        self.findings.push(diagnostic);
    }

    /// Must be a map.
    pub(super) fn hash(&mut self) {
        if self.node.as_mapping().is_none() {
            self.fail("wrong-type", "config", "should be a hash");
        }
    }

    /// Must be a map if given.
    pub(super) fn hash_attribute(&mut self, attribute: &str) {
        if self.field(attribute).is_some_and(|n| n.as_mapping().is_none()) {
            self.fail("wrong-type", attribute, "should be a hash");
        }
    }

    /// Has no other keys than these.
    pub(super) fn allowed_keys(&mut self, allowed: &[&str]) {
        let Some(map) = self.node.as_mapping() else { return };
        let unknown: Vec<_> = map
            .iter()
            .filter(|(key, _)| !key.as_str().is_some_and(|key| allowed.contains(&key)))
            .map(|(key, entry)| (key.to_string(), entry.key_span))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let names: Vec<&str> = unknown.iter().map(|(key, _)| key.as_str()).collect();
        let text = format!("{} config contains unknown keys: {}", self.path, names.join(", ")).to_lowercase();
        let mut diagnostic = Diagnostic::error("unknown-key", text);
        let mut helps = Vec::new();
        for (key, span) in &unknown {
            diagnostic = diagnostic.at(*span, "");
            if let Some(near) = did_you_mean(key, allowed.iter().copied()) {
                helps.push(format!("did you mean `{near}` instead of `{key}`?"));
            }
        }
        if !helps.is_empty() {
            diagnostic = diagnostic.help(helps.join(" "));
        }
        self.report(diagnostic);
    }

    /// Has all these keys.
    pub(super) fn required_keys(&mut self, required: &[&str]) {
        let missing: Vec<&str> = required.iter().copied().filter(|key| !self.has(key)).collect();
        if !missing.is_empty() {
            self.fail("missing-key", "config", format!("missing required keys: {}", missing.join(", ")));
        }
    }

    /// Has at most one of these keys.
    pub(super) fn exclusive_keys(&mut self, keys: &[&str]) {
        let present = self.present_keys(keys);
        if present.len() > 1 {
            self.fail(
                "conflict",
                "config",
                format!("these keys cannot be used together: {}", present.join(", ")),
            );
        }
    }

    /// Has exactly one of these keys.
    pub(super) fn one_of_keys(&mut self, keys: &[&str]) {
        if self.present_keys(keys).len() != 1 {
            self.fail(
                "conflict",
                "config",
                format!("must use exactly one of these keys: {}", keys.join(", ")),
            );
        }
    }

    /// Those of `keys` that are there, in the order of the configuration.
    pub(super) fn present_keys(&self, keys: &[&str]) -> Vec<String> {
        let all =
            self.node.as_mapping().into_iter().flat_map(|m| m.iter().filter_map(|(key, _)| key.as_str()));
        all.filter(|key| keys.contains(key)).map(str::to_owned).collect()
    }

    /// Must not be blank; absent is blank.
    pub(super) fn present(&mut self, attribute: &str) {
        if self.value(attribute).is_none_or(ruby::is_blank) {
            self.fail("blank", attribute, "can't be blank");
        }
    }

    /// A `String` if given.
    pub(super) fn string(&mut self, attribute: &str) {
        self.is(attribute, ruby::is_string, "should be a string");
    }

    /// A `String`, and given.
    pub(super) fn required_string(&mut self, attribute: &str) {
        if !self.value(attribute).is_some_and(ruby::is_string) {
            self.fail("wrong-type", attribute, "should be a string");
        }
    }

    /// A boolean if given.
    pub(super) fn boolean(&mut self, attribute: &str) {
        self.is(attribute, ruby::is_boolean, "should be a boolean value");
    }

    /// A list of texts if given.
    pub(super) fn strings(&mut self, attribute: &str) {
        self.is(attribute, ruby::is_texts, "should be an array of strings");
    }

    /// A text or a list of texts if given.
    pub(super) fn strings_or_string(&mut self, attribute: &str) {
        self.is(
            attribute,
            |n| ruby::is_text(n) || ruby::is_texts(n),
            "should be an array of strings or a string",
        );
    }

    /// An integer or a list of integers if given.
    pub(super) fn integers(&mut self, attribute: &str) {
        let integer = |n: &Node| matches!(n.value, Value::Integer(_));
        let integers = |n: &Node| integer(n) || n.as_sequence().is_some_and(|s| s.iter().all(integer));
        self.is(attribute, integers, "should be an array of integers or an integer");
    }

    /// If given, must satisfy `ok`.
    pub(super) fn is(&mut self, attribute: &str, ok: impl Fn(&Node) -> bool, message: &str) {
        if self.value(attribute).is_some_and(|n| !ok(n)) {
            self.fail("wrong-type", attribute, message);
        }
    }

    /// If given, one of `words` (a list passes when all its items do, as in Rails).
    pub(super) fn one_of(&mut self, attribute: &str, words: &[&str], message: &str) {
        let Some(value) = self.value(attribute) else { return };
        let known = |n: &Node| ruby::is_string(n) && n.as_str().is_some_and(|s| words.contains(&s));
        let ok = value.as_sequence().map_or_else(|| known(value), |items| items.iter().all(known));
        if ok {
            return;
        }
        let near = value.as_str().and_then(|s| did_you_mean(s, words.iter().copied()));
        let text = format!("{} {} {message}", self.path, ruby::humanize(attribute)).to_lowercase();
        let mut diagnostic = Diagnostic::error("bad-value", text).at(value.span, "");
        if let Some(near) = near {
            diagnostic = diagnostic.help(format!("did you mean `{near}`?"));
        }
        self.report(diagnostic);
    }

    /// Items of a list that are not among `words`.
    pub(super) fn known_items(&mut self, attribute: &str, words: &[&str]) {
        let Some(items) = self.value(attribute).and_then(Node::as_sequence) else { return };
        let known = |n: &&Node| ruby::is_string(n) && n.as_str().is_some_and(|s| words.contains(&s));
        let unknown: Vec<String> = items.iter().filter(|n| !known(n)).map(yaml::text).collect();
        if !unknown.is_empty() {
            self.fail("bad-value", attribute, format!("contains unknown values: {}", unknown.join(", ")));
        }
    }

    /// Characters of a text, items of a list.
    pub(super) fn at_most(&mut self, attribute: &str, maximum: usize, message: &str) {
        if self.value(attribute).is_some_and(|n| ruby::length(n) > maximum) {
            self.fail("too-long", attribute, message);
        }
    }

    /// A duration text of at most `limit` seconds; absent fails.
    pub(super) fn duration(&mut self, attribute: &str, limit: f64) {
        let value = self.value(attribute).filter(|n| ruby::is_string(n)).and_then(Node::as_str);
        let seconds = value.and_then(duration::parse);
        if seconds.is_none() {
            self.fail("bad-duration", attribute, "should be a duration");
        }
        if seconds.is_none_or(|s| s > limit) {
            self.fail("bad-duration", attribute, "should not exceed the limit");
        }
    }

    /// If given, a duration text or `never`.
    pub(super) fn expiry(&mut self, attribute: &str) {
        let ok = |n: &Node| {
            let text = n.as_str().filter(|_| ruby::is_string(n));
            text.is_some_and(|t| t.eq_ignore_ascii_case("never") || duration::parse(t).is_some())
        };
        self.is(attribute, ok, "should be a duration");
    }

    /// Rails' numericality: an integer, or a text of digits, within bounds. None: not one, reported.
    pub(super) fn integer_between(&mut self, attribute: &str, low: i64, high: i64) -> Option<i64> {
        let value = self.value(attribute)?;
        let number = match &value.value {
            Value::Integer(i) => Some(*i),
            Value::String(t) => t.text.trim().parse().ok(),
            Value::Float(_) => {
                self.fail("wrong-type", attribute, "must be an integer");
                return None;
            }
            _ => None,
        };
        let Some(number) = number else {
            self.fail("wrong-type", attribute, "is not a number");
            return None;
        };
        if number < low {
            self.fail("bad-value", attribute, format!("must be greater than or equal to {low}"));
        } else if number > high {
            self.fail("bad-value", attribute, format!("must be less than or equal to {high}"));
        }
        Some(number)
    }
}

fn covers(outer: Span, inner: Span) -> bool {
    outer.file == inner.file && outer.start <= inner.start && inner.end <= outer.end
}

/// Value of a key of a map, null counting as absent.
pub(super) fn field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.as_mapping().and_then(|m| m.get(key)).filter(|n| !n.is_null())
}

/// Texts of a list (or of one text).
pub(super) fn texts(node: &Node) -> Vec<String> {
    match node.as_sequence() {
        Some(items) => items.iter().filter_map(Node::as_str).map(str::to_owned).collect(),
        None => node.as_str().map(str::to_owned).into_iter().collect(),
    }
}

/// Is it `ok`, or lists of such, at most `levels` deep?
pub(super) fn is_nested(node: &Node, levels: usize, ok: &impl Fn(&Node) -> bool) -> bool {
    node.as_sequence()
        .is_some_and(|items| levels > 0 && items.iter().all(|n| ok(n) || is_nested(n, levels - 1, ok)))
}

/// The items of nested lists, in order.
pub(super) fn flatten<'n>(node: &'n Node, into: &mut Vec<&'n Node>) {
    match node.as_sequence() {
        Some(items) => items.iter().for_each(|n| flatten(n, into)),
        None => into.push(node),
    }
}
