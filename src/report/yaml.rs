//! A configuration's tree as YAML: `ci lint --merged`. GitLab reads the text back as the same values.

use pipelines::yaml::{Key, Mapping, Node, Value};

/// The whole configuration, an empty line between its entries. Hidden jobs and `extends` have done their work in
/// what is merged, so they are left out.
pub fn merged(root: &Node) -> String {
    let mut text = String::new();
    for (key, entry) in root.as_mapping().into_iter().flat_map(Mapping::iter) {
        if key.to_string().starts_with('.') {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        for line in keyword(key, &without_extends(&entry.node)) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn without_extends(node: &Node) -> Node {
    let Some(map) = node.as_mapping().filter(|map| map.get("extends").is_some()) else { return node.clone() };
    let mut map = map.clone();
    map.entries.shift_remove(&Key::from("extends"));
    Node::new(Value::Mapping(map.into()), node.span)
}

/// Lines of `key: value`.
fn keyword(name: &Key, node: &Node) -> Vec<String> {
    let name = match name {
        Key::String(text) => scalar(text),
        Key::Integer(number) => number.to_string(),
        Key::Other(text) if text.is_empty() => "null".to_owned(),
        Key::Other(text) => text.to_string(),
    };
    match inline(node) {
        Some(value) => vec![format!("{name}: {value}")],
        None => headed(format!("{name}:"), node, "  "),
    }
}

fn item(node: &Node) -> Vec<String> {
    if let Some(value) = inline(node) {
        return vec![format!("- {value}")];
    }
    if matches!(node.value, Value::String(_)) {
        return headed("-".to_owned(), node, "  ");
    }
    let below = lines(node).into_iter().enumerate();
    below.map(|(i, line)| indented(if i == 0 { "- " } else { "  " }, &line)).collect()
}

/// The head, and what stands below it; a text's indicator goes behind the head.
fn headed(head: String, node: &Node, indentation: &str) -> Vec<String> {
    let mut below = lines(node);
    let head = match &node.value {
        Value::String(_) => format!("{head} {}", below.remove(0)),
        _ => head,
    };
    let below = below.iter().map(|line| indented(indentation, line));
    std::iter::once(head).chain(below).collect()
}

fn indented(indentation: &str, line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("{indentation}{line}") }
}

fn lines(node: &Node) -> Vec<String> {
    match &node.value {
        Value::Mapping(map) => map.iter().flat_map(|(key, entry)| keyword(key, &entry.node)).collect(),
        Value::Sequence(items) | Value::Reference(items) => items.iter().flat_map(item).collect(),
        Value::String(text) => literal(&text.text),
        _ => inline(node).into_iter().collect(),
    }
}

/// A value that fits behind its key.
fn inline(node: &Node) -> Option<String> {
    Some(match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => ".nan".to_owned(),
        Value::Float(number) if number.is_infinite() => {
            if *number > 0.0 { ".inf" } else { "-.inf" }.to_owned()
        }
        Value::Float(number) => format!("{number:?}").replace('e', "e+").replace("e+-", "e-"),
        Value::String(text) if text.symbol => format!(":{}", text.text),
        Value::String(text) if is_literal(&text.text) => return None,
        Value::String(text) => scalar(&text.text),
        Value::Mapping(map) if map.is_empty() => "{}".to_owned(),
        Value::Sequence(items) | Value::Reference(items) if items.is_empty() => "[]".to_owned(),
        Value::Mapping(_) | Value::Sequence(_) | Value::Reference(_) => return None,
    })
}

/// A text of several lines that a `|` keeps as it is.
fn is_literal(text: &str) -> bool {
    let odd = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || ('\u{80}'..'\u{a0}').contains(&c)
            || "\u{2028}\u{2029}\u{feff}".contains(c)
    };
    let first = text.chars().next();
    text.contains('\n')
        && !text.ends_with("\n\n")
        && first.is_some_and(|c| !c.is_whitespace())
        && !text.chars().any(odd)
}

/// The indicator and the lines.
fn literal(text: &str) -> Vec<String> {
    let (indicator, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    std::iter::once(indicator).chain(body.split('\n')).map(str::to_owned).collect()
}

/// A text of one line, quoted where it would be read as something else.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    if text.contains(char::is_control) || text.contains(['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}']) {
        // a JSON text is a YAML text
        return serde_json::Value::from(text).to_string();
    }
    if text.contains('\'') && !text.contains(['"', '\\']) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Texts that are certainly read as texts, whatever stands around them in a block.
