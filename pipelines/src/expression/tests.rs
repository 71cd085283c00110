use super::*;
use proptest::prelude::*;

fn variables(name: &str) -> Option<String> {
    let table = [
        ("E", ""),
        ("P", "x"),
        ("S", "  "),
        ("ZERO", "0"),
        ("T", "true"),
        ("A", "feature/foo-bar"),
        ("PAT", "/^feature\\//"),
        ("BAD", "/(/"),
        ("LONG", "a feature/foo-bar text"),
        ("ML", "one\ntwo"),
    ];
    table.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
}

fn holds(text: &str) -> bool {
    parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).holds(&variables)
}

#[test]
fn operands_are_truthy_as_in_ruby_and_results_must_be_present() {
    for text in ["$P", "$ZERO", "$E && $P", "$U || $P", "!$E", "!$S", "!!$P", "true", "/ab/", "(($P))"] {
        assert!(holds(text), "{text}");
    }
    for text in ["$U", "$E", "$S", "$E || $P", "$P && $E", "!$ZERO", "null", "false", "!true"] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn equality_tells_null_from_empty_and_takes_booleans_as_text() {
    for text in
        ["$U == null", "$E == \"\"", "$P == 'x'", "$T == true", "'it' != 'at'", "true != false", "$U != $E"]
    {
        assert!(holds(text), "{text}");
    }
    for text in
        ["$E == null", "$U == ''", "$U == false", "null == null == null", "\"$P\" == 'x'", "$P == !$U"]
    {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn and_binds_tighter_than_or() {
    assert!(holds("$P == 'x' || $P == 'y' && $P == 'z'"));
    assert!(!holds("($P == 'x' || $P == 'y') && $P == 'z'"));
}

#[test]
fn matching_takes_patterns_and_texts_that_look_like_them() {
    for text in [
        "$A =~ /^feature/",
        "$A =~ /^feature\\//",
        "$A =~ /^feature//",
        "$A =~ /FOO/i",
        "$A =~ /foo/ii",
        "$A =~ $PAT",
        "$A =~ $LONG",
        "$A !~ null",
        "$U =~ 'abc'",
        "$E =~ /^$/",
        "$ML =~ /^two/m",
        "$ML =~ /one.two/s",
        "$A =~ /\\bfoo\\b/",
        "$A =~ /^[a-z\\/&[-]+$/",
        "'a{b' =~ /a{b/",
        "'a<b' =~ /a\\<b/",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in
        ["$A =~ 'foo'", "$A =~ null", "$ML =~ /^two/", "'(x' =~ $BAD", "'ü' =~ /^\\w$/", "'٣' =~ /[\\d]x?/"]
    {
        assert!(!holds(text), "{text}");
    }
    assert!(holds("'(' =~ $BAD"), "a bad pattern in a variable is plain text");
}

#[test]
fn texts_that_are_no_expressions() {
    for text in [
        "",
        "()",
        "($P",
        "$P)",
        "$",
        "$$P",
        "${P}",
        "%P%",
        "$P == x",
        "$P === 'x'",
        "$P $P",
        "== 'x'",
        "$P | $P",
        "$P == 'x",
        "nullx",
        "1",
        "$P =~ /./",
        "$P =~ //",
        "$P =~ /(/",
        "$P =~ /(?=x)x/",
        "$P =~ /(a)\\1/",
        "$P =~ /a**/",
        "$P =~ /*a/",
        "$P =~ /a{1001}/",
        "$P =~ /ab\\\\/",
        "$[[ inputs.x ]]",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    let many = vec!["$P"; 50].join(" && ");
    assert!(parse(&many[..many.len() - 6]).is_ok());
    assert!(parse(&format!("{many} && $P")).is_err());
}

#[test]
fn inputs_are_operands_where_asked_for() {
    let expression = parse_with_inputs("$[[ inputs.env ]] == 'prod' && $[[inputs.on]] && $P").unwrap();
    let input = |env: &'static str| {
        move |name: &str| match name {
            "env" => Some(serde_json::json!(env)),
            "on" => Some(serde_json::json!(true)),
            _ => None,
        }
    };
    assert!(expression.holds_with_inputs(&variables, &input("prod")));
    assert!(!expression.holds_with_inputs(&variables, &input("dev")));
    assert!(!expression.holds(&variables));
    assert_eq!(expression.variables(), ["P"]);
}

proptest! {
    #[test]
    fn no_text_panics(text in "([$]|[A-Z]|['\"/()!=~&|\\\\ .*{}\\[\\]ü-]|null|true|==|=~|&&){0,24}") {
        if let Ok(expression) = parse_with_inputs(&text) {
            expression.holds(&variables);
        }
        let _ = Regexp::literal(&text);
        let _ = Regexp::new(&text, "i");
    }
}
