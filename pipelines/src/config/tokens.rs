//! `id_tokens` and the keywords of the paid editions: `secrets`, `identity`, `dast_configuration`.

use super::check::{Entry, Findings, Path};
use super::ruby;
use crate::yaml::Node;

const PROVIDERS: [&str; 6] = [
    "vault",
    "azure_key_vault",
    "gcp_secret_manager",
    "akeyless",
    "gitlab_secrets_manager",
    "aws_secrets_manager",
];

/// Checks `id_tokens`.
pub(super) fn id_tokens(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    each(node, path, findings, |token| {
        token.required_keys(&["aud"]);
        token.allowed_keys(&["aud"]);
        let ok = token.field("aud").is_some_and(|n| ruby::is_text(n) || ruby::is_texts(n));
        if !ok {
            token.fail("wrong-type", "aud", "should be an array of strings or a string");
        }
    });
}

/// Checks `secrets`.
pub(super) fn secrets(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    each(node, path, findings, |secret| {
        secret.allowed_keys(&[&PROVIDERS[..], &["file", "token"]].concat());
        secret.one_of_keys(&PROVIDERS);
        secret.boolean("file");
        secret.string("token");
        if secret.has("gcp_secret_manager") {
            secret.present("token");
        }
    });
}

/// Checks `identity`.
pub(super) fn identity(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let message = "should be one of: google_cloud";
    Entry::new(node, path, findings).one_of("config", &["google_cloud"], message);
}

/// Checks `dast_configuration`.
pub(super) fn dast_configuration(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&["site_profile", "scanner_profile"]);
    entry.string("site_profile");
    entry.string("scanner_profile");
}

fn each(
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    mut check: impl FnMut(&mut Entry<'_, '_, '_>),
) {
    let Some(map) = node.as_mapping() else {
        return Entry::new(node, path, findings).hash();
    };
    for (key, entry) in map.iter() {
        let name = key.to_string();
        check(&mut Entry::new(&entry.node, &path.child(&name), findings));
    }
}
