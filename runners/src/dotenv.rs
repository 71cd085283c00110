//! `artifacts:reports:dotenv`: variables that a job hands on.

/// A file must be smaller than so many bytes.
pub const MAX_BYTES: usize = 5120;
/// GitLab's default for one job.
pub const MAX_VARIABLES: usize = 20;

/// Why a report is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DotenvError {
    /// Too many bytes.
    #[error("dotenv report: the file must be smaller than {MAX_BYTES} bytes")]
    TooBig,
    /// Too many variables.
    #[error("dotenv report: {0} variables, but no more than {MAX_VARIABLES} are allowed")]
    TooMany(usize),
    /// Not `KEY=value`; blank lines and comments are not allowed either.
    #[error(
        "dotenv report: line {0} is an Invalid Format: every line has to be `KEY=value`, without blank lines or comments"
    )]
    Format(usize),
    /// Letters, digits and `_` only.
    #[error("dotenv report: line {0}: a key can contain only letters, digits and `_`")]
    Key(usize),
}

/// Variables of a report, in order; a later one of the same name replaces the earlier. Quotes are kept.
///
/// # Errors
/// As GitLab refuses a report.
pub fn parse(content: &[u8]) -> Result<Vec<(String, String)>, DotenvError> {
    if content.len() >= MAX_BYTES {
        return Err(DotenvError::TooBig);
    }
    let text = String::from_utf8_lossy(content);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables: Vec<(String, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (key, value) = line.split_once('=').ok_or(DotenvError::Format(index + 1))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(DotenvError::Key(index + 1));
        }
        variables.retain(|(other, _)| other != key);
        variables.push((key.to_owned(), value.to_owned()));
    }
    if variables.len() > MAX_VARIABLES {
        return Err(DotenvError::TooMany(variables.len()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_gitlab_reads() {
        let pairs = |list: &[(&str, &str)]| {
            Ok(list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        let many: String = (0..21).map(|n| format!("V{n}=x\n")).collect();
        let table = [
            ("", pairs(&[])),
            ("A=1\nB = two = 2 \r\nA=3\n", pairs(&[("B", "two = 2"), ("A", "3")])),
            ("\u{feff}A=\"q\"", pairs(&[("A", "\"q\"")])),
            ("A=", pairs(&[("A", "")])),
            ("A=1\n\nB=2", Err(DotenvError::Format(2))),
            ("# c\nA=1", Err(DotenvError::Format(1))),
            ("export A=1", Err(DotenvError::Key(1))),
            ("=1", Err(DotenvError::Key(1))),
            (&many, Err(DotenvError::TooMany(21))),
            (&format!("A={}", "x".repeat(5118)), Err(DotenvError::TooBig)),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        assert!(parse(b"A=\xff").is_ok());
    }
}
