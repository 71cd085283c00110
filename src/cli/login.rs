//! `ci login`, `ci logout`

use super::print_raw;
use crate::client::server::{self, client, read};
use crate::error::{CliError, CliResult};
use crate::settings::{Login, Logins};
use anstream::eprintln;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde_json::json;
use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};
use std::time::Duration;
use url::Url;

/// Sign in to a Slipway server, so that other commands may ask it
#[derive(clap::Args)]
pub(super) struct LoginArgs {
    /// Address of the server [default: the last one]
    #[arg(value_name = "ADDRESS", env = "SLIPWAY_SERVER")]
    server: Option<String>,
    /// Read an access token from standard input instead of asking on a page
    #[arg(long)]
    token: bool,
}

/// Sign out of a Slipway server: the access token is revoked and forgotten
#[derive(clap::Args)]
pub(super) struct LogoutArgs {
    /// Address of the server [default: the last one]
    #[arg(value_name = "ADDRESS", env = "SLIPWAY_SERVER")]
    server: Option<String>,
}

#[derive(Deserialize)]
struct Begun {
    code: String,
    address: String,
    secret: String,
    interval: u64,
}

#[derive(Deserialize)]
struct Made {
    token: String,
}

#[derive(Deserialize)]
struct Me {
    name: String,
}

pub(super) fn login(args: &LoginArgs) -> CliResult {
    let mut logins = Logins::load()?;
    let server = address(args.server.as_ref().or(logins.server.as_ref()))?;
    let client = client()?;
    let token = if args.token { given()? } else { asked(&client, &server)? };
    let me = client.get(format!("{server}/api/v1/user")).bearer_auth(&token);
    let me: Me = read(&server, good(&server, me.send())?)?;
    logins.servers.insert(server.clone(), Login { token, user: me.name.clone() });
    logins.server = Some(server.clone());
    logins.save()?;
    print_raw(format!("signed in to {server} as {}\n", me.name).as_bytes())
}

pub(super) fn logout(args: &LogoutArgs) -> CliResult {
    let mut logins = Logins::load()?;
    let server = address(args.server.as_ref().or(logins.server.as_ref()))?;
    let Some(login) = logins.servers.remove(&server) else {
        return Err(CliError::usage(format!("you are not signed in to `{server}`")));
    };
    if logins.server.as_deref() == Some(server.as_str()) {
        logins.server = logins.servers.keys().next().cloned();
    }
    logins.save()?;
    let revoked =
        client()?.delete(format!("{server}/api/v1/token?reason=ci+logout")).bearer_auth(&login.token);
    match good(&server, revoked.send()) {
        Ok(_) => print_raw(format!("signed out of {server}\n").as_bytes()),
        Err(error) => {
            Err(CliError::failed(format!("the access token is forgotten here, and not revoked: {error}"))
                .hint(format!("revoke it at {server}/account")))
        }
    }
}

fn address(given: Option<&String>) -> CliResult<String> {
    let given = given.ok_or_else(|| {
        CliError::usage("which server?").hint("say its address: `ci login https://ci.example.org`")
    })?;
    let told = || {
        CliError::usage(format!("`{given}` is no address of a server")).hint("such as https://ci.example.org")
    };
    let url = Url::parse(given).map_err(|_| told())?;
    let (host, scheme) = (url.host_str().ok_or_else(told)?, url.scheme());
    let here = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    match scheme {
        "https" => {}
        "http" if here => {}
        "http" => eprintln!(
            "warning: the way to `{given}` is not encrypted: whoever is on it can read the access token"
        ),
        _ => return Err(told()),
    }
    Ok(given.trim_end_matches('/').to_owned())
}

/// A token from standard input, never from the command line, where others could read it.
fn given() -> CliResult<String> {
    if std::io::stdin().is_terminal() {
        eprintln!("paste the access token, then press Enter and Ctrl-D:");
    }
    let mut text = String::new();
    let read = std::io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|e| CliError::usage(format!("reading the access token from standard input: {e}")))?;
    match text.trim() {
        "" => Err(CliError::usage("there is no access token on standard input")
            .hint("such as: `ci login ADDRESS --token < FILE`")),
        token => Ok(token.to_owned()),
    }
}

/// Shows a code, and waits until a person has said yes to it on the server's page.
fn asked(client: &Client, server: &str) -> CliResult<String> {
    let machine = rustix::system::uname();
    let person = std::env::var("USER").unwrap_or_default();
    let name = format!("{person}@{}", machine.nodename().to_string_lossy());
    let sent = client.post(format!("{server}/api/v1/device")).json(&json!({ "name": name })).send();
    let begun: Begun = read(server, good(server, sent)?)?;
    eprintln!("open {}", begun.address);
    eprintln!("and say yes if it shows the code {}", begun.code);
    open_browser(&begun.address);
    loop {
        std::thread::sleep(Duration::from_secs(begun.interval.clamp(1, 30)));
        let sent = client
            .post(format!("{server}/api/v1/device/token"))
            .json(&json!({ "secret": begun.secret }))
            .send();
        let answer = good(server, sent)?;
        if answer.status() != StatusCode::ACCEPTED {
            return Ok(read::<Made>(server, answer)?.token);
        }
    }
}

/// Where there is a desktop. No matter if not: the address is printed.
fn open_browser(address: &str) {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if desktop && std::io::stderr().is_terminal() {
        let mut open = Command::new("xdg-open");
        let _ = open.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}

fn good(server: &str, sent: reqwest::Result<Response>) -> CliResult<Response> {
    server::good(server, sent.map_err(|e| server::unreachable(server, e))?)
}
