//! Agreement to put one release into one environment, signed with an ssh key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::deploy::{DeployFile, Environment};
use crate::error::{CliError, CliResult};
use crate::ledger;
use crate::signature;

/// What is agreed to.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Release version.
    pub version: &'a str,
    /// What is in it.
    pub content: &'a str,
    /// Environment.
    pub environment: &'a str,
    /// Where and how it would be put there.
    pub settings: &'a Environment,
}

/// The text that is signed. Another version, other content, another environment, or other targets, directory or
/// strategy there: another text.
pub fn text(subject: &Subject) -> String {
    let Environment { delivery, targets, directory, strategy, health, soak, .. } = subject.settings;
    let plan = format!("{delivery:?} {targets:?} {directory:?} {strategy:?} {health:?} {soak:?}");
    format!(
        "slipway approval 1\nversion {}\ncontent {}\nenvironment {}\nplan {}\n",
        subject.version,
        subject.content,
        subject.environment,
        crate::digest::sha256_hex(plan.as_bytes())
    )
}

/// The people's keys as an `allowed_signers` file, for signatures in `namespace`. A path of a `.pub` file is
/// relative to `root`.
///
/// # Errors
/// A `.pub` file can't be read.
pub fn allowed_signers(
    people: &BTreeMap<String, Vec<String>>,
    root: &Path,
    namespace: &str,
) -> CliResult<String> {
    let mut lines = String::new();
    for (person, keys) in people {
        if person.contains(|c: char| c.is_whitespace() || c.is_control() || ",*?!\"#".contains(c)) {
            return Err(CliError::usage(format!("`{person}` in `people` is no name: use one word")));
        }
        for key in keys {
            let is_path = key.ends_with(".pub") && !key.trim().contains(' ');
            let read = || std::fs::read_to_string(root.join(key));
            let text = if is_path { read() } else { Ok(key.clone()) };
            let text =
                text.map_err(|e| CliError::usage(format!("reading the key `{key}` of `{person}`: {e}")))?;
            // only type and key are taken, so that nobody's comment becomes an option
            let words: Vec<&str> = text.split_whitespace().collect();
            let at = words.iter().position(|word| {
                word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-")
            });
            let (Some(kind), Some(data)) = (at.map(|at| words[at]), at.and_then(|at| words.get(at + 1)))
            else {
                return Err(CliError::usage(format!("a key of `{person}` in `people` is no ssh public key"))
                    .hint("write it as `ssh-ed25519 AAAA...`, or name a `.pub` file"));
            };
            lines.push_str(&format!("{person} namespaces=\"{namespace}\" {kind} {data}\n"));
        }
    }
    Ok(lines)
}

/// Who agreed, of those who may; each once.
///
/// # Errors
/// The people's keys can't be read.
pub fn agreed(
    file: &DeployFile,
    root: &Path,
    subject: &Subject,
    approvals: &[&ledger::Approval],
    author: &str,
) -> CliResult<BTreeSet<String>> {
    let rules = &subject.settings.approvals;
    let allowed = allowed_signers(&file.people, root, signature::APPROVAL)?;
    let text = text(subject);
    let mut people = BTreeSet::new();
    for approval in approvals {
        let signed = signature::signer(&allowed, signature::APPROVAL, &approval.signature, text.as_bytes())?;
        people.extend(signed.filter(|person| {
            (rules.from.is_empty() || rules.from.contains(person))
                && (rules.author || !is_author(person, author, file.people.get(person)))
        }));
    }
    Ok(people)
}

/// Is the person of this name the author `Name <mail>`? By name, mail address, its part before the `@`, or the
/// comment of a key.
pub(crate) fn is_author(person: &str, author: &str, keys: Option<&Vec<String>>) -> bool {
    let (name, mail) = author.split_once('<').unwrap_or((author, ""));
    let (name, mail) = (name.trim(), mail.trim_end_matches('>').trim());
    let comment = |key: &String| {
        let comment = key.split_whitespace().nth(2).unwrap_or_default();
        !comment.is_empty() && comment.eq_ignore_ascii_case(mail)
    };
    [name, mail, mail.split('@').next().unwrap_or_default()]
        .iter()
        .any(|word| !word.is_empty() && word.eq_ignore_ascii_case(person))
        || keys.is_some_and(|keys| keys.iter().any(comment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_known_by_name_mail_or_key() {
        let keys = vec!["ssh-ed25519 AAAA ann@example.org".to_owned()];
        for (person, author, expected) in [
            ("ann", "Ann <ann@example.org>", true),
            ("a.smith", "Ann <ann@example.org>", true),
            ("ann", "Bob <ann@example.com>", true),
            ("bob", "Ann <other@example.org>", false),
            ("bob", "", false),
        ] {
            assert_eq!(is_author(person, author, Some(&keys)), expected, "{person} {author}");
        }
    }

    #[test]
    fn the_text_changes_with_everything_that_is_agreed_to() {
        let settings = Environment { targets: vec!["a".into()], ..Environment::default() };
        let other = Environment { targets: vec!["b".into()], ..Environment::default() };
        let subject = Subject { version: "1", content: "c", environment: "prod", settings: &settings };
        let texts: BTreeSet<String> = [
            subject,
            Subject { version: "2", ..subject },
            Subject { content: "d", ..subject },
            Subject { environment: "uat", ..subject },
            Subject { settings: &other, ..subject },
        ]
        .iter()
        .map(text)
        .collect();
        assert_eq!(texts.len(), 5);
    }

    #[test]
    fn options_in_a_key_line_do_not_get_into_the_list_of_signers() {
        let people = BTreeMap::from([(
            "ann".to_owned(),
            vec!["ann namespaces=\"git\" ssh-ed25519 AAAA comment cert-authority".to_owned()],
        )]);
        let lines = allowed_signers(&people, Path::new("."), "n").unwrap();
        assert_eq!(lines, "ann namespaces=\"n\" ssh-ed25519 AAAA\n");
        let wrong = BTreeMap::from([("*".to_owned(), vec!["ssh-ed25519 AAAA".to_owned()])]);
        assert!(allowed_signers(&wrong, Path::new("."), "n").is_err());
    }
}
