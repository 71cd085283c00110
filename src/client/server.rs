//! Asks a server; says in the words of a command what it answers.

use crate::error::{CliError, CliResult, ErrorKind};
use crate::settings::Logins;
use reqwest::blocking::{Client, Response};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::fmt;
use std::time::Duration;

/// For each wait: for an answer, or for the next bytes of one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and the right to ask it.
pub struct Server {
    address: String,
    token: String,
    http: Client,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Told {
    message: String,
}

impl Server {
    /// The server of that name; without one that of `SLIPWAY_SERVER`, or the last that was signed in to.
    ///
    /// # Errors
    /// No server is known, or no access token for it.
    pub fn open(named: Option<&str>) -> CliResult<Server> {
        let (address, token) = Logins::way_in(named)?;
        Ok(Server { address, token, http: client()? })
    }

    /// Its address, without `/` at the end.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request to a path that begins with `/`.
    ///
    /// # Errors
    /// The server can't be reached.
    pub fn send(&self, method: Method, path: &str, headers: &[(&str, String)]) -> CliResult<Response> {
        self.sent(method, path, headers, None)
    }

    fn sent(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Option<&Json>,
    ) -> CliResult<Response> {
        let request = self.http.request(method, format!("{}{path}", self.address)).bearer_auth(&self.token);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = body.iter().fold(request, |request, body| request.json(body));
        request.send().map_err(|e| unreachable(&self.address, e))
    }

    /// GET of a document.
    ///
    /// # Errors
    /// See [`good`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> CliResult<T> {
        read(&self.address, good(&self.address, self.sent(Method::GET, path, &[], None)?)?)
    }

    /// POST of a document, which is answered with one.
    ///
    /// # Errors
    /// See [`good`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&Json>) -> CliResult<T> {
        read(&self.address, good(&self.address, self.sent(Method::POST, path, &[], body)?)?)
    }

    /// PATCH or DELETE; the document of the answer, if it has one.
    ///
    /// # Errors
    /// See [`good`].
    pub fn change(&self, method: Method, path: &str, body: Option<&Json>) -> CliResult<Json> {
        let answer = good(&self.address, self.sent(method, path, &[], body)?)?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(Json::Null);
        }
        read(&self.address, answer)
    }
}

/// A client that shows an access token to nobody but the server that it was meant for.
///
/// # Errors
/// This machine has no means for it.
pub fn client() -> CliResult<Client> {
    let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    client.build().map_err(|e| CliError::failed(format!("starting an HTTP client: {e}")))
}

/// A server that can't be reached.
pub fn unreachable(server: &str, error: reqwest::Error) -> CliError {
    let error = error.without_url();
    // the last cause says it: refused, no such host, a certificate
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let told = cause.to_string();
    CliError::failed(format!("asking `{server}`: {told}"))
        .hint("does it run, and is the address right? `ci login ADDRESS` chooses another server")
}

/// An answer that is no error.
///
/// # Errors
/// What the server says. Exit code 2: there is no such thing, nobody is signed in, the request made no sense; 3: it was
/// refused, nothing has changed; 1: the server has trouble.
pub fn good(server: &str, answer: Response) -> CliResult<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let told = answer.json::<Told>().map(|told| told.message);
    let told = told.unwrap_or_else(|_| format!("it answered {status}: is it a Slipway server?"));
    let kind = match status {
        StatusCode::FORBIDDEN | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::Refused,
        status if status.is_client_error() => ErrorKind::Usage,
        _ => ErrorKind::Failed,
    };
    let error = CliError::new(kind, format!("`{server}`: {told}"));
    Err(match status {
        StatusCode::UNAUTHORIZED => error.hint(format!("sign in: `ci login {server}`")),
        _ => error,
    })
}

/// The document of an answer.
///
/// # Errors
/// It is none, or another one.
pub fn read<T: DeserializeOwned>(server: &str, answer: Response) -> CliResult<T> {
    answer.json().map_err(|_| {
        CliError::failed(format!(
            "`{server}` does not answer as a Slipway server does: is the address right?"
        ))
    })
}
