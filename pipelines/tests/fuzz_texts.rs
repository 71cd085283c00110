//! The small languages inside a configuration, on random texts: nothing may panic, and similar questions get the
//! same answer. For a long run see `benchmarks/README.md`.

use pipelines::expression::{self, Regexp};
use pipelines::glob;
use pipelines::source::SourceMap;
use pipelines::variables::{Layer, Scope, Unknown, Variable, circles};
use pipelines::{duration, yaml};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Texts made of the given pieces.
fn pieces(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(
        prop_oneof![9 => select(words).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)],
        0..most,
    )
    .prop_map(|words| words.concat())
}

const EXPRESSION: &[&str] = &[
    "$A",
    "$B",
    "$",
    " ",
    " ",
    "==",
    "!=",
    "=~",
    "!~",
    "&&",
    "||",
    "!",
    "(",
    ")",
    "null",
    "true",
    "false",
    "\"x\"",
    "'y'",
    "\"",
    "'",
    "/",
    "/x/",
    "/(a|b)+$/im",
    "/[/",
    "\\/",
    "$[[ inputs.a ]]",
    "é",
];
const GLOB: &[&str] =
    &["*", "**", "**/", "/", "?", "[", "]", "[a-z]", "[!", "^", "{", "}", ",", "\\", "a", "b", ".", "é", "-"];
const YAML: &[&str] = &[
    "a",
    "b: ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "? ",
    "&x ",
    "*x",
    "!t ",
    "!!str ",
    "!reference ",
    "<<",
    "|",
    ">",
    "\"",
    "'",
    "\\",
    "#",
    "---\n",
    "...\n",
    "\t",
    "\r\n",
    "%",
    "@",
    "1",
    "0x",
    ":",
    "é",
    "\u{feff}",
    "\u{85}",
    "2024-01-01",
];
const VALUE: &[&str] = &["$A", "${B}", "%C%", "$$", "%%", "${", "}", "%", "$", "x", "é", " "];
const DURATION: &[&str] = &[
    "1",
    "2.5",
    " ",
    "h",
    "min",
    "week",
    "years",
    "and",
    ",",
    "-",
    ":",
    "never",
    "inf",
    "nan",
    "infinity",
    "999999999999999999999",
];

proptest! {
    #[test]
    fn an_expression_is_parsed_or_refused(text in pieces(EXPRESSION, 24)) {
        if let Ok(expression) = expression::parse(&text) {
            let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
            prop_assert_eq!(expression.holds(&lookup), expression.holds(&lookup));
            expression.variables();
        }
        let _ = expression::parse_with_inputs(&text);
        let _ = Regexp::literal(&text).map(|regexp| regexp.is_match(&text));
    }

    #[test]
    fn every_glob_is_a_pattern(pattern in pieces(GLOB, 24), path in "[ab./é{},]{0,24}") {
        prop_assert_eq!(glob::matches(&pattern, &path), glob::Pattern::new(&pattern).matches(&path));
    }

    #[test]
    fn yaml_is_parsed_or_refused_with_places_in_the_text(text in pieces(YAML, 60)) {
        let mut sources = SourceMap::new();
        let file = sources.add("x.yml", text.as_str(), None);
        let mut hints = Vec::new();
        if let Err(error) = yaml::parse(&text, file, &mut hints) {
            hints.push(error);
        }
        for (span, _) in hints.iter().flat_map(|hint| &hint.labels) {
            prop_assert!(text.get(span.range()).is_some(), "{:?}", span);
        }
    }

    #[test]
    fn variables_are_expanded_whatever_they_refer_to(values in vec(pieces(VALUE, 12), 3)) {
        let layer: Layer =
            ["A", "B", "C"].into_iter().zip(&values).map(|(k, v)| (k.to_owned(), Variable::new(v.as_str()))).collect();
        let scope = Scope::new(vec![&layer]);
        circles(&scope);
        for name in ["A", "B", "C"] {
            prop_assert!(scope.expanded(name).is_some() && scope.for_runner(name).is_some());
            scope.expand(&values[0], Unknown::Keep);
        }
    }

    #[test]
    fn a_duration_is_a_number_or_nothing(text in pieces(DURATION, 8)) {
        prop_assert!(duration::parse(&text).is_none_or(|seconds| seconds.is_finite() && seconds > 0.0));
    }
}
