//! Wildcards of local includes. They are not the globs of rules: `*` stays inside a directory, `**` crosses them.

use regex::Regex;

/// The tracked paths that a pattern with `*` means, in their order.
pub(super) fn matching<'p>(pattern: &str, paths: &'p [String]) -> Vec<&'p String> {
    let escaped = regex::escape(pattern.trim_start_matches('/'))
        .replace(r"\*\*/", "(?:.*/)?")
        .replace(r"\*\*", ".*")
        .replace(r"\*", "[^/]*");
    match Regex::new(&format!("^{escaped}$")) {
        Ok(regex) => paths.iter().filter(|path| regex.is_match(path)).collect(),
        // only a pattern of absurd length does not compile
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_its_directory() {
        let paths: Vec<String> = ["a.yml", "ci/a.yml", "ci/b.yaml", "ci/sub/c.yml", "ci/sub/deep/e.yml"]
            .map(String::from)
            .to_vec();
        let cases = [
            ("ci/*.yml", vec!["ci/a.yml"]),
            ("/ci/*.yml", vec!["ci/a.yml"]),
            ("ci/**.yml", vec!["ci/a.yml", "ci/sub/c.yml", "ci/sub/deep/e.yml"]),
            ("ci/**/*.yml", vec!["ci/a.yml", "ci/sub/c.yml", "ci/sub/deep/e.yml"]),
            ("**/c.yml", vec!["ci/sub/c.yml"]),
            ("ci/*/c.yml", vec!["ci/sub/c.yml"]),
            ("*", vec!["a.yml"]),
            ("none/*.yml", vec![]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(matching(pattern, &paths), expected, "{pattern}");
        }
    }
}
