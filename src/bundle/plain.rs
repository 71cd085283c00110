//! The bundle of a program that a service starts: its package, and the commands.

use std::collections::BTreeMap;

use crate::deploy::service::Artifact;
use crate::deploy::{Check, Kind, Service};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::standing;

use super::archive::Files;
use super::make::{Order, SPACE_FACTOR, date, evidence, from_versions, read};
use super::manifest::{Manifest, Replaces};

/// `daemon` comes back before the node has booted, and says nothing when it can't.
const ANSWERS: &str = r#"said=$(bin/"$NAME" rpc 'IO.puts(System.get_env("RELEASE_VSN"))' 2>&1)
[ "$said" = "$VERSION" ] || { printf '%s\n' "$said"; exit 1; }"#;

pub(super) fn collect(order: &Order<'_>, artifact: &Artifact) -> CliResult<(Files, Manifest)> {
    let Artifact { name, version, path, tree, size, .. } = artifact;
    let mut files = Files::new();
    let service = service(order, artifact, &mut files)?;
    let package = format!("{name}-{version}.tar.gz");
    files.insert(format!("packages/{package}"), read(path)?);
    let replaced = |version| Replaces {
        version,
        strategy: if service == "binary" { "exchange" } else { "restart" }.to_owned(),
        ..Replaces::default()
    };
    let replaces = from_versions(order, version)?.into_iter().map(replaced).collect();
    evidence(order, version, &mut files)?;
    let released = standing::releases(order.entries, version).find(|released| released.content == *tree);
    let commit = released.map(|released| released.commit.clone()).unwrap_or_default();
    let manifest = Manifest {
        format: 1,
        name: name.clone(),
        version: version.clone(),
        environment: order.environment.to_owned(),
        directory: order.settings.directory.clone().unwrap_or_else(|| format!("/data/{name}")),
        date: date(order.root, &commit),
        commit,
        content: tree.clone(),
        erts: String::new(),
        applications: BTreeMap::new(),
        package,
        service: Some(service.to_owned()),
        replaces,
        disk_kib: (size * (SPACE_FACTOR + 1)).div_ceil(1024),
        files: BTreeMap::new(),
    };
    Ok((files, manifest))
}

/// What starts it; its commands go into `files`.
fn service(order: &Order<'_>, artifact: &Artifact, files: &mut Files) -> CliResult<&'static str> {
    let refused = |what: &str, help: &str| Err(CliError::new(ErrorKind::Refused, what).hint(help));
    if order.settings.health.iter().any(|health| matches!(health.check, Check::Eval(_))) {
        return refused("a health check by `eval` asks an Erlang node", "ask by `http`, `tcp` or `command`");
    }
    let mut add = |name: &str, text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
            files.insert(format!("service/{name}"), format!("{text}\n").into_bytes());
        }
    };
    if artifact.kind == Kind::Elixir {
        add("answers", Some(ANSWERS));
    }
    match &order.settings.service {
        Some(Service::Commands { start, stop }) => {
            add("start", Some(start));
            add("stop", Some(stop));
            Ok("commands")
        }
        Some(Service::Systemd(_)) => Ok("systemd"),
        Some(Service::Supervisord { auth: None, .. }) => Ok("supervisord"),
        Some(Service::Supervisord { .. }) => refused(
            "a bundle holds no password for supervisord",
            "let it listen on a socket that the operator may use, without `auth`",
        ),
        Some(Service::Binary { test, start, .. }) => {
            add("start", start.as_deref());
            add("test", test.as_deref());
            Ok("binary")
        }
        Some(Service::Canary { .. }) => refused(
            "a canary is moved and watched from here, which `install.sh` on a host can't",
            "deliver to this environment by `ssh`, or start the program by `service: commands`",
        ),
        None => refused(
            "the environment does not say how the program is started",
            "set `service:` of the environment: `commands`, `systemd`, `supervisord` or `binary`",
        ),
    }
}
