//! `ci approve`: agrees to a promotion, with an ssh key.

use std::path::{Path, PathBuf};

use super::deploy::digest;
use super::on_server::OnServer;
use super::promote::file;
use super::server_deployments::{self, Agreement};
use super::{Format, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::{Approval, Fact, Ledger};
use crate::project::Project;
use crate::promotion::Gate;
use crate::promotion::approval::{self, Subject};
use crate::signature;

/// Agrees to put a release into an environment: signs its version, content, environment and how it would get there
/// with your ssh key. Your public key must be in `people` of `.ci/deploy.yml`. With `--server`: agrees to the deployment
/// that waits there, as the account that `ci login` signed in with
#[derive(clap::Args)]
pub(super) struct ApproveArgs {
    /// Version of the release; with `--server` also the number of the deployment
    version: String,
    /// Environment that it goes to
    #[arg(long, value_name = "ENV", required_unless_present_any = ["server", "project"])]
    to: Option<String>,
    /// Your ssh key, or its .pub file when ssh-agent holds it [default: $SLIPWAY_SIGNING_KEY, git's
    /// user.signingkey, or the first of ~/.ssh/id_ed25519, id_ecdsa, id_rsa]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "project"])]
    key: Option<PathBuf>,
    #[command(flatten)]
    on: OnServer,
    /// For the record of the server
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "server")]
    comment: String,
    /// On a server: only if the plan has this digest (its first 12 digits or more are enough)
    #[arg(long, value_name = "DIGEST", value_parser = digest, requires = "server")]
    expect: Option<String>,
    /// How what comes of it is printed
    #[arg(long, value_enum, default_value_t, requires = "server")]
    format: Format,
}

pub(super) fn run(args: &ApproveArgs) -> CliResult {
    let ApproveArgs { version, .. } = args;
    if args.on.is_asked() {
        let agreement = Agreement {
            what: version,
            to: args.to.as_deref(),
            comment: &args.comment,
            expect: args.expect.as_deref(),
        };
        return server_deployments::approve(&args.on, &agreement, args.format);
    }
    let to = args.to.as_ref().ok_or_else(|| CliError::usage("which environment?").hint("`--to ENV`"))?;
    let root = Path::new(".");
    let file = file(root)?;
    let ledger = Ledger::of(root)?;
    let entries = ledger.entries()?;
    let gate = Gate { file: &file, root, entries: &entries, now: jiff::Timestamp::now() };
    let settings = gate.settings(to)?;
    let Some(content) = gate.content(to, version) else {
        return Err(CliError::new(ErrorKind::Refused, format!("no package of `{version}` is kept here"))
            .hint("an approval is of a release that exists: deploy it to an environment before first"));
    };
    let subject = Subject { version, content: &content, environment: to, settings };
    let text = approval::text(&subject);
    let key = key(args.key.clone())?;
    let signature = signature::sign(&key, signature::APPROVAL, text.as_bytes())?;
    let allowed = approval::allowed_signers(&file.people, root, signature::APPROVAL)?;
    let person = signature::signer(&allowed, signature::APPROVAL, &signature, text.as_bytes())?;
    let Some(person) = person else {
        return Err(CliError::new(
            ErrorKind::Refused,
            format!("the key `{}` is of nobody in `people`", key.display()),
        )
        .hint("add its public half to `people` in `.ci/deploy.yml`, or choose another with `--key`"));
    };
    let from = &settings.approvals.from;
    if !from.is_empty() && !from.contains(&person) {
        return Err(CliError::new(
            ErrorKind::Refused,
            format!("`{person}` is not asked to approve for `{to}`"),
        )
        .hint(format!("`approvals: from` there has `{}`", from.join("`, `"))));
    }
    ledger.append(Fact::Approval(Approval {
        environment: to.clone(),
        version: version.clone(),
        content,
        person: person.clone(),
        signature,
    }))?;
    print_raw(format!("{person} approved {version} for {to}:\n{text}").as_bytes())
}

/// The key to sign with.
fn key(given: Option<PathBuf>) -> CliResult<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_git = || {
        let config = Project::discover(Path::new(".")).ok()?.repository().config().ok()?;
        let key = config.get_path("user.signingkey").ok()?;
        key.exists().then_some(key)
    };
    let of_home = || {
        let ssh = set("HOME")?.join(".ssh");
        ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| ssh.join(name)).into_iter().find(|key| key.exists())
    };
    given.or_else(|| set("SLIPWAY_SIGNING_KEY")).or_else(of_git).or_else(of_home).ok_or_else(|| {
        CliError::usage("there is no ssh key to sign with")
            .hint("make one with `ssh-keygen`, or name it with `--key`")
    })
}
