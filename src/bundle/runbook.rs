//! `RUNBOOK.md`, from a template that a project may replace.

use std::path::Path;

use handlebars::Handlebars;

use crate::deploy::{Check, Environment};
use crate::error::{CliError, CliResult};

use super::manifest::Manifest;

/// A project's own template.
const OWN: &str = ".ci/runbook.md.hbs";
const TEMPLATE: &str = include_str!("runbook.md.hbs");

pub(super) fn render(manifest: &Manifest, settings: &Environment, root: &Path) -> CliResult<String> {
    let (template, name) = match std::fs::read_to_string(root.join(OWN)) {
        Ok(text) => (text, OWN),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => (TEMPLATE.to_owned(), "RUNBOOK.md"),
        Err(e) => return Err(CliError::usage(format!("reading `{OWN}`: {e}"))),
    };
    let health: Vec<String> = settings
        .health
        .iter()
        .map(|health| {
            let check = match &health.check {
                Check::Http(url) => format!("`GET {url}` answers 2xx or 3xx"),
                Check::Tcp(address) => format!("`{address}` takes connections"),
                Check::Eval(expression) => format!("`{expression}` is `true` or `ok`"),
                Check::Command(command) => format!("`{command}` ends with 0"),
            };
            format!("{check}, within {} s", health.within.as_secs())
        })
        .collect();
    let top = format!("{}-{}-{}", manifest.name, manifest.version, manifest.environment);
    let data = serde_json::json!({
        "manifest": manifest, "top": top, "health": health, "soak": settings.soak.as_secs(),
        "disk_mib": manifest.disk_kib.div_ceil(1024),
    });
    let mut handlebars = Handlebars::new();
    handlebars.register_escape_fn(handlebars::no_escape);
    handlebars.set_strict_mode(true);
    handlebars.render_template(&template, &data).map_err(|e| {
        CliError::usage(format!("the runbook's template `{name}`: {e}"))
            .hint("it gets `manifest`, `top`, `health`, `soak` and `disk_mib`")
    })
}