fn is_plain(text: &str) -> bool {
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_alphabetic() || matches!(c, '$' | '/' | '_'))
        || (text.starts_with("./") && text.len() > 2);
    let inside = |c: char| c.is_alphanumeric() || " $/_.,;:+-=~^@%&*(){}[]<>?!|#'\"\\".contains(c);
    !word
        && first
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && text.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::source::SourceMap;

    fn parse(text: &str) -> Node {
        let mut sources = SourceMap::new();
        let file = sources.add("x.yml", text, None);
        let documents = pipelines::yaml::parse(text, file, &mut Vec::new());
        documents.unwrap_or_else(|e| panic!("{e:?}\n{text}")).remove(0)
    }

    fn round(text: &str) -> String {
        merged(&parse(text))
    }

    #[test]
    fn texts_are_read_back_as_they_were() {
        let mut map = Mapping::default();
        let span = parse("a: b").span;
        let texts = [
            "",
            " ",
            "x ",
            " x",
            "yes",
            "No",
            "null",
            "~",
            "1",
            "3.10",
            "0777",
            "12:30",
            "2024-01-01",
            ":sym",
            "a: b",
            "a #b",
            "a:",
            "#x",
            "- x",
            "-x",
            "$X",
            "!x",
            "*a",
            "&a",
            "{a}",
            "[a]",
            "'q'",
            "\"q\"",
            "it's",
            "both ' and \"",
            "a\\b",
            "one\ntwo",
            "one\ntwo\n",
            "one\ntwo\n\n",
            "\n",
            "\none",
            " one\ntwo",
            "one\n  two\n\nthree",
            "tab\there",
            "\tx",
            "bell\u{7}",
            "é ü 漢",
            "\u{feff}x",
            "x\u{2028}y",
            "cr\r\nlf",
            "...",
            "---",
            "--- a",
            "one\n--- two",
            "%x",
            "@x",
            "`x`",
            ".5",
            "./run",
            "a, b",
            "? x",
            "|",
            ">",
            "echo \"a: b\"",
            "=",
            "<<",
            "1e5",
            "0x1F",
            ".inf",
            "a|b",
            "$[[ x ]]",
            "y",
        ];
        for (i, text) in texts.iter().enumerate() {
            let entry = |node| pipelines::yaml::Entry { key_span: span, node };
            map.entries.insert(Key::from(format!("k{i}").as_str()), entry(Node::string(*text, span)));
            map.entries.insert(Key::from(format!("{text}k").as_str()), entry(Node::string(*text, span)));
        }
        let list: Vec<Node> = texts.iter().map(|text| Node::string(*text, span)).collect();
        let entry =
            pipelines::yaml::Entry { key_span: span, node: Node::new(Value::Sequence(list.into()), span) };
        map.entries.insert(Key::from("list"), entry);
        map.entries.retain(|key, _| !key.to_string().starts_with('.'));
        let root = Node::new(Value::Mapping(map.into()), span);
        let text = merged(&root);
        assert_eq!(parse(&text).to_json(), root.to_json(), "{text}");
    }

    #[test]
    fn other_values_are_read_back_as_they_were() {
        let text = "a: [1, -2, 1.5, 1e5, 1.5e+30, true, ~, .inf, [x, [y]], {k: [v], l: {}}, [], {m: {n: 1}}]\n1: x\ns: :sym\n";
        assert_eq!(parse(&round(text)).to_json(), parse(text).to_json(), "{}", round(text));
    }

    #[test]
    fn the_text_is_as_one_would_write_it() {
        let text = "stages: [a]\n.h: {image: x}\nj:\n  extends: .h\n  script: [make, \"a\\nb\\n\"]\n  rules: [{if: \"$A == 'x'\", when: never}]\n";
        let expected = "stages:\n  - a\n\nj:\n  script:\n    - make\n    - |\n      a\n      b\n  rules:\n    - if: $A == 'x'\n      when: never\n";
        assert_eq!(round(text), expected);
    }
}
