//! The JSON schemas of our settings files describe what the files may say: documented examples pass, mistakes don't.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use serde_json::Value as Json;
use std::path::Path;

fn schema(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn yaml(text: &str) -> Json {
    serde_yaml::from_str(text).unwrap()
}

/// Validates by the keywords that our schemas use; any other keyword fails the test.
fn is_valid(value: &Json, schema: &Json, root: &Json) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "properties" => true,
        "$ref" => {
            is_valid(value, root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(), root)
        }
        "type" => match rule {
            Json::Array(names) => names.iter().any(|name| has_type(value, name.as_str().unwrap())),
            name => has_type(value, name.as_str().unwrap()),
        },
        "enum" => rule.as_array().unwrap().contains(value),
        "minLength" => {
            value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap())
        }
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "pattern" => {
            let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(item, rule, root))),
        "required" => {
            let has =
                |key: &Json| value.as_object().is_none_or(|map| map.contains_key(key.as_str().unwrap()));
            rule.as_array().unwrap().iter().all(has)
        }
        "anyOf" => rule.as_array().unwrap().iter().any(|one| is_valid(value, one, root)),
        "oneOf" => rule.as_array().unwrap().iter().filter(|one| is_valid(value, one, root)).count() == 1,
        "additionalProperties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(key, value)| match schema.get("properties").and_then(|known| known.get(key)) {
                Some(known) => is_valid(value, known, root),
                None => rule.is_object() && is_valid(value, rule, root),
            })
        }),
        other => panic!("`{other}` is not a keyword that this test knows"),
    })
}

fn has_type(value: &Json, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("`{other}` is not a type"),
    }
}

/// YAML examples in the documentation of the settings' modules, with the schema of their file.
fn documented() -> Vec<(String, &'static str)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut examples = Vec::new();
    let directories = ["settings", "notify"].map(|name| std::fs::read_dir(source.join(name)).unwrap());
    for entry in directories.into_iter().flatten().flatten() {
        let schema = match entry.file_name().to_str() {
            Some("variables.rs") => "variables.json",
            Some("file.rs" | "lint.rs" | "notifier.rs" | "registries.rs") => "settings.json",
            _ => continue,
        };
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let docs = text.lines().take_while(|line| line.starts_with("//!"));
        let docs: Vec<&str> = docs.map(|line| line.trim_start_matches("//!")).collect();
        let docs = docs.join("\n");
        examples.extend(docs.split("```yaml\n").skip(1).map(|block| {
            let example = block.split("\n ```").next().unwrap();
            let lines: Vec<&str> =
                example.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
            (lines.join("\n"), schema)
        }));
    }
    examples
}

/// The documented example of `.ci/deploy.yml`, also with the lines that are commented out in it.
fn deploy_example() -> [String; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/environments/.ci/deploy.yml");
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.replace("  # build:", "  build:").replace("  # package:", "  package:");
    assert_ne!(text, whole);
    [text, whole]
}

#[test]
fn the_documented_deploy_file_is_read_as_it_says() {
    for text in deploy_example() {
        let file = slipway::deploy::DeployFile::parse(&text).unwrap();
        assert_eq!(file.environments.keys().collect::<Vec<_>>(), ["dev", "sit", "uat", "prod"]);
        for name in file.environments.keys() {
            slipway::deploy::Settings::read(name, Some(&file), |_| None).unwrap();
        }
    }
}

/// The documented settings of the server, also with the lines that are commented out in them.
fn server_example() -> [String; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/server.yml");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, oidc) = text.split_once("# oidc:\n").unwrap();
    let oidc = oidc.replace("\n#   ", "\n  ").replacen("#   ", "  ", 1).replace("oidc: null\n", "");
    let whole = format!("{before}oidc:\n{oidc}");
    [text, whole]
}

