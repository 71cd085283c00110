//! The parser of terms as text: what `file:consult/1` reads.
//!
//! Sources: the Erlang reference manual, chapters "Data Types" and "Expressions" (literals only).

use super::Term;

/// Deeper nesting is refused: no release file comes near, and the parser recurses.
const MAX_DEPTH: usize = 200;

/// Text that is not a sequence of terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct TextError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected, or what was found.
    pub message: String,
}

/// Parses every `Term.` of `source`.
///
/// # Errors
/// The first place that is not a literal term, with its position.
pub fn parse(source: &str) -> Result<Vec<Term>, TextError> {
    let mut parser = Parser { source, at: 0, depth: 0 };
    let mut terms = Vec::new();
    loop {
        parser.skip_space();
        if parser.rest().is_empty() {
            return Ok(terms);
        }
        terms.push(parser.term()?);
        parser.skip_space();
        parser.end_of_term()?;
    }
}

/// Parses `source` as exactly one `Term.`.
///
/// # Errors
/// As [`parse`], and when there is no term or more than one.
pub fn parse_one(source: &str) -> Result<Term, TextError> {
    let mut terms = parse(source)?;
    match (terms.pop(), terms.is_empty()) {
        (Some(term), true) => Ok(term),
        (last, _) => {
            let found = terms.len() + usize::from(last.is_some());
            Err(TextError { line: 1, column: 1, message: format!("expected one term, found {found}") })
        }
    }
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), TextError> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(&format!("expected `{token}`"))) }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(|c| c.is_whitespace() || c.is_control());
            if self.peek() != Some('%') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn error(&self, message: impl Into<String>) -> TextError {
        let before = &self.source[..self.at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        TextError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    fn unexpected(&self, wanted: &str) -> TextError {
        match self.peek() {
            Some(c) => self.error(format!("{wanted}, found `{c}`")),
            None => self.error(format!("{wanted}, found the end of the text")),
        }
    }

    /// The dot counts only before white space, a comment or the end: `1.5` and `a.b` have other dots.
    fn end_of_term(&mut self) -> Result<(), TextError> {
        self.expect(".")?;
        match self.peek() {
            Some(c) if !c.is_whitespace() && c != '%' => {
                Err(self.unexpected("expected white space after `.`"))
            }
            _ => Ok(()),
        }
    }

    fn term(&mut self) -> Result<Term, TextError> {
        self.skip_space();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("terms nest deeper than {MAX_DEPTH}")));
        }
        let term = self.literal();
        self.depth -= 1;
        term
    }

    fn literal(&mut self) -> Result<Term, TextError> {
        match self.peek() {
            Some('{') => {
                self.take();
                Ok(Term::Tuple(self.sequence("}")?))
            }
            Some('[') => self.list(),
            Some('#') => self.map(),
            Some('<') => self.binary(),
            Some('"') => {
                let mut text = self.quoted('"')?;
                while self.next_is_string() {
                    text.push_str(&self.quoted('"')?);
                }
                Ok(Term::string(&text))
            }
            Some('\'') => self.quoted('\'').map(Term::Atom),
            Some('$') => {
                self.take();
                self.character().map(|c| Term::Int(i64::from(u32::from(c))))
            }
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => self.number(),
            Some(c) if c.is_lowercase() => Ok(self.word()),
            Some(c) if c.is_uppercase() || c == '_' => {
                Err(self.error("variables can't stand in a file of terms"))
            }
            _ => Err(self.unexpected("expected a term")),
        }
    }

    fn next_is_string(&mut self) -> bool {
        let before = self.at;
        self.skip_space();
        let found = self.peek() == Some('"');
        if !found {
            self.at = before;
        }
        found
    }

    fn word(&mut self) -> Term {
        let name = self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '@');
        let target = self.rest();
        // `file:consult` also reads `fun m:f/1`; nothing of ours looks inside.
        if name == "fun" && target.starts_with(' ') {
            let reference = self.take_while(|c| !",]}|\n".contains(c) && c != '.');
            return Term::Opaque(format!("fun{}", reference.trim_end()));
        }
        Term::atom(name)
    }

    fn sequence(&mut self, close: &str) -> Result<Vec<Term>, TextError> {
        let mut items = Vec::new();
        if self.accept(close) {
            return Ok(items);
        }
        loop {
            items.push(self.term()?);
            if self.accept(close) {
                return Ok(items);
            }
            if !self.accept(",") {
                return Err(self.unexpected(&format!("expected `,` or `{close}`")));
            }
        }
    }

    fn list(&mut self) -> Result<Term, TextError> {
        self.take();
        let mut items = Vec::new();
        if self.accept("]") {
            return Ok(Term::List(items));
        }
        loop {
            items.push(self.term()?);
            if self.accept("]") {
                return Ok(Term::List(items));
            }
            if self.accept("|") {
                let tail = self.term()?;
                self.expect("]")?;
                return Ok(match tail {
                    Term::List(more) => {
                        items.extend(more);
                        Term::List(items)
                    }
                    tail => Term::Improper(items, Box::new(tail)),
                });
            }
            if !self.accept(",") {
                return Err(self.unexpected("expected `,` or `]`"));
            }
        }
    }

    fn map(&mut self) -> Result<Term, TextError> {
        self.expect("#")?;
        self.expect("{")?;
        let mut pairs = Vec::new();
        if self.accept("}") {
            return Ok(Term::Map(pairs));
        }
        loop {
            let key = self.term()?;
            self.expect("=>")?;
            pairs.push((key, self.term()?));
            if self.accept("}") {
                return Ok(Term::Map(pairs));
            }
            if !self.accept(",") {
                return Err(self.unexpected("expected `,` or `}`"));
            }
        }
    }

    fn binary(&mut self) -> Result<Term, TextError> {
        self.expect("<<")?;
        let mut bytes = Vec::new();
        if self.accept(">>") {
            return Ok(Term::Binary(bytes));
        }
        loop {
            let segment = self.term()?;
            let utf8 = self.accept("/utf8");
            match &segment {
                Term::Str(text) if utf8 => bytes.extend_from_slice(text.as_bytes()),
                // without /utf8 each character is one byte, truncated as Erlang does
                Term::Str(text) => bytes.extend(text.chars().map(|c| (u32::from(c) & 0xff) as u8)),
                Term::List(items) if items.is_empty() => {}
                Term::Int(value) => bytes.push((value & 0xff) as u8),
                _ => return Err(self.error("only strings and bytes are understood in a binary")),
            }
            if self.accept(">>") {
                return Ok(Term::Binary(bytes));
            }
            if !self.accept(",") {
                return Err(self.unexpected("expected `,` or `>>`"));
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, TextError> {
        self.take();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.error(format!("the closing `{quote}` is missing"))),
                Some(c) if c == quote => {
                    self.take();
                    return Ok(text);
                }
                Some('\\') if self.rest().starts_with("\\\n") => self.at += 2,
                Some(_) => text.push(self.character()?),
            }
        }
    }

    /// One character, or one escape sequence.
    fn character(&mut self) -> Result<char, TextError> {
        let missing = self.error("a character is missing");
        match self.take() {
            Some('\\') => {}
            Some(c) => return Ok(c),
            None => return Err(missing),
        }
        let c = self.take().ok_or(missing)?;
        Ok(match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            's' => ' ',
            'b' => '\u{8}',
            'd' => '\u{7f}',
            'e' => '\u{1b}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '^' => match self.take() {
                Some(c) if c.is_ascii() => char::from((c as u8) & 0x1f),
                _ => return Err(self.error("`\\^` needs a letter")),
            },
            'x' => {
                let digits = if self.rest().starts_with('{') {
                    self.take();
                    let digits = self.take_while(|c| c.is_ascii_hexdigit());
                    self.expect("}")?;
                    digits
                } else {
                    let len = self.rest().chars().take(2).take_while(char::is_ascii_hexdigit).count();
                    let digits = &self.rest()[..len];
                    self.at += len;
                    digits
                };
                self.code_point(digits, 16)?
            }
            '0'..='7' => {
                let start = self.at - 1;
                let more = self.rest().chars().take(2).take_while(|c| ('0'..='7').contains(c)).count();
                self.at += more;
                self.code_point(&self.source[start..self.at], 8)?
            }
            other => other,
        })
    }

    fn code_point(&self, digits: &str, radix: u32) -> Result<char, TextError> {
        u32::from_str_radix(digits, radix)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| self.error(format!("`{digits}` is no character code")))
    }

    fn number(&mut self) -> Result<Term, TextError> {
        let negative = self.accept("-");
        if !negative {
            self.accept("+");
        }
        self.skip_space();
        if self.peek() == Some('$') {
            self.take();
            let code = i64::from(u32::from(self.character()?));
            return Ok(Term::Int(if negative { -code } else { code }));
        }
        let digits = self.digits(10)?;
        if self.rest().starts_with('#') {
            self.take();
            let radix = digits.parse().ok().filter(|r| (2..=36).contains(r));
            let radix = radix.ok_or_else(|| self.error(format!("`{digits}` is no base")))?;
            let digits = self.digits(radix)?;
            let value = u128::from_str_radix(&digits, radix)
                .map_err(|_| self.error(format!("`{radix}#{digits}` is too large")))?;
            return Ok(integer(negative, &value.to_string()));
        }
        let fraction =
            self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
        if !fraction {
            return Ok(integer(negative, &digits));
        }
        self.take();
        let sign = if negative { "-" } else { "" };
        let mut text = format!("{sign}{digits}.{}", self.digits(10)?);
        if self.rest().starts_with(['e', 'E']) {
            self.take();
            text.push('e');
            if let Some(sign @ ('+' | '-')) = self.peek() {
                self.take();
                text.push(sign);
            }
            text.push_str(&self.digits(10)?);
        }
        let value: f64 = text.parse().map_err(|_| self.error(format!("`{text}` is no float")))?;
        if value.is_finite() { Ok(Term::Float(value)) } else { Err(self.error("the float is too large")) }
    }

    fn digits(&mut self, radix: u32) -> Result<String, TextError> {
        let digits = self.take_while(|c| c.is_digit(radix) || c == '_').replace('_', "");
        if digits.is_empty() { Err(self.unexpected("expected a digit")) } else { Ok(digits) }
    }
}

