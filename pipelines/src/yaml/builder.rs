//! Events to a tree, for one document. Iterative, so that depth costs no stack; collections deeper than GitLab
//! allows are never built.

use super::document::{Failure, Piece};
use super::flow;
use super::repair::repair;
use super::{Entries, Entry, Key, Mapping, Node, Value, inspect, tag};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Levels of collections, aliases followed.
const MAX_DEPTH: usize = 100;
/// Bytes that aliases may add to a document. GitLab measures the whole tree in Ruby's memory against 2 MiB; what is
/// written out is bounded by the file, so here only the multiplication counts.
const MAX_ALIASED_BYTES: u64 = 2 * 1024 * 1024;

/// Builds the tree of one document.
pub(super) struct Builder<'a> {
    piece: &'a Piece<'a>,
    hints: &'a mut Vec<Diagnostic>,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    aliased: u64,
}

/// A finished value.
#[derive(Clone)]
struct Built {
    node: Node,
    /// Bytes of Ruby's memory, aliases counted in full.
    size: u64,
    depth: usize,
    via: Via,
}

/// How a value was written: `<<` asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Alias,
    Scalar { str_tag: bool },
    Sequence,
    Mapping,
}

/// A collection that has not ended.
struct Open {
    anchor: usize,
    tag: Option<String>,
    start: usize,
    end: usize,
    flow: bool,
    size: u64,
    depth: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Entries, key: Option<Built>, merged: bool },
}

