//! What a delivery tells, whichever forge it came from.

use crate::server::engine::MergeRequest;

/// The object id that stands for "there is none".
pub const NOTHING: &str = "0000000000000000000000000000000000000000";
/// Longest ref that is taken; git's own files have names of at most so many bytes.
const LONGEST_REF: usize = 255;

/// Something happened in a repository.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A branch or tag was made, moved or deleted.
    Push(Push),
    /// A merge request has new commits.
    Proposal(Proposal),
}

/// See [`Event::Push`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Full name of the ref: `refs/heads/main`.
    pub reference: String,
    /// What it was; [`NOTHING`]: it was not.
    pub before: String,
    /// What it is; [`NOTHING`]: it was deleted.
    pub after: String,
    /// Who pushed, as the forge names them.
    pub sender: String,
    /// `git push -o ci.skip`
    pub skip: bool,
    /// `git push -o ci.variable=…`
    pub variables: Vec<(String, String)>,
}

/// See [`Event::Proposal`].
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// The merge request.
    pub request: MergeRequest,
    /// Its newest commit; empty: the forge gives only part of the id.
    pub sha: String,
    /// Who did it, as the forge names them.
    pub sender: String,
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Proposal) -> bool {
        let key = |p: &Proposal| {
            let r = &p.request;
            let branches = (r.source_branch.clone(), r.target_branch.clone(), r.git_ref.clone());
            (
                p.sha.clone(),
                p.sender.clone(),
                r.iid,
                r.title.clone(),
                branches,
                r.fork,
                r.draft,
                r.labels.clone(),
            )
        };
        key(self) == key(other)
    }
}

/// What a parser makes of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// These happened, in order.
    Events(Vec<Event>),
    /// Nothing that a pipeline could run for, and why.
    Nothing(String),
}

impl Told {
    /// One event.
    pub(super) fn one(event: Event) -> Told {
        Told::Events(vec![event])
    }

    /// None, and why.
    pub(super) fn nothing(why: impl Into<String>) -> Told {
        Told::Nothing(why.into())
    }
}

impl Push {
    /// A push as a forge tells it.
    ///
    /// # Errors
    /// The ref or a commit is none that git would take.
    pub(super) fn checked(reference: &str, before: &str, after: &str, sender: &str) -> Result<Push, String> {
        if !is_ref(reference) {
            return Err(format!("`{}` is no name of a branch or tag", plain(reference)));
        }
        for id in [before, after] {
            if !is_id(id) {
                return Err(format!("`{}` is no id of a commit", plain(id)));
            }
        }
        Ok(Push {
            reference: reference.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            sender: plain(sender),
            ..Push::default()
        })
    }

    /// Was the branch or tag deleted?
    pub fn deleted(&self) -> bool {
        is_nothing(&self.after)
    }

    /// Name without `refs/heads/` or `refs/tags/`, and whether it is a tag.
    pub fn name(&self) -> (&str, bool) {
        short(&self.reference)
    }
}

impl Proposal {
    /// A merge request as a forge tells it. An id of a commit that is not whole is left out.
    ///
    /// # Errors
    /// A branch or ref is none that git would take.
    pub(super) fn checked(request: MergeRequest, sha: &str, sender: &str) -> Result<Proposal, String> {
        for branch in [&request.source_branch, &request.target_branch] {
            if !is_ref(&format!("refs/heads/{branch}")) {
                return Err(format!("`{}` is no name of a branch", plain(branch)));
            }
        }
        if request.iid <= 0 {
            return Err("the merge request has no number".to_owned());
        }
        let sha = if is_id(sha) && !is_nothing(sha) { sha.to_owned() } else { String::new() };
        let request = MergeRequest { title: plain(&request.title), ..request };
        Ok(Proposal { request, sha, sender: plain(sender) })
    }
}

/// `refs/heads/main` without its beginning, and whether it is a tag.
pub fn short(reference: &str) -> (&str, bool) {
    match reference.strip_prefix("refs/tags/") {
        Some(tag) => (tag, true),
        None => (reference.strip_prefix("refs/heads/").unwrap_or(reference), false),
    }
}

/// A whole object id, SHA-1 or SHA-256.
pub fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
}

/// The id of nothing, of either length.
pub fn is_nothing(id: &str) -> bool {
    id.bytes().all(|b| b == b'0')
}

/// A branch or tag by its full name, by git's rules (`git help check-ref-format`); and its name never looks like an
/// option.
pub fn is_ref(reference: &str) -> bool {
    let (name, _) = short(reference);
    if name == reference || name.is_empty() || reference.len() > LONGEST_REF || name.starts_with('-') {
        return false;
    }
    let bad = |c: char| c.is_ascii_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    !name.contains(bad)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name != "@"
        && name.split('/').all(part)
}

/// One line without control characters, of bounded length: names and titles from outside.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_follow_gits_rules_and_are_never_options() {
        let good =
            ["refs/heads/main", "refs/heads/feature/a-b", "refs/tags/v1.0", "refs/heads/ä$(id)`x`;|'\"&"];
        for name in good {
            assert!(is_ref(name), "{name}");
        }
        let bad = [
            "",
            "main",
            "refs/heads/",
            "refs/heads/-x",
            "refs/tags/--upload-pack=x",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/a\n",
            "refs/heads/a\0",
            "refs/heads/.a",
            "refs/heads/a/.b",
            "refs/heads/a//b",
            "refs/heads/a.lock",
            "refs/heads/a/",
            "refs/heads/@",
            "refs/heads/a@{1}",
            "refs/heads/a:b",
            "refs/pull/1/head",
            "refs/heads/a.",
            "refs/notes/x",
        ];
        for name in bad {
            assert!(!is_ref(name), "{name:?}");
        }
        assert!(!is_ref(&format!("refs/heads/{}", "a".repeat(300))));
    }

    #[test]
    fn ids_are_whole_and_lower_case() {
        assert!(is_id(NOTHING) && is_id(&"a1".repeat(20)) && is_id(&"a1".repeat(32)));
        for bad in ["", "abc", &"A1".repeat(20), &"g1".repeat(20), &"a1".repeat(21)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