/// Decimal digits as a term, by size.
fn integer(negative: bool, digits: &str) -> Term {
    let digits = digits.trim_start_matches('0');
    let sign = if negative && !digits.is_empty() { "-" } else { "" };
    let text = format!("{sign}{}", if digits.is_empty() { "0" } else { digits });
    text.parse().map(Term::Int).unwrap_or(Term::Big(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(source: &str) -> String {
        parse_one(source).unwrap().to_string()
    }

    #[test]
    fn every_literal_is_read_and_printed_so_that_it_reads_back() {
        let cases = [
            ("a.", "a"),
            ("'Elixir.A'.", "'Elixir.A'"),
            ("'end'.", "'end'"),
            ("\"a\\\"b\\n\" \"c\".", "\"a\\\"b\\nc\""),
            ("\"\".", "[]"),
            ("[1,-2,16#fF,$a,1_000].", "[1,-2,255,97,1000]"),
            ("1.50e2.", "150.0"),
            ("1.0e100.", "1.0e100"),
            ("340282366920938463463374607431768211455.", "340282366920938463463374607431768211455"),
            ("-16#FFFFFFFFFFFFFFFFFFFF.", "-1208925819614629174706175"),
            ("-00.", "0"),
            ("{a, [b | c], [d | [e]]} .", "{a,[b|c],[d,e]}"),
            ("#{a => 1, \"b\" => <<\"x\">>}.", "#{a => 1,\"b\" => <<\"x\">>}"),
            ("<<1,255,\"ab\">>.", "<<1,255,97,98>>"),
            ("<<\"\u{e9}\"/utf8>>.", "<<195,169>>"),
            ("\"\\x41\\x{42}\\103\\^A\".", "\"ABC\\x{1}\""),
            ("{f, fun lists:map/2}.", "{f,fun lists:map/2}"),
            ("%% coding: utf-8\n[].% end", "[]"),
        ];
        for (source, expected) in cases {
            assert_eq!(printed(source), expected, "{source}");
            assert_eq!(printed(&format!("{expected}.")), expected, "{source} again");
        }
    }

    #[test]
    fn errors_say_the_place() {
        let cases = [
            ("{a,", "line 1, column 4: expected a term, found the end of the text"),
            ("[a\n b].", "line 2, column 2: expected `,` or `]`, found `b`"),
            ("a", "line 1, column 2: expected `.`, found the end of the text"),
            ("Var.", "line 1, column 1: variables can't stand in a file of terms"),
            ("\"abc", "line 1, column 5: the closing `\"` is missing"),
            ("a.b.", "line 1, column 3: expected white space after `.`, found `b`"),
        ];
        for (source, expected) in cases {
            assert_eq!(parse(source).unwrap_err().to_string(), expected, "{source}");
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().message.contains("deeper"));
        assert_eq!(parse_one("a. b.").unwrap_err().message, "expected one term, found 2");
        assert_eq!(parse_one("").unwrap_err().message, "expected one term, found 0");
    }

    #[test]
    fn property_lists_and_text_are_read() {
        let term = parse_one("[{a, 1}, b, {c, \"x\"}, {d, <<\"y\">>}, {e, [104, 105]}].").unwrap();
        assert_eq!(term.property("a"), Some(Term::Int(1)));
        assert_eq!(term.property("b"), Some(Term::atom("true")));
        assert_eq!(term.property("z"), None);
        let text = |key| term.property(key).and_then(|value| value.text());
        assert_eq!([text("c"), text("d"), text("e")], ["x", "y", "hi"].map(|t| Some(t.to_owned())));
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(source in "[a-z{}\\[\\]\"'\\\\$#<>0-9.,|=% \n\u{e9}-]{0,60}") {
            let _ = parse(&source);
        }
    }
}