impl<'a> Builder<'a> {
    pub(super) fn new(piece: &'a Piece<'a>, hints: &'a mut Vec<Diagnostic>) -> Builder<'a> {
        Builder { piece, hints, open: Vec::new(), anchors: HashMap::new(), aliased: 0 }
    }

    /// The document's root; null when there is none.
    pub(super) fn build(mut self) -> Result<Node, Failure> {
        let mut parser = Parser::new_from_str(self.piece.parsed());
        let end = self.piece.start + self.piece.text.len();
        let mut root = Node::new(Value::Null, Span::new(self.piece.file, end, end));
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            let (start, end) = (self.byte(span.start), self.byte(span.end));
            let done = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let built = self.scalar(&text, style, tag.as_deref(), (start, end))?;
                    if self.in_flow() {
                        flow::check_scalar(self.piece, built.node.span, style, self.expects_key())?;
                    }
                    self.remember(anchor, &built);
                    self.attach(built)?
                }
                Event::Alias(id) => {
                    let built = self.alias(id, (start, end))?;
                    self.attach(built)?
                }
                Event::SequenceStart(anchor, tag) => {
                    self.start(anchor, tag, start, Content::Sequence(Vec::new()))?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    let content = Content::Mapping { entries: Entries::default(), key: None, merged: false };
                    self.start(anchor, tag, start, content)?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(end)?,
                // what comes after the first document is not even looked at
                Event::DocumentEnd | Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => None,
            };
            root = done.unwrap_or(root);
        }
        if self.aliased > MAX_ALIASED_BYTES { Err(self.too_big(root.span.start as usize)) } else { Ok(root) }
    }

    fn in_flow(&self) -> bool {
        self.open.iter().rev().any(|open| open.flow)
    }

    /// Is the next value a key?
    fn expects_key(&self) -> bool {
        matches!(self.open.last().map(|open| &open.content), Some(Content::Mapping { key: None, .. }))
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        (start, end): (usize, usize),
    ) -> Result<Built, Failure> {
        let tag = tag.map(tag::full);
        let value = tag::scalar(text, style != ScalarStyle::Plain, tag.as_deref())
            .map_err(|message| refusal(message, start, end))?;
        let size = match &value {
            Value::String(text) => text_size(text.text.len()),
            _ => 0,
        };
        let node = Node::new(value, self.span(start, end));
        let str_tag = tag.as_deref() == Some("tag:yaml.org,2002:str");
        Ok(Built { node, size, depth: 0, via: Via::Scalar { str_tag } })
    }

    fn alias(&mut self, id: usize, (start, end): (usize, usize)) -> Result<Built, Failure> {
        // an anchor that is not finished contains itself: endless for GitLab's measuring, hence too big
        let Some(target) = self.anchors.get(&id) else { return Err(self.too_big(start)) };
        let built = Built { via: Via::Alias, ..target.clone() };
        self.aliased = self.aliased.saturating_add(built.size);
        match self.open.last_mut() {
            Some(open) => open.end = end,
            None => return Err(self.too_big(start)),
        }
        Ok(built)
    }

    fn start(
        &mut self,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        start: usize,
        content: Content,
    ) -> Result<(), Failure> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.too_big(start));
        }
        let tag = tag.map(|tag| tag::full(&tag));
        let mapping = matches!(content, Content::Mapping { .. });
        tag::collection(tag.as_deref(), mapping).map_err(|message| refusal(message, start, start))?;
        let flow = self.text_at(start).trim_start().starts_with(['[', '{']);
        self.open.push(Open { anchor, tag, start, end: start, flow, size: 0, depth: 0, content });
        Ok(())
    }

    fn end(&mut self, at: usize) -> Result<Option<Node>, Failure> {
        let Some(open) = self.open.pop() else { return Ok(None) };
        // a block collection ends where the next token begins: its last child's end says more
        let end = if open.flow || open.end == open.start { at.max(open.start) } else { open.end };
        let span = self.span(open.start, end);
        let reference = open.tag.as_deref() == Some("!reference");
        let (value, own, via) = match open.content {
            Content::Sequence(items) if reference => (Value::Reference(Arc::new(items)), 40, Via::Sequence),
            Content::Sequence(items) => {
                let own = list_size(items.len());
                (Value::Sequence(Arc::new(items)), own, Via::Sequence)
            }
            Content::Mapping { entries, .. } => {
                let own = mapping_size(entries.len());
                (Value::Mapping(Arc::new(Mapping { entries })), own, Via::Mapping)
            }
        };
        let node = Node::new(value, span);
        if reference && via == Via::Mapping {
            let message = format!("!reference {} is not valid", inspect(&node));
            return Err(refusal(message, open.start, end));
        }
        let depth = open.depth + 1;
        if depth > MAX_DEPTH {
            return Err(self.too_big(open.start));
        }
        let built = Built { node, size: open.size.saturating_add(own), depth, via };
        self.remember(open.anchor, &built);
        self.attach(built)
    }

    fn remember(&mut self, anchor: usize, built: &Built) {
        if anchor > 0 {
            self.anchors.insert(anchor, built.clone());
        }
    }

    /// Puts a value into the innermost open collection; without one it is the root.
    fn attach(&mut self, built: Built) -> Result<Option<Node>, Failure> {
        let Some(open) = self.open.last_mut() else { return Ok(Some(built.node)) };
        if let Content::Mapping { key: None, .. } = &open.content {
            check_key(self.piece, &built, open.flow)?;
        }
        if built.via != Via::Alias {
            open.end = open.end.max(built.node.span.end as usize);
        }
        open.size = open.size.saturating_add(built.size);
        open.depth = open.depth.max(built.depth);
        match &mut open.content {
            Content::Sequence(items) => items.push(built.node),
            Content::Mapping { entries, key, merged } => match key.take() {
                None => *key = Some(built),
                Some(key) if is_merge_key(&key) && merge(entries, &built) => *merged = true,
                Some(key) => {
                    let entry = Entry { key_span: key.node.span, node: built.node };
                    let written = open.start as u32;
                    let old = entries.insert(as_key(&key.node), entry);
                    if let Some(old) = old.filter(|old| !*merged && old.key_span.start >= written) {
                        self.hints.push(duplicate(&key.node, old.key_span));
                    }
                }
            },
        }
        Ok(None)
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let local = end.saturating_sub(self.piece.start).min(self.piece.text.len());
        let from = start.saturating_sub(self.piece.start).min(local);
        // block scalars and collections reach to the next token: what is blank at the end says nothing
        let trimmed = self.piece.text.get(from..local).map_or(local, |text| from + text.trim_end().len());
        Span::new(self.piece.file, start, self.piece.start + trimmed.max(from))
    }

    fn text_at(&self, start: usize) -> &str {
        self.piece.text.get(start - self.piece.start..).unwrap_or_default()
    }

    /// Byte offset in the file.
    fn byte(&self, marker: Marker) -> usize {
        self.piece.start + self.piece.local_byte(marker.index())
    }

    fn too_big(&self, start: usize) -> Failure {
        Failure {
            code: "yaml-too-big",
            message: "The parsed YAML is too big".to_owned(),
            start,
            end: start,
            repaired: None,
            help: Some("at most 100 levels are allowed, and 2 MiB that come from aliases"),
        }
    }

    fn syntax(&self, error: &ScanError) -> Failure {
        let at = self.byte(*error.marker());
        let width = self.text_at(at).chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
        if error.info() == "recursion limit exceeded" {
            return self.too_big(at);
        }
        if error.info().ends_with("found unknown anchor") {
            let name: &str = self.text_at(at).trim_start_matches('*');
            let name =
                name.split(|c: char| c.is_whitespace() || ",[]{}".contains(c)).next().unwrap_or_default();
            return Failure {
                code: "yaml-unknown-alias",
                message: format!("Unknown alias: {name}"),
                start: at,
                end: at + name.len() + 1,
                repaired: None,
                help: Some("anchors are known in their own file only, after the place where they stand"),
            };
        }
        let in_flow = self.open.last().is_some_and(|open| open.flow);
        Failure {
            code: "yaml-syntax",
            repaired: repair(self.piece, error.info(), error.marker().index(), in_flow),
            message: error.info().to_owned(),
            start: at,
            end: at + width,
            help: None,
        }
    }
}

