//! XML-RPC, as much as supervisord speaks: a call as text, an answer as a value.

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
    Struct(Vec<(String, Value)>),
}

impl Value {
    /// A member of a structure.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let Value::Struct(members) = self else { return None };
        members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    pub(super) fn int(&self) -> Option<i64> {
        if let Value::Int(int) = self { Some(*int) } else { None }
    }

    pub(super) fn text(&self) -> &str {
        if let Value::Text(text) = self { text } else { "" }
    }

    pub(super) fn list(&self) -> &[Value] {
        if let Value::List(list) = self { list } else { &[] }
    }
}

/// The text of a call.
pub(super) fn call(method: &str, parameters: &[Value]) -> String {
    let mut text = format!("<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>");
    for parameter in parameters {
        text.push_str("<param>");
        write(&mut text, parameter);
        text.push_str("</param>");
    }
    text.push_str("</params></methodCall>");
    text
}

fn write(to: &mut String, value: &Value) {
    let inner = match value {
        Value::Int(int) => format!("<int>{int}</int>"),
        Value::Bool(bool) => format!("<boolean>{}</boolean>", u8::from(*bool)),
        Value::Text(text) => format!("<string>{}</string>", escape(text)),
        // supervisord's calls take neither
        Value::List(_) | Value::Struct(_) => String::new(),
    };
    to.push_str(&format!("<value>{inner}</value>"));
}

/// Reads an answer: its value, or the fault's code and text. `None`: it is no answer.
pub(super) fn answer(xml: &str) -> Option<Result<Value, (i64, String)>> {
    let mut reader = Reader::from_str(xml);
    let mut fault = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) if tag.name().as_ref() == b"fault" => fault = true,
            Event::Start(tag) if tag.name().as_ref() == b"value" => {
                let value = read(&mut reader, 0)?;
                if !fault {
                    return Some(Ok(value));
                }
                let code = value.get("faultCode").and_then(Value::int).unwrap_or(0);
                return Some(Err((code, value.get("faultString").map_or("", Value::text).to_owned())));
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// No answer of supervisord is deeper.
const DEEPEST: u32 = 16;

/// Reads up to the end of a `value` whose start was read.
fn read(reader: &mut Reader<&[u8]>, depth: u32) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    let (mut text, mut kind) = (String::new(), Vec::new());
    let (mut list, mut members, mut name) = (Vec::new(), Vec::new(), String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => match tag.name().as_ref() {
                b"value" => {
                    let value = read(reader, depth + 1)?;
                    if kind == b"struct" {
                        members.push((std::mem::take(&mut name), value))
                    } else {
                        list.push(value)
                    }
                }
                b"data" | b"member" => {}
                b"name" => text.clear(),
                other => kind = other.to_vec(),
            },
            Event::Text(part) => text.push_str(&part.decode().ok()?),
            Event::GeneralRef(reference) => {
                let word = reference.decode().ok()?;
                text.push_str(&quick_xml::escape::unescape(&format!("&{word};")).ok()?);
            }
            Event::CData(part) => text.push_str(&part.decode().ok()?),
            Event::End(tag) => match tag.name().as_ref() {
                b"name" => name = std::mem::take(&mut text),
                b"value" => break,
                _ => {}
            },
            Event::Eof => return None,
            _ => {}
        }
    }
    Some(match kind.as_slice() {
        b"int" | b"i4" => Value::Int(text.trim().parse().ok()?),
        b"boolean" => Value::Bool(text.trim() == "1"),
        b"array" => Value::List(list),
        b"struct" => Value::Struct(members),
        _ => Value::Text(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_written_with_its_parameters_escaped() {
        let text = call("supervisor.startProcess", &[Value::Text("a<&b".into()), Value::Bool(true)]);
        assert!(text.contains("<methodName>supervisor.startProcess</methodName>"), "{text}");
        assert!(text.contains("<value><string>a&lt;&amp;b</string></value>"), "{text}");
        assert!(text.contains("<value><boolean>1</boolean></value>"), "{text}");
    }

    #[test]
    fn answers_of_all_shapes_are_read() {
        let wrap = |value: &str| {
            format!(
                "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}\n</param>\n</params>\n</methodResponse>"
            )
        };
        let text = |text: &str| Value::Text(text.to_owned());
        for (xml, expected) in [
            ("<value><int>20</int></value>", Value::Int(20)),
            ("<value><boolean>1</boolean></value>", Value::Bool(true)),
            ("<value><string>a &amp; &#65;</string></value>", text("a & A")),
            ("<value>plain</value>", text("plain")),
            (
                "<value><array><data>\n<value><string>a</string></value><value><array><data/></array></value></data></array></value>",
                Value::List(vec![text("a"), Value::List(vec![])]),
            ),
            (
                "<value><struct>\n<member><name>pid</name>\n<value><int>7</int></value></member></struct></value>",
                Value::Struct(vec![("pid".to_owned(), Value::Int(7))]),
            ),
        ] {
            assert_eq!(answer(&wrap(xml)), Some(Ok(expected)), "{xml}");
        }
    }

    #[test]
    fn a_fault_is_an_error_and_anything_else_no_answer() {
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>10</int></value></member>\
            <member><name>faultString</name><value><string>BAD_NAME: x</string></value></member></struct></value></fault></methodResponse>";
        assert_eq!(answer(fault), Some(Err((10, "BAD_NAME: x".to_owned()))));
        let deep = "<value><array><data>".repeat(100_000);
        for text in [
            "",
            "<html>no</html>",
            "<methodResponse><params><param><value><int>x</int></value>",
            "<a",
            deep.as_str(),
        ] {
            assert_eq!(answer(text), None);
        }
    }
}
