//! A program of supervisord, by XML-RPC through the ssh connection: the target needs no client of it.

use std::time::{Duration, Instant};

use openssh::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::choice::Running;
use super::program::BETWEEN_LOOKS;
use super::xmlrpc::{self, Value};
use crate::deploy::error::Error;
use crate::deploy::ssh::{Forward, last_lines};
use crate::deploy::target::Target;

/// `stopProcess` answers when the program has ended, by KILL in the end.
const CALL_LIMIT: Duration = Duration::from_secs(180);
const START_PATIENCE: Duration = Duration::from_secs(120);
const LONGEST_ANSWER: u64 = 16 << 20;

const STARTING: i64 = 10;
const RUNNING: i64 = 20;
const BACKOFF: i64 = 30;
const STOPPING: i64 = 40;
const BAD_NAME: i64 = 10;
const NOT_RUNNING: i64 = 70;
const ALREADY_STARTED: i64 = 60;

/// A supervisord as the target sees it.
pub(super) struct Server<'a> {
    forward: Forward,
    url: &'a str,
    authorization: String,
}

/// Why a call did not give its value.
enum Failure {
    Fault(i64, String),
    Other(Error),
}

impl<'a> Server<'a> {
    /// `url` is `unix:///run/supervisor.sock` or `http://127.0.0.1:9001`; `auth` names a variable of ours.
    pub(super) async fn new(target: &Target, url: &'a str, auth: Option<&str>) -> Result<Self, Error> {
        let socket = socket(url).ok_or_else(|| {
            Error::refused(format!("`{url}` is no address of a supervisord"))
                .help("write `unix:///run/supervisor.sock` or `http://127.0.0.1:9001`")
        })?;
        let authorization = match auth {
            None => String::new(),
            Some(name) => {
                let value = std::env::var(name).ok().filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| {
                    Error::refused(format!("the variable `{name}` is not set"))
                        .help("it holds `user:password` of supervisord")
                })?;
                format!("Authorization: Basic {}\r\n", base64(value.as_bytes()))
            }
        };
        let forward = target.session().forward(socket).await?;
        Ok(Self { forward, url, authorization })
    }

    /// The program's state.
    pub(super) async fn look(&self, program: &str) -> Result<Running, Error> {
        match self.call("supervisor.getProcessInfo", &[Value::Text(program.to_owned())]).await {
            Ok(info) => Ok(running(&info)),
            Err(Failure::Fault(BAD_NAME, _)) => self.unknown(program).await,
            Err(failure) => Err(self.explain(failure)),
        }
    }

    /// Restarts the program with its present configuration, and waits until it is RUNNING anew.
    pub(super) async fn restart(&self, program: &str, before: &Running) -> Result<Running, Error> {
        let group = group(program);
        let changed = self.reload(group).await?;
        let call = |method: &'static str, name: &str| {
            let parameters = [Value::Text(name.to_owned())];
            async move { self.call(method, &parameters).await }
        };
        match changed {
            Some(Change::Added) => self.tolerate(call("supervisor.addProcessGroup", group).await, &[])?,
            Some(Change::Changed) => {
                self.stop(program).await?;
                self.tolerate(call("supervisor.stopProcessGroup", group).await, &[NOT_RUNNING])?;
                self.tolerate(call("supervisor.removeProcessGroup", group).await, &[])?;
                self.tolerate(call("supervisor.addProcessGroup", group).await, &[])?;
            }
            None => self.stop(program).await?,
        }
        // not waiting: a program that can't start is told better by its state
        let start = [Value::Text(program.to_owned()), Value::Bool(false)];
        if let Err(failure) = self.call("supervisor.startProcess", &start).await
            && !matches!(failure, Failure::Fault(ALREADY_STARTED, _))
        {
            let error = self.explain(failure);
            return Err(self.with_output(program, error.message).await);
        }
        self.started(program, before).await
    }

    /// Stops the program; nothing when it does not run.
    pub(super) async fn stop(&self, program: &str) -> Result<(), Error> {
        let parameters = [Value::Text(program.to_owned()), Value::Bool(true)];
        self.tolerate(self.call("supervisor.stopProcess", &parameters).await, &[NOT_RUNNING, BAD_NAME])
    }

    async fn started(&self, program: &str, before: &Running) -> Result<Running, Error> {
        let began = Instant::now();
        let mut last: Option<Running> = None;
        loop {
            let info = self.call("supervisor.getProcessInfo", &[Value::Text(program.to_owned())]).await;
            let info = info.map_err(|failure| self.explain(failure))?;
            let now = running(&info);
            let state = info.get("state").and_then(Value::int).unwrap_or(0);
            if now.up && now.pid != before.pid && last.as_ref() == Some(&now) {
                return Ok(now);
            }
            let over = !matches!(state, STARTING | RUNNING | BACKOFF | STOPPING);
            if over || began.elapsed() >= START_PATIENCE {
                return Err(self.with_output(program, now.words).await);
            }
            last = Some(now);
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Whether the configuration of the program's group changed on disk.
    async fn reload(&self, group: &str) -> Result<Option<Change>, Error> {
        let answer =
            self.call("supervisor.reloadConfig", &[]).await.map_err(|failure| self.explain(failure))?;
        let lists = answer.list().first().map(Value::list).unwrap_or_default();
        Ok(change(lists, group))
    }

    async fn unknown(&self, program: &str) -> Result<Running, Error> {
        // a program that was only written down is known after a reload
        if self.reload(group(program)).await? == Some(Change::Added) {
            return Ok(Running {
                words: "it is configured and was never started".to_owned(),
                ..Running::default()
            });
        }
        let all =
            self.call("supervisor.getAllProcessInfo", &[]).await.map_err(|failure| self.explain(failure))?;
        let names: Vec<&str> =
            all.list().iter().filter_map(|info| info.get("name")).map(Value::text).collect();
        Err(Error::refused(format!("supervisord at `{}` has no program `{program}`", self.url)).help(
            format!(
                "it has {}; add a section [program:{program}] whose command begins with DIRECTORY/current/",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ),
        ))
    }

    async fn with_output(&self, program: &str, why: String) -> Error {
        let mut said = String::new();
        for method in ["supervisor.readProcessStderrLog", "supervisor.readProcessStdoutLog"] {
            let parameters = [Value::Text(program.to_owned()), Value::Int(-2000), Value::Int(0)];
            if let Ok(text) = self.call(method, &parameters).await
                && said.trim().is_empty()
            {
                said = last_lines(text.text(), 4);
            }
        }
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Error::failed(format!("supervisord: `{program}` {why}{said}"))
    }

    fn tolerate(&self, result: Result<Value, Failure>, codes: &[i64]) -> Result<(), Error> {
        match result {
            Ok(_) => Ok(()),
            Err(Failure::Fault(code, _)) if codes.contains(&code) => Ok(()),
            Err(failure) => Err(self.explain(failure)),
        }
    }

    fn explain(&self, failure: Failure) -> Error {
        match failure {
            Failure::Other(error) => error,
            Failure::Fault(code, text) => {
                Error::failed(format!("supervisord at `{}` says: {text} (fault {code})", self.url))
            }
        }
    }

    async fn call(&self, method: &str, parameters: &[Value]) -> Result<Value, Failure> {
        let late = || Error::failed(format!("supervisord at `{}` gave no answer to {method}", self.url));
        let answer = tokio::time::timeout(CALL_LIMIT, self.post(&xmlrpc::call(method, parameters))).await;
        let answer = answer.map_err(|_| late()).and_then(|answer| answer).map_err(Failure::Other)?;
        let unreachable = |why: String| {
            Failure::Other(Error::failed(format!("supervisord at `{}` can't be asked: {why}", self.url)).help(
                "the deploying user needs the right to its socket (`chmod`, `chown` of [unix_http_server]) or `auth`; sshd must allow forwarding",
            ))
        };
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Err(unreachable("nothing answers there".to_owned()));
        };
        let status = head.lines().next().unwrap_or_default();
        if status.split_whitespace().nth(1) != Some("200") {
            return Err(unreachable(status.to_owned()));
        }
        match xmlrpc::answer(body) {
            Some(Ok(value)) => Ok(value),
            Some(Err((code, text))) => Err(Failure::Fault(code, text)),
            None => Err(unreachable("its answer is no XML-RPC".to_owned())),
        }
    }

    async fn post(&self, body: &str) -> Result<String, Error> {
        let connect = tokio::net::UnixStream::connect(self.forward.path()).await;
        let mut stream =
            connect.map_err(|error| Error::failed(format!("the ssh connection broke: {error}")))?;
        let request = format!(
            "POST /RPC2 HTTP/1.0\r\nHost: localhost\r\nContent-Type: text/xml\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        let mut answer = Vec::new();
        // a peer that closes early has said what it had to say, or nothing
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Changed,
}

fn change(lists: &[Value], group: &str) -> Option<Change> {
    let has = |index: usize| {
        lists.get(index).is_some_and(|list| list.list().iter().any(|name| name.text() == group))
    };
    if has(0) {
        Some(Change::Added)
    } else if has(1) {
        Some(Change::Changed)
    } else {
        None
    }
}

fn group(program: &str) -> &str {
    program.split_once(':').map_or(program, |(group, _)| group)
}

fn running(info: &Value) -> Running {
    let number = |name: &str| info.get(name).and_then(Value::int).unwrap_or(0);
    let text = |name: &str| info.get(name).map_or("", Value::text);
    let why = if text("spawnerr").is_empty() { String::new() } else { format!(" ({})", text("spawnerr")) };
    Running {
        up: number("state") == RUNNING,
        pid: u32::try_from(number("pid")).ok().filter(|pid| *pid != 0),
        start: number("start").to_string(),
        words: format!("is {}{why}", text("statename")),
    }
}

fn socket(url: &str) -> Option<Socket<'_>> {
    if let Some(path) = url.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        return Some(Socket::UnixSocket { path: std::path::Path::new(path).into() });
    }
    let (host, port) = url.strip_prefix("http://")?.trim_end_matches('/').rsplit_once(':')?;
    Some(Socket::TcpSocket { host: host.into(), port: port.parse().ok()? })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0usize, |word, byte| word << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = char::from(ALPHABET[word >> (18 - 6 * place) & 63]);
            text.push(if place <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sockets_or_ports() {
        assert!(matches!(socket("unix:///run/s.sock"), Some(Socket::UnixSocket { .. })));
        assert!(matches!(socket("http://127.0.0.1:9001/"), Some(Socket::TcpSocket { port: 9001, .. })));
        for url in ["unix://run/s", "http://h", "https://h:1", "/run/s", "http://h:x"] {
            assert!(socket(url).is_none(), "{url}");
        }
        assert_eq!(base64(b"user:pw"), "dXNlcjpwdw==");
    }

    #[test]
    fn only_our_own_group_is_touched_by_a_changed_configuration() {
        let names =
            |names: &[&str]| Value::List(names.iter().map(|name| Value::Text((*name).to_owned())).collect());
        let lists = [names(&["new"]), names(&["web"]), names(&["gone"])];
        assert_eq!(change(&lists, group("web:web_0")), Some(Change::Changed));
        assert_eq!(change(&lists, group("new")), Some(Change::Added));
        assert_eq!(change(&lists, group("other")), None);
    }
}