/// What libyaml refuses before a key and saphyr does not: tabs as indentation, and no key at all.
fn check_key(piece: &Piece<'_>, key: &Built, flow: bool) -> Result<(), Failure> {
    let start = key.node.span.start as usize;
    let local = start - piece.start;
    let (before, after) =
        (piece.text.get(..local).unwrap_or_default(), piece.text.get(local..).unwrap_or_default());
    let indentation = before.rsplit('\n').next().unwrap_or_default();
    let tab = !flow && indentation.contains('\t') && indentation.trim().is_empty();
    let nothing =
        key.node.span.range().is_empty() && after.starts_with(':') && !before.trim_end().ends_with('?');
    let message = match (tab, nothing && key.node.is_null()) {
        (true, _) => "found character that cannot start any token while scanning for the next token",
        (_, true) => "did not find expected key while parsing a mapping",
        _ => return Ok(()),
    };
    let help = tab.then_some("indent with spaces: YAML takes no tabs");
    let (start, end) = if tab { (start - indentation.len(), start) } else { (start, start + 1) };
    Err(Failure { code: "yaml-syntax", message: message.to_owned(), start, end, repaired: None, help })
}

fn refusal(message: String, start: usize, end: usize) -> Failure {
    let (code, help) = if message.starts_with("!reference") {
        ("reference", "write `!reference [job, keyword]`")
    } else if message.ends_with("Date") || message.ends_with("Time") {
        ("yaml-class", "quote the text: YAML takes an unquoted date for a date")
    } else {
        ("yaml-class", "only texts, numbers, booleans, lists, mappings and `!reference` can be loaded")
    };
    Failure { code, message, start, end, repaired: None, help: Some(help) }
}

fn is_merge_key(key: &Built) -> bool {
    key.node.as_str() == Some("<<") && key.via != Via::Scalar { str_tag: true }
}

/// What `<<` means in Psych: aliases and mappings are merged over what stands so far, a sequence of mappings in
/// reverse order; anything else is an ordinary value, which the caller then stores under `<<`.
fn merge(entries: &mut Entries, value: &Built) -> bool {
    let sources: Vec<&Mapping> = match (&value.node.value, value.via) {
        (Value::Mapping(mapping), _) => vec![mapping],
        (Value::Sequence(items), Via::Sequence) => match items.iter().map(Node::as_mapping).collect() {
            Some(mappings) => mappings,
            None => return false,
        },
        _ => return false,
    };
    for (key, entry) in sources.iter().rev().flat_map(|mapping| mapping.iter()) {
        entries.insert(key.clone(), entry.clone());
    }
    true
}

fn as_key(node: &Node) -> Key {
    match &node.value {
        Value::String(text) => Key::String(text.text.clone()),
        Value::Integer(i) => Key::Integer(*i),
        _ => Key::Other(Arc::from(super::text(node))),
    }
}

fn duplicate(key: &Node, first: Span) -> Diagnostic {
    Diagnostic::hint(
        "duplicate-key",
        format!("key `{}` is written twice; the last one wins", super::text(key)),
    )
    .at(key.span, "this one counts")
    .at(first, "this one is ignored")
    .help("remove one of them, or merge their contents")
}

/// Size of a Ruby string: slots of 40 to 640 bytes hold it, or it lives outside.
fn text_size(length: usize) -> u64 {
    slot(24 + length as u64 + 1).unwrap_or(40 + length as u64 + 1)
}

fn list_size(length: usize) -> u64 {
    slot(16 + 8 * length as u64).unwrap_or(40 + 8 * length as u64)
}

