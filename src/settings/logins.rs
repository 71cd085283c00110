//! Servers that `ci login` has signed in to: `$XDG_CONFIG_HOME/slipway/logins.yml`, for its owner alone.

use crate::error::{CliError, CliResult};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A way into a server.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Access token.
    pub token: String,
    /// Whose it is.
    pub user: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// All of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logins {
    /// The server that is meant when none is named: the last one.
    pub server: Option<String>,
    /// By address, without `/` at the end.
    pub servers: BTreeMap<String, Login>,
}

impl Logins {
    /// Reads them; none when there is no file.
    ///
    /// # Errors
    /// The file can't be read or is no such file.
    pub fn load() -> CliResult<Logins> {
        let path = file()?;
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let read: Result<Option<Logins>, _> = serde_yaml::from_str(&text);
                // the error would quote the file, tokens and all
                let read = read.map_err(|_| CliError::usage(format!("`{}` is damaged", path.display())));
                Ok(read.map_err(|e| e.hint("delete it and sign in again: `ci login`"))?.unwrap_or_default())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Logins::default()),
            Err(e) => Err(CliError::usage(format!("reading `{}`: {e}", path.display()))),
        }
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self) -> CliResult {
        let path = file()?;
        let told = |e: std::io::Error| CliError::usage(format!("writing `{}`: {e}", path.display()));
        let text = serde_yaml::to_string(self).map_err(|e| told(std::io::Error::other(e)))?;
        write(&path, &text).map_err(told)
    }

    /// Address and token of a server: the one that is named, else `SLIPWAY_SERVER`, else the last one that was signed in
    /// to. `SLIPWAY_TOKEN` goes before what was kept.
    ///
    /// # Errors
    /// No server is known, or no token for it.
    pub fn way_in(named: Option<&str>) -> CliResult<(String, String)> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let logins = Logins::load()?;
        let server = named.map(str::to_owned).or_else(|| set("SLIPWAY_SERVER")).or(logins.server.clone());
        let server = server.ok_or_else(|| {
            CliError::usage("which server?")
                .hint("sign in first: `ci login ADDRESS`, or set `SLIPWAY_SERVER`")
        })?;
        let server = server.trim_end_matches('/').to_owned();
        let token = set("SLIPWAY_TOKEN").or_else(|| Some(logins.servers.get(&server)?.token.clone()));
        let token = token.ok_or_else(|| {
            CliError::usage(format!("you are not signed in to `{server}`"))
                .hint(format!("sign in: `ci login {server}`, or set `SLIPWAY_TOKEN`"))
        })?;
        Ok((server, token))
    }
}

fn file() -> CliResult<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let config =
        config.ok_or_else(|| CliError::usage("there is no place for sign-ins: `HOME` is not set"))?;
    Ok(config.join("slipway/logins.yml"))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let new = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
