//! `image` and `services`.

use super::check::{Entry, Findings, Path, flatten, texts};
use super::{ruby, variables};
use crate::plan::{Image, Service};
use crate::yaml::Node;

const IMAGE_KEYS: [&str; 6] = ["docker", "kubernetes", "name", "entrypoint", "ports", "pull_policy"];
const SERVICE_KEYS: [&str; 9] =
    ["command", "alias", "variables", "docker", "kubernetes", "name", "entrypoint", "ports", "pull_policy"];
const PULL_POLICIES: [&str; 3] = ["always", "never", "if-not-present"];

/// `image`.
pub(super) fn image(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Image {
    let mut entry = Entry::new(node, path, findings);
    check(&mut entry);
    entry.allowed_keys(&IMAGE_KEYS);
    parts(&mut entry)
}

/// `services`.
pub(super) fn services(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<Service> {
    if node.as_sequence().is_none() {
        Entry::new(node, path, findings).fail("wrong-type", "config", "should be an array");
        return Vec::new();
    }
    let mut items = Vec::new();
    flatten(node, &mut items);
    let at = path.child("service");
    items.into_iter().filter(|n| !n.is_null()).map(|n| service(n, &at, findings)).collect()
}

fn service(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Service {
    let mut entry = Entry::new(node, path, findings);
    check(&mut entry);
    entry.allowed_keys(&SERVICE_KEYS);
    entry.strings("command");
    entry.string("alias");
    let image = parts(&mut entry);
    let mut service = Service { image, ..Service::default() };
    if entry.valid {
        service.alias = entry.text("alias");
        service.command = entry.field("command").map(texts);
        if let Some(node) = entry.field("variables") {
            let all = variables::variables(node, &path.child("variables"), entry.findings, &[]);
            service.variables = all.into_iter().map(|(name, v)| (name, v.value)).collect();
        }
    }
    service
}

/// What an image and a service have in common.
fn check(entry: &mut Entry<'_, '_, '_>) {
    let plain = ruby::is_string(entry.node);
    if !plain && entry.node.as_mapping().is_none() {
        entry.fail("wrong-type", "config", "should be a hash or a string");
    }
    if entry.has("ports") {
        entry.fail("unknown-key", "config", "contains disallowed keys: ports");
    }
    let name = if plain { Some(entry.node) } else { entry.field("name") };
    if !name.is_some_and(ruby::is_string) {
        entry.fail("wrong-type", "name", "should be a string");
    }
    if name.is_none_or(ruby::is_blank) {
        entry.fail("blank", "name", "can't be blank");
    }
    entry.strings("entrypoint");
    executor_options(entry, "docker", &[("platform", 64), ("user", 255)]);
    executor_options(entry, "kubernetes", &[("user", 255)]);
}

/// GitLab holds these against a JSON schema, and prints its validator's words.
fn executor_options(entry: &mut Entry<'_, '_, '_>, executor: &str, keys: &[(&str, usize)]) {
    let Some(options) = entry.field(executor) else { return };
    let attribute = "executor_opts";
    let Some(map) = options.as_mapping() else {
        let message = format!("value at `/{executor}` is not an object");
        return entry.fail_at("wrong-type", attribute, message, options.span);
    };
    for (key, value) in map.iter() {
        let at = format!("`/{executor}/{key}`");
        let node = &value.node;
        let message = match keys.iter().find(|(known, _)| *known == key.to_string()) {
            None => format!("object property at {at} is a disallowed additional property"),
            Some(_) if executor == "kubernetes" && matches!(node.value, crate::yaml::Value::Integer(_)) => {
                continue;
            }
            Some(_) if !ruby::is_text(node) => format!("value at {at} is not a string"),
            Some(_) if ruby::length(node) == 0 => format!("string length at {at} is less than: 1"),
            Some((_, most)) if ruby::length(node) > *most => {
                format!("string length at {at} is greater than: {most}")
            }
            Some(_) => continue,
        };
        entry.fail_at("bad-value", attribute, message, node.span);
    }
}

fn parts(entry: &mut Entry<'_, '_, '_>) -> Image {
    let node = entry.node;
    if !entry.valid {
        return Image::default();
    }
    if let Some(name) = node.as_str() {
        return Image { name: name.to_owned(), ..Image::default() };
    }
    let policy = entry.field("pull_policy");
    Image {
        name: entry.text("name").unwrap_or_default(),
        entrypoint: entry.field("entrypoint").map(texts),
        docker: entry.field("docker").map(Node::to_json),
        kubernetes: entry.field("kubernetes").map(Node::to_json),
        pull_policy: policy.map(|n| pull_policy(n, entry.path, entry.findings)).unwrap_or_default(),
    }
}

fn pull_policy(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    let at = path.child("pull_policy");
    let mut entry = Entry::new(node, &at, findings);
    entry.strings_or_string("config");
    if node.as_sequence().is_some() {
        entry.known_items("config", &PULL_POLICIES);
        entry.present("config");
    } else if ruby::is_string(node) {
        entry.one_of("config", &PULL_POLICIES, "is not included in the list");
    }
    texts(node)
}