#[test]
fn the_schema_of_the_server_has_its_settings() {
    for text in server_example() {
        serde_yaml::from_str::<slipway::server::config::Config>(&text).unwrap();
    }
    let config = serde_json::to_value(slipway::server::config::Config::default()).unwrap();
    let schema = schema("server.json");
    let names = |value: &Json| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let described = |pointer: &str| {
        let mut names = names(schema.pointer(pointer).unwrap());
        names.sort();
        names
    };
    let known = |value: &Json| {
        let mut names = names(value);
        names.sort();
        names
    };
    assert_eq!(described("/properties"), known(&config));
    assert_eq!(described("/properties/keep/properties"), known(&config["keep"]));
}

#[test]
fn documented_examples_are_valid() {
    let mut examples = documented();
    assert!(examples.len() >= 2, "{examples:?}");
    examples.extend(deploy_example().map(|text| (text, "deploy.json")));
    examples.extend(server_example().map(|text| (text, "server.json")));
    for (text, name) in examples {
        let schema = schema(name);
        assert!(is_valid(&yaml(&text), &schema, &schema), "{name}\n{text}");
    }
}

#[test]
fn mistakes_are_found() {
    let table = [
        ("variables.json", "A: {valu: x}\n"),
        ("variables.json", "A: {value: x, env: Y}\n"),
        ("variables.json", "A: {masked: true}\n"),
        ("variables.json", "A: [[x]]\n"),
        ("variables.json", "[A]\n"),
        ("settings.json", "source: {}\n"),
        ("settings.json", "sources: {a/b: [x]}\n"),
        ("settings.json", "lint: {allow: unused-hidden-job}\n"),
        ("settings.json", "lint: {allow: [unused]}\n"),
        ("settings.json", "lint: {alow: []}\n"),
        ("settings.json", "notify: {kind: slack, url: U}\n"),
        ("settings.json", "notify: [{kind: slak, url: U}]\n"),
        ("settings.json", "notify: [{kind: slack}]\n"),
        ("settings.json", "notify: [{kind: slack, url: U, on: [fail]}]\n"),
        ("settings.json", "registries: {x: {http: often}}\n"),
        ("settings.json", "registries: {x: {ca: here.pem}}\n"),
        ("settings.json", "registries: {x: {insecure: true}}\n"),
        ("server.json", "listen: localhost\n"),
        ("server.json", "lisen: 127.0.0.1:80\n"),
        ("server.json", "url: ci.example.org\n"),
        ("server.json", "keep: {days: 3}\n"),
        ("server.json", "local_jobs: -1\n"),
        ("server.json", "oidc: {issuer: https://a, client_id: b}\n"),
        ("server.json", "oidc: {issuer: https://a, client_id: b, client_secret: hunter2}\n"),
        ("deploy.json", "environment: {}\n"),
        ("deploy.json", "environments: {dev: {target: [a]}}\n"),
        ("deploy.json", "environments: {dev: {targets: a}}\n"),
        ("deploy.json", "environments: {dev: {health: [{http: a, tcp: b}]}}\n"),
        ("deploy.json", "environments: {dev: {health: [{within: 3s}]}}\n"),
        ("deploy.json", "environments: {dev: {strategy: {prefer: fresh}}}\n"),
        ("deploy.json", "environments: {dev: {service: {systemd: a, canary: {}}}}\n"),
        ("deploy.json", "release: {version: svn}\n"),
        ("deploy.json", "release: {version: {file: a, command: b}}\n"),
        ("deploy.json", "notify: [{kind: slack}]\n"),
    ];
    for (name, text) in table {
        let schema = schema(name);
        assert!(!is_valid(&yaml(text), &schema, &schema), "{name}\n{text}");
    }
}

#[test]
fn all_codes_can_be_allowed() {
    let codes: Vec<Json> = slipway::report::explain::pages().map(|page| page.code.into()).collect();
    let schema = schema("settings.json");
    assert_eq!(schema.pointer("/properties/lint/properties/allow/items/enum"), Some(&Json::from(codes)));
}
