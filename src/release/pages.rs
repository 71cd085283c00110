//! The page of each finding: `ci release check --explain CODE`. They stand in `codes.md`, a section for each code.

const PAGES: &str = include_str!("codes.md");

/// All codes with their pages, in order.
pub fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let sections = PAGES.split("\n## ").skip(1);
    sections.filter_map(|section| section.split_once('\n').map(|(code, text)| (code.trim(), text.trim())))
}

/// The page of a code, in either case of letters.
#[must_use]
pub fn page(code: &str) -> Option<&'static str> {
    pages().find(|(known, _)| known.eq_ignore_ascii_case(code)).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Codes in the sources of `src/release`, tests aside.
    fn used(dir: &Path, codes: &mut BTreeSet<String>) {
        let code = regex::Regex::new(r#""([RA]\d{3})""#).unwrap();
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                used(&path, codes);
            } else if !path.ends_with("tests.rs") && path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                codes.extend(code.captures_iter(text).map(|found| found[1].to_owned()));
            }
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let mut codes = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/release"), &mut codes);
        assert!(codes.len() > 25, "{codes:?}");
        assert_eq!(codes, pages().map(|(code, _)| code.to_owned()).collect());
    }

    #[test]
    fn every_page_begins_with_a_sentence_and_says_what_to_do() {
        for (code, text) in pages() {
            let first = text.lines().next().unwrap();
            assert!(first.ends_with('.') && first.len() < 90, "{code}: {first}");
            assert!(text.contains("\nWhat to do: "), "{code}");
        }
        assert_eq!(page("r008"), page("R008"));
        assert_eq!(page("R999"), None);
    }
}
