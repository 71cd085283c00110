//! `ci bundle`: makes what operations apply where we can't reach.

use anstream::eprintln;
use std::path::{Path, PathBuf};

use super::deploy::{cli_error, settings};
use super::promote::sources;
use super::runtime::runtime;
use super::{Format, print_json, print_raw};
use crate::bundle::{Made, Order, What, make};
use crate::deploy::{self, DeployFile, Kind, Settings, service};
use crate::error::{CliError, CliResult};
use crate::ledger::{Ledger, packages};
use crate::promotion::{Artifact, Gate};
use crate::release::{Project, build};

/// Makes one archive for hosts that we can't reach: the release whole and as thin upgrades, an installer in POSIX sh
/// that only looks unless it is told to act, a runbook, digests and a signature. The same input gives the same bytes
#[derive(clap::Args)]
pub(super) struct BundleArgs {
    /// Environment, as `prod`
    #[arg(value_name = "ENV")]
    environment: String,
    /// Version of the release [default: of the sources]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// A version that runs there; may be given again [default: what the ledger knows of]
    #[arg(long, value_name = "VERSION")]
    from: Vec<String>,
    /// Where the archive goes [default: NAME-VERSION-ENV.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign it with this ssh key, or with the agent's when it is a .pub file
    #[arg(long, value_name = "KEY", env = "SLIPWAY_SIGNING_KEY")]
    sign: Option<PathBuf>,
    /// Make it though a rule forbids it; the reason is recorded
    #[arg(long = "override", value_name = "REASON")]
    set_aside: Option<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &BundleArgs) -> CliResult {
    let root = Path::new(".");
    let name = &args.environment;
    let mut settings = settings(name)?;
    settings.rules.directory = settings.directory.clone().or(settings.rules.directory);
    let version = match &args.version {
        Some(version) => version.clone(),
        None => deploy::identity(root, &settings.profile).map_err(cli_error)?.1,
    };
    let project = sources(root, &settings.profile).filter(|project| project.version == version);
    let file = DeployFile::load(root).map_err(cli_error)?.unwrap_or_default();
    let ledger = Ledger::of(root)?;
    let entries = ledger.entries()?;
    let gate = Gate { file: &file, root, entries: &entries, now: jiff::Timestamp::now() };
    let known = file.environments.contains_key(name);
    let verdict = if known { gate.judge(name, &version)? } else { Default::default() };
    verdict.enforce(&ledger, name, &version, args.set_aside.as_deref())?;
    let came = gate.before(name).and(verdict.content.clone());
    let runtime = runtime()?;
    let kind = service::of(root, &settings);
    let sources_are_it = || deploy::identity(root, &settings.profile).is_ok_and(|(_, own)| own == version);
    let content = match (came, &project, verdict.content) {
        (Some(content), ..) => content,
        (None, _, kept) if kind.is_some() && (kept.is_none() || sources_are_it()) => {
            runtime.block_on(packed(root, &settings, kind.unwrap_or(Kind::Archive)))?
        }
        (None, Some(project), _) => runtime.block_on(built(root, project))?,
        (None, None, Some(content)) => content,
        (None, None, None) => {
            return Err(CliError::usage(format!(
                "no package of `{version}` is kept here, and the sources are of another version"
            ))
            .hint(format!("`git checkout v{version}`, or build where it was deployed from")));
        }
    };
    let entries = ledger.entries()?;
    let (release, plain);
    let artifact = match kind {
        Some(kind) => {
            plain = service::Artifact::kept(&entries, &version, &content, kind)?;
            What::Plain(&plain)
        }
        None => {
            release = Artifact::find(&entries, &version, &content, project)?;
            What::Release(&release)
        }
    };
    let before = file.environments.keys().take_while(|other| *other != name).map(String::as_str).collect();
    let order = Order {
        artifact,
        environment: name,
        settings: &settings.rules,
        from: args.from.clone(),
        entries: &entries,
        before,
        root,
        key: args.sign.as_deref(),
        to: args.output.clone(),
    };
    let made = runtime.block_on(make(&order, &ledger))?;
    if made.signature.is_none() {
        eprintln!("warning: the bundle is not signed; `--sign KEY` or `SLIPWAY_SIGNING_KEY` signs it");
    }
    show(args.format, &made, &settings)
}

async fn packed(root: &Path, settings: &Settings, kind: Kind) -> CliResult<String> {
    let artifact = service::Artifact::build(root, &settings.release, kind, &settings.profile).await;
    Ok(packages::keep(root, &artifact.map_err(cli_error)?.whole(), None)?.content)
}

async fn built(root: &Path, project: &Project) -> CliResult<String> {
    let failed = |e: crate::release::Error| CliError::failed(e.to_string());
    let log = |line: &str| tracing::debug!(target: "build", "{line}");
    let built = build::fresh(project, &log).await.map_err(failed)?;
    let whole = packages::Whole {
        path: built.path,
        appups: Vec::new(),
        plain: None,
        package: Some(built.package),
        recipe: built.recipe,
    };
    Ok(packages::keep(root, &whole, None)?.content)
}

fn show(format: Format, made: &Made, settings: &Settings) -> CliResult {
    let Made { path, signature, digest, manifest } = made;
    if format == Format::Json {
        let signature = signature.as_ref().map(|path| path.display().to_string());
        return print_json(&serde_json::json!({
            "format": 1, "path": path.display().to_string(), "signature": signature, "bundle": digest,
            "manifest": manifest,
        }));
    }
    let mut text = format!("{}: {} {}, bundle {digest}\n", path.display(), manifest.name, manifest.version);
    if let Some(signature) = signature {
        text.push_str(&format!("{}\n", signature.display()));
    }
    text.push_str(&format!("  for {} in {}\n", settings.environment, manifest.directory));
    for replaced in &manifest.replaces {
        let why = replaced.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
        text.push_str(&format!("  from {}: {}{why}\n", replaced.version, replaced.strategy));
        for warning in &replaced.warnings {
            text.push_str(&format!("    warning: {warning}\n"));
        }
    }
    if manifest.service.is_some() {
        text.push_str("  for hosts with any version that was put there by ci, and with nothing on them\n");
    } else if manifest.replaces.is_empty() {
        text.push_str("  for hosts with nothing on them; `--from VERSION` adds an upgrade\n");
    }
    print_raw(text.as_bytes())
}
