use super::*;
use proptest::prelude::*;

fn layer(pairs: &[(&str, &str)]) -> Layer {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Variable::new(*value))).collect()
}

fn lookup(name: &str) -> Option<String> {
    [("A", "a"), ("B", "$A"), ("E", "")].iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
}

#[test]
fn the_server_replaces_three_forms_once() {
    let table = [
        ("$A ${A} %A%", "a a a"),
        ("$B", "$A"),
        ("x$NOPE-y", "x-y"),
        ("$E|", "|"),
        ("$$A", "$a"),
        ("a$ ${ ${} $1", "a$ ${ ${} $1"),
        ("$A_x$A-x", "a-x"),
    ];
    for (text, expected) in table {
        assert_eq!(expand(text, Unknown::Remove, &lookup), expected, "{text}");
    }
    assert_eq!(expand("x-${NOPE}-$E-y", Unknown::Keep, &lookup), "x-${NOPE}--y");
}

#[test]
fn the_runner_replaces_like_go() {
    let table = [
        ("$A ${A} %A%", "a a %A%"),
        ("$B", "$A"),
        ("$$A", "$A"),
        ("$NOPE|$1|$*|${NOPE}", "|||"),
        ("a$", "a$"),
        ("${}x", "x"),
        ("5$ ü$Aü", "5$ üaü"),
    ];
    for (text, expected) in table {
        assert_eq!(expand_shell(text, &lookup), expected, "{text}");
    }
}

#[test]
fn values_are_expanded_recursively_in_any_order() {
    let yaml = layer(&[
        ("C", "${B}-c"),
        ("B", "$A-b"),
        ("A", "a"),
        ("D", "$$A $$$A %%A%%"),
        ("SELF", "x$SELF"),
        ("CI", "$CI+"),
        ("R", "[$RAW]"),
        ("U", "$NOPE."),
    ]);
    let mut predefined = layer(&[("CI", "true")]);
    predefined.insert("RAW".into(), Variable::raw("$A"));
    let scope = Scope::new(vec![&predefined, &yaml]);
    let table = [
        ("C", "a-b-c", "a-b-c"),
        ("D", "$$A $$a %%A%%", "$$A $$a %%A%%"),
        ("SELF", "x", "x$SELF"),
        ("CI", "true+", "true+"),
        ("R", "[$A]", "[$RAW]"),
        ("U", ".", "$NOPE."),
    ];
    for (name, server, runner) in table {
        assert_eq!(scope.expanded(name).as_deref(), Some(server), "{name}");
        assert_eq!(scope.for_runner(name).as_deref(), Some(runner), "{name}");
    }
    assert_eq!(scope.value("C").as_deref(), Some("${B}-c"));
    assert_eq!(scope.expanded("NOPE"), None);
}

#[test]
fn higher_layers_win_and_lower_ones_are_listed_first() {
    let (low, high) = (layer(&[("A", "1"), ("B", "1")]), layer(&[("B", "2"), ("C", "2")]));
    let scope = Scope::new(vec![&low, &high]);
    let all: Vec<_> = scope.iter().map(|(name, v)| (name, v.value.as_str())).collect();
    assert_eq!(all, [("A", "1"), ("B", "2"), ("C", "2")]);
}

#[test]
fn circles_are_found_and_self_references_are_none() {
    let yaml =
        layer(&[("A", "$B"), ("B", "$C"), ("C", "$A"), ("S", "$S"), ("X", "$Y"), ("Y", "%X%"), ("Z", "$$Z")]);
    assert_eq!(circles(&Scope::new(vec![&yaml])), [vec!["A", "B", "C"], vec!["X", "Y"]]);
    let mut raw = layer(&[("B", "$A")]);
    raw.insert("A".into(), Variable::raw("$B"));
    assert!(circles(&Scope::new(vec![&raw])).is_empty());
}

#[test]
fn long_chains_and_doubling_values_are_survived() {
    let chain: Layer =
        (0..50_000).map(|i| (format!("V{i}"), Variable::new(format!("$V{}", i + 1)))).collect();
    let scope = Scope::new(vec![&chain]);
    assert_eq!(scope.expanded("V0").as_deref(), Some(""));
    assert!(circles(&scope).is_empty());
    let mut bomb: Layer =
        (0..64).map(|i| (format!("V{i}"), Variable::new(format!("$V{0}$V{0}", i + 1)))).collect();
    bomb.insert("V64".into(), Variable::new("boom"));
    let length = Scope::new(vec![&bomb]).expanded("V0").map(|v| v.len());
    assert!(length.is_some_and(|l| l <= 1 << 21), "{length:?}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[$%{}A-C_1 ü-]{0,20}") {
        let yaml = layer(&[("A", &text), ("B", "$A"), ("C", "${B}%A%")]);
        let scope = Scope::new(vec![&yaml]);
        scope.expanded("C");
        scope.for_runner("C");
        circles(&scope);
        expand_shell(&text, &lookup);
        expand(&text, Unknown::Keep, &lookup);
    }
}
