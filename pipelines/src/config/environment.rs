//! `environment`.

use super::check::{Entry, Findings, Path};
use super::ruby;
use crate::plan::Environment;
use crate::yaml::Node;

const KEYS: [&str; 7] = ["name", "url", "action", "on_stop", "auto_stop_in", "kubernetes", "deployment_tier"];
const KUBERNETES_KEYS: [&str; 5] =
    ["namespace", "agent", "flux_resource_path", "managed_resources", "dashboard"];
const ACTIONS: [&str; 5] = ["start", "stop", "prepare", "verify", "access"];

/// `environment`, the short form as a map.
pub(super) fn environment(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Environment {
    let mut entry = Entry::new(node, path, findings);
    check(&mut entry);
    if let Some(kubernetes) = entry.field("kubernetes").filter(|_| entry.valid) {
        check_kubernetes(kubernetes, &path.child("kubernetes"), entry.findings);
    }
    match node.as_str() {
        Some(name) => {
            Environment { name: name.to_owned(), action: Some("start".to_owned()), ..Environment::default() }
        }
        None => Environment {
            name: entry.text("name").unwrap_or_default(),
            url: entry.text("url"),
            action: entry.text("action"),
            on_stop: entry.text("on_stop"),
            auto_stop_in: entry.text("auto_stop_in"),
            deployment_tier: entry.text("deployment_tier"),
            kubernetes: entry.field("kubernetes").map(Node::to_json),
        },
    }
}

fn check(entry: &mut Entry<'_, '_, '_>) {
    let plain = ruby::is_string(entry.node);
    if !plain && entry.node.as_mapping().is_none() {
        entry.fail("wrong-type", "config", "should be a hash or a string");
    }
    let name = if plain { Some(entry.node) } else { entry.field("name") };
    if name.is_none_or(ruby::is_blank) {
        entry.fail("blank", "name", "can't be blank");
    }
    if !name.is_some_and(|n| ruby::is_string(n) && n.as_str().is_some_and(is_name)) {
        let message = "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', and spaces, \
                       but it cannot start or end with '/'";
        entry.fail("bad-value", "name", message);
    }
    if entry.node.as_mapping().is_none() {
        return;
    }
    entry.allowed_keys(&KEYS);
    entry.string("url");
    entry.at_most("url", 255, "is too long (maximum is 255 characters)");
    entry.string("action");
    entry.one_of("action", &ACTIONS, "should be start, stop, prepare, verify, or access");
    entry.string("deployment_tier");
    entry.string("on_stop");
    entry.hash_attribute("kubernetes");
    entry.string("auto_stop_in");
}

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "_/${}. -".contains(c);
    !name.is_empty() && name.chars().all(known) && !name.starts_with('/') && !name.ends_with('/')
}

fn check_kubernetes(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    entry.present("config");
    entry.allowed_keys(&KUBERNETES_KEYS);
    for key in ["namespace", "agent", "flux_resource_path"] {
        entry.string(key);
    }
    if entry.field("flux_resource_path").is_some_and(|n| !ruby::is_blank(n)) {
        entry.present("namespace");
        entry.present("agent");
    }
}
