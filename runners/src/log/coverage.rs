//! `coverage`: the percentage that a job's output tells.

use regex::bytes::Regex;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

static NUMBER: LazyLock<regex::Regex> =
    LazyLock::new(|| regex::Regex::new(r"[0-9]+(\.[0-9]+)?").expect("the pattern is a constant"));

/// The number that the log tells, looked for from its last line upwards: of a line the last match counts, of the
/// match the last group, of that the first number. None: no line has one.
///
/// # Errors
/// The log can't be read, or the pattern is not one of RE2.
pub fn coverage(log: &Path, pattern: &str) -> io::Result<Option<String>> {
    let pattern = Regex::new(pattern).map_err(io::Error::other)?;
    let text = std::fs::read(log)?;
    Ok(text.rsplit(|byte| *byte == b'\n').find_map(|line| number(&pattern, line)))
}

fn number(pattern: &Regex, line: &[u8]) -> Option<String> {
    let found = pattern.captures_iter(line).last()?;
    let group = if found.len() > 1 { found.get(found.len() - 1) } else { found.get(0) };
    let text = String::from_utf8_lossy(group?.as_bytes()).into_owned();
    NUMBER.find(&text).map(|number| number.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_of_the_log_counts() {
        let table = [
            (r"TOTAL.*\d+%", "TOTAL 10 5 50%\nTOTAL 8 80%\nend\n", Some("8")),
            (r"TOTAL.*?(\d+(?:\.\d+)?)%", "TOTAL 10%\nTOTAL 82.25%\n", Some("82.25")),
            (r"(\d+)%", "1% 2% 3%\n", Some("3")),
            (r"(a)?(\d+)|(none)", "7\nnone\n", None),
            (r"Coverage: \S+", "Coverage: 71.5 %\nCoverage: unknown\n", Some("71.5")),
            (r"nothing", "Coverage: 1\n", None),
            (r"\d+\.\d+", "\x1b[32m99.9\x1b[0m\r\n", Some("99.9")),
        ];
        let dir = tempfile::tempdir().unwrap();
        for (pattern, log, expected) in table {
            let path = dir.path().join("job.log");
            std::fs::write(&path, log).unwrap();
            assert_eq!(coverage(&path, pattern).unwrap().as_deref(), expected, "{pattern} in {log:?}");
        }
        assert!(coverage(&dir.path().join("job.log"), "(").is_err());
        assert!(coverage(&dir.path().join("none"), "x").is_err());
    }
}
