//! How the user gets in: the ssh agent, the usual key files, git's credential helpers.

use git2::{Config, Cred, CredentialHelper, CredentialType, Error, ErrorClass, ErrorCode, RemoteCallbacks};
use std::path::PathBuf;

/// Key files that ssh itself looks for; only such without a passphrase help here.
const KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Callbacks for one connection. `git2` asks again after each refusal, so each way is offered once.
pub(super) fn callbacks() -> RemoteCallbacks<'static> {
    let mut ways: Option<Vec<Way>> = None;
    let mut callbacks = RemoteCallbacks::new();
    callbacks.credentials(move |url, user, allowed| {
        let user_name = user.unwrap_or("git");
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user_name);
        }
        let ways = ways.get_or_insert_with(|| offered(allowed));
        while let Some(way) = ways.pop() {
            if let Ok(credential) = way.credential(url, user) {
                return Ok(credential);
            }
        }
        let why = if allowed.contains(CredentialType::SSH_KEY) {
            "neither the ssh agent nor a key file gave access"
        } else {
            "git's credential helpers gave no access"
        };
        Err(Error::new(ErrorCode::Auth, ErrorClass::Callback, why))
    });
    callbacks
}

enum Way {
    Agent,
    Key(PathBuf),
    Helper,
}

/// User and password for an http server, from git's credential helpers.
pub(super) fn login(url: &str, user: Option<&str>) -> Option<(String, String)> {
    let config = Config::open_default().ok()?;
    CredentialHelper::new(url).username(user).config(&config).execute()
}

/// The ways that a server allows; the first one is last.
fn offered(allowed: CredentialType) -> Vec<Way> {
    let mut ways = Vec::new();
    if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
        ways.push(Way::Helper);
    }
    if allowed.contains(CredentialType::SSH_KEY) {
        let ssh = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh"));
        let keys = ssh.into_iter().flat_map(|ssh| KEYS.map(|name| ssh.join(name)));
        ways.extend(keys.filter(|key| key.is_file()).rev().map(Way::Key));
        if std::env::var_os("SSH_AUTH_SOCK").is_some() {
            ways.push(Way::Agent);
        }
    }
    ways
}

impl Way {
    fn credential(&self, url: &str, user: Option<&str>) -> Result<Cred, Error> {
        let ssh_user = user.unwrap_or("git");
        match self {
            Way::Agent => Cred::ssh_key_from_agent(ssh_user),
            Way::Key(file) => Cred::ssh_key(ssh_user, None, file, None),
            Way::Helper => Cred::credential_helper(&Config::open_default()?, url, user),
        }
    }
}
