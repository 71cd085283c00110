//! Pages about findings: `ci lint --explain CODE`. They stand in `codes.md`, a section for each code.

use pipelines::diagnostic::did_you_mean;

const PAGES: &str = include_str!("codes.md");

/// The page of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The code.
    pub code: &'static str,
    /// What it means, an example, what to do.
    pub text: &'static str,
}

impl Page {
    /// The first sentence.
    pub fn summary(&self) -> &'static str {
        let line = self.text.lines().next().unwrap_or_default();
        line.strip_suffix('.').unwrap_or(line)
    }
}

/// All pages, in the order of the file: errors by the time at which they are found, then warnings.
pub fn pages() -> impl Iterator<Item = Page> {
    let sections = PAGES.split("\n## ").skip(1);
    sections.filter_map(|section| {
        let (code, text) = section.split_once('\n')?;
        Some(Page { code: code.trim(), text: text.trim_matches('\n') })
    })
}

/// The page of a code.
pub fn page(code: &str) -> Option<Page> {
    pages().find(|page| page.code == code)
}

/// The code that a mistyped one was meant to be.
pub fn near(code: &str) -> Option<&'static str> {
    did_you_mean(code, pages().map(|page| page.code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Codes in the sources of the language: the first argument of whatever makes a finding.
    fn used() -> BTreeSet<String> {
        let call = Regex::new(
            r#"(?x)(?:\b(?:error|warning|hint|fail|fail_at|joined)\(\s*|\bcode:\s*|\{\s*\()"([a-z]+(?:-[a-z]+)*)"\s*,"#,
        )
        .expect("a pattern");
        let mut codes = BTreeSet::new();
        let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/src")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else if !path.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path).expect("a source file");
                    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                    codes.extend(call.captures_iter(text).map(|captures| captures[1].to_owned()));
                }
            }
        }
        codes
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let pages: BTreeSet<String> = pages().map(|page| page.code.to_owned()).collect();
        let used = used();
        assert!(used.len() > 50, "the sources are not read right: {used:?}");
        assert_eq!(used, pages);
    }

    #[test]
    fn every_page_begins_with_a_sentence_and_says_more() {
        for page in pages() {
            let mut lines = page.text.lines();
            let first = lines.next().unwrap_or_default();
            assert!(first.ends_with('.') && first.len() < 110, "{}: {first}", page.code);
            assert_eq!(lines.next(), Some(""), "{}", page.code);
            assert!(page.text.len() > first.len() + 60, "{} says nothing more", page.code);
        }
    }
}
