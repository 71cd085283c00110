//! `cache`: one or a list of them.

use super::check::{Entry, Findings, Path, ROOT, flatten, texts};
use super::ruby;
use super::types::{CacheConfig, CacheKey};
use crate::plan::Cache;
use crate::yaml::{self, Node, Value};

const KEYS: [&str; 7] = ["key", "untracked", "paths", "when", "policy", "unprotect", "fallback_keys"];

/// All caches. `path` is that of the keyword; messages about the list itself say `caches`.
pub(super) fn caches(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<CacheConfig> {
    let list = Path::child(path.parent().unwrap_or(&ROOT), "caches");
    let mut entry = Entry::new(node, &list, findings);
    entry.is(
        "config",
        |n| n.as_mapping().is_some() || n.as_sequence().is_some(),
        "can only be a hash or an array",
    );
    if node.as_sequence().is_some_and(|items| items.len() > 4) {
        entry.fail("too-long", "config", "no more than 4 caches can be created");
    }
    if !entry.valid {
        return Vec::new();
    }
    let mut items = Vec::new();
    flatten(node, &mut items);
    items.into_iter().filter(|n| !n.is_null()).map(|n| cache(n, path, findings)).collect()
}

fn cache(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> CacheConfig {
    let mark = findings.mark();
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&KEYS);
    if let Some(policy) = entry.field("policy").filter(|n| !ruby::is_blank(n)) {
        entry.string("policy");
        let text = yaml::text(policy);
        if !["push", "pull", "$"].iter().any(|part| text.contains(part)) {
            entry.fail("bad-value", "policy", "should be a variable or one of: pull-push, push, pull");
        }
    }
    entry.string("when");
    let moments = ["on_success", "on_failure", "always"];
    entry.one_of("when", &moments, "should be one of: on_success, on_failure, always");
    entry.at_most("fallback_keys", 5, "has to many entries (maximum 5)");
    let sound = entry.valid;
    let before = findings.look_on(sound, node.span, mark);
    let field = |key| super::check::field(node, key);
    let cache = Cache {
        key: String::new(),
        paths: field("paths").map(|n| strings(n, &path.child("paths"), findings)).unwrap_or_default(),
        untracked: field("untracked").map(|n| boolean(n, &path.child("untracked"), findings)),
        fallback_keys: field("fallback_keys")
            .map(|n| strings(n, &path.child("fallback_keys"), findings))
            .unwrap_or_default(),
        policy: field("policy").and_then(Node::as_str).unwrap_or("pull-push").to_owned(),
        when: field("when").and_then(Node::as_str).unwrap_or("on_success").to_owned(),
        unprotect: field("unprotect").is_some_and(|n| boolean(n, &path.child("unprotect"), findings)),
    };
    let key = field("key").map(|n| key(n, &path.child("key"), findings));
    findings.look_back(&before);
    CacheConfig { key, cache }
}

/// A list of texts.
pub(super) fn strings(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    Entry::new(node, path, findings).strings("config");
    texts(node)
}

/// A boolean.
pub(super) fn boolean(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> bool {
    Entry::new(node, path, findings).boolean("config");
    matches!(node.value, Value::Bool(true))
}

fn key(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> CacheKey {
    let mut entry = Entry::new(node, path, findings);
    if let Some(text) = node.as_str() {
        key_text(&mut entry, text);
        return CacheKey::Text(text.to_owned());
    }
    if node.as_mapping().is_none() {
        entry.unsupported("should be a hash, a string or a symbol");
        return CacheKey::Text(String::new());
    }
    entry.allowed_keys(&["files", "files_commits", "prefix"]);
    entry.one_of_keys(&["files", "files_commits"]);
    let valid = entry.valid;
    let commits = entry.has("files_commits");
    let name = if commits { "files_commits" } else { "files" };
    let list = entry.field(name).filter(|_| valid);
    let prefix = entry.field("prefix").filter(|_| valid);
    let files = list.map(|n| files(n, &path.child(name), findings)).unwrap_or_default();
    let prefix = prefix.map(|n| {
        let at = path.child("prefix");
        let mut entry = Entry::new(n, &at, findings);
        match n.as_str() {
            Some(text) => key_text(&mut entry, text),
            None => entry.fail("wrong-type", "config", "should be a string or symbol"),
        }
        yaml::text(n)
    });
    CacheKey::Files { files, prefix, commits }
}

/// A key names a place in the cache storage, so it must not walk through it.
fn key_text(entry: &mut Entry<'_, '_, '_>, text: &str) {
    let plain = unescape(text);
    if plain.contains(&b'/') {
        entry.fail("bad-value", "config", "cannot contain the \"/\" character");
    } else if plain == b"." || plain == b".." {
        entry.fail("bad-value", "config", "cannot be \".\" or \"..\"");
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        let hex = bytes.get(i + 1..i + 3).filter(|_| byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(decoded) => {
                plain.push(decoded);
                i += 3;
            }
            None => {
                plain.push(byte);
                i += 1;
            }
        }
    }
    plain
}

fn files(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    let mut entry = Entry::new(node, path, findings);
    entry.strings("config");
    if ruby::length(node) < 1 {
        entry.fail("blank", "config", "requires at least 1 item");
    }
    entry.at_most("config", 2, "has too many items (maximum is 2)");
    texts(node).into_iter().map(|f| f.trim_start_matches('/').to_owned()).collect()
}