fn mapping_size(length: usize) -> u64 {
    if length <= 8 { 160 } else { 40 + 26 * (length as u64).next_power_of_two() }
}

fn slot(bytes: u64) -> Option<u64> {
    [40, 80, 160, 320, 640].into_iter().find(|&slot| bytes <= slot)
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Diagnostic;
    use crate::source::SourceMap;
    use crate::yaml::{Node, inspect, parse};

    fn load(text: &str) -> Result<(Vec<Node>, Vec<Diagnostic>), Diagnostic> {
        let mut sources = SourceMap::new();
        let file = sources.add("x.yml", text, None);
        let mut hints = Vec::new();
        parse(text, file, &mut hints).map(|documents| (documents, hints))
    }

    fn shown(text: &str) -> String {
        match load(text) {
            Ok((documents, _)) => documents.iter().map(inspect).collect::<Vec<_>>().join(" --- "),
            Err(error) => error.message,
        }
    }

    #[test]
    fn documents_are_split_by_text() {
        let cases = [
            ("", ""),
            ("# c\n", ""),
            ("a: 1\n", "{:a=>1}"),
            ("\u{feff}a: 1\n", "{:a=>1}"),
            ("---\na: 1\n", "{:a=>1}"),
            ("a: 1\n---\nb: 2\n---\nc: 3\n", "{:a=>1} --- {:b=>2}"),
            ("a: 1\n---\n", "{:a=>1}"),
            ("a: |\n  x\n  ---\n  y\n", "{:a=>\"x\\n---\\ny\\n\"}"),
            ("a: ---\n", "{:a=>\"---\"}"),
            ("a: 1\n...\n", "{:a=>1}"),
            ("a: 1\r\nb: 2\r\n", "{:a=>1, :b=>2}"),
            ("- a\n", "Invalid configuration format"),
            ("a: 1\n---\n- b\n", "Invalid configuration format"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn merge_keys_follow_psych() {
        let cases = [
            ("b: &b {x: 1, y: 2}\na: {y: 0, <<: *b, z: 3}", "{:y=>2, :x=>1, :z=>3}"),
            ("b: &b {x: 1}\nc: &c {x: 2, y: 2}\na: {<<: [*b, *c]}", "{:x=>1, :y=>2}"),
            ("b: &b hello\na: {<<: *b}", "{:<<=>\"hello\"}"),
            ("b: &b [1]\na: {<<: *b}", "{:<<=>[1]}"),
            ("a: {<<: {x: 1}}", "{:x=>1}"),
            ("a: {<<: [1]}", "{:<<=>[1]}"),
            ("a: {!!str <<: {x: 1}}", "{:<<=>{:x=>1}}"),
        ];
        for (text, expected) in cases {
            let (documents, _) = load(text).unwrap();
            let shown =
                inspect(documents[0].as_mapping().unwrap().get("a").unwrap()).replace(":\"<<\"", ":<<");
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn keys_keep_their_kind() {
        assert_eq!(
            shown("10: a\n'10': b\ntrue: c\n~: d\n:s: e\n"),
            "{10=>\"a\", :\"10\"=>\"b\", true=>\"c\", nil=>\"d\", :s=>\"e\"}"
        );
    }

    #[test]
    fn what_psych_refuses_is_refused() {
        let cases = [
            ("a: *nope\n", "Unknown alias: nope"),
            ("a: [*nope, b]\n", "Unknown alias: nope"),
            ("a: 2024-01-01\n", "Tried to load unspecified class: Date"),
            ("a: !ruby/object:Object {}\n", "Tried to load unspecified class: Object"),
            ("a: !reference foo\n", "!reference \"foo\" is not valid"),
            ("a: !reference {b: c}\n", "!reference {:b=>\"c\"} is not valid"),
            ("a: &a [*a]\n", "The parsed YAML is too big"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn white_space_inside_brackets_and_quotes_means_nothing() {
        let cases = [
            ("a: [\n  b\n]\nc: d\n", "{:a=>[\"b\"], :c=>\"d\"}"),
            ("é: {x: [\n1,\n2\n]\n}\nc: d\n", "{:é=>{:x=>[1, 2]}, :c=>\"d\"}"),
            ("a: [\n\tb\n]\n", "{:a=>[\"b\"]}"),
            ("a:\tb\n", "{:a=>\"b\"}"),
            ("a: \"x\ny\n\n'z\"\n", "{:a=>\"x y\\n'z\"}"),
            ("a: 'x\nit''s'\n", "{:a=>\"x it's\"}"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text:?}");
        }
        let text = "é: [\nb\n]\nk: v\n";
        let (documents, _) = load(text).unwrap();
        let root = documents[0].as_mapping().unwrap();
        assert_eq!(text[root.get("é").unwrap().span.range()], *"[\nb\n]");
        assert_eq!(text[root.entry("k").unwrap().key_span.range()], *"k");
    }

    #[test]
    fn what_libyaml_refuses_is_refused() {
        let in_brackets = [
            "{a: :b}",
            "[:a, b]",
            "{a:}",
            "{a: b:}",
            "[a:, b]",
            "{x: {b:,c: d}}",
            "{a b\n c: d}",
            "{a: b, \"c\n d\": e}",
            "[a:b:]",
            "[http://x:]",
            "{a: b, :c: d}",
            "[a:?b]",
            "{a:[b]}",
            "{a\n: b}",
        ];
        for text in in_brackets {
            let text = format!("k: {text}\n");
            assert_eq!(load(&text).map_err(|error| error.code).err(), Some("yaml-syntax"), "{text:?}");
        }
        for text in
            ["[c:d, a::b]", "{\"a\":b, \"c\":}", "{? a\n  b\n : d}", "{a, b\n, c: d}", "{x: http://y/?z=:1}"]
        {
            let text = format!("k: {text}\n");
            assert!(load(&text).is_ok(), "{text:?}");
        }
        for text in ["\ta: b\n", ": b\n", "a:\n\tb: c\n", "a: b: c\n", "a: x\n}\n", "a: [b\n", "a\nb: c\n"] {
            assert_eq!(load(text).map_err(|error| error.code).err(), Some("yaml-syntax"), "{text:?}");
        }
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut laughs = "a0: &a0 [l, l, l, l, l, l, l, l, l]\n".to_owned();
        for i in 1..60 {
            let aliases = vec![format!("*a{}", i - 1); 9].join(", ");
            laughs.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
        }
        let deep_flow = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        let deep_block: String = (0..300).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        let mut chain = "a0: &a0 [x]\n".to_owned();
        for i in 1..200 {
            chain.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
        }
        for text in [laughs, deep_flow, deep_block, chain] {
            assert_eq!(shown(&text), "The parsed YAML is too big");
        }
    }

    #[test]
    fn duplicate_keys_give_a_hint_with_both_places() {
        let text = "a:\n  x: 1\nb: &b {x: 0}\na:\n  x: 2\nc:\n  x: 1\n  <<: *b\nd:\n  <<: *b\n  x: 1\n";
        let (_, hints) = load(text).unwrap();
        assert_eq!(hints.len(), 1);
        let places: Vec<_> = hints[0].labels.iter().map(|(span, _)| span.range()).collect();
        assert_eq!(places, [23..24, 0..1]);
        assert!(!hints[0].gitlab && hints[0].code == "duplicate-key");
    }

    #[test]
    fn spans_are_bytes_of_the_file() {
        let text = "---\nä: {ö: 'ü'}\nj:\n  script:\n    - x\n    - |\n      y\n\nk: z\n";
        let (documents, _) = load(text).unwrap();
        let root = documents[0].as_mapping().unwrap();
        let at = |node: &Node| text[node.span.range()].to_owned();
        assert_eq!(at(root.get("ä").unwrap()), "{ö: 'ü'}");
        assert_eq!(at(root.get("ä").unwrap().as_mapping().unwrap().get("ö").unwrap()), "'ü'");
        assert_eq!(text[root.entry("k").unwrap().key_span.range()], *"k");
        let script = root.get("j").unwrap().as_mapping().unwrap().get("script").unwrap();
        assert_eq!(at(script), "- x\n    - |\n      y");
        assert_eq!(at(&script.as_sequence().unwrap()[1]), "y");
    }

    #[test]
    fn syntax_errors_say_where() {
        let text = "ä: x\na:\n  script: x\n image: y\n";
        let error = load(text).unwrap_err();
        assert_eq!(error.code, "yaml-syntax");
        assert!(error.message.contains("at line 4"), "{}", error.message);
        assert_eq!(text[..error.labels[0].0.start as usize].matches('\n').count(), 3);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[a-c:\\[\\]{}&*!<|>\\-# \n\"'0-9é,~?%@.]{0,80}") {
            let _ = load(&text);
        }
    }
}
