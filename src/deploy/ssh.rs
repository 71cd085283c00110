//! One multiplexed ssh connection to a target, through the system's `ssh` and so with the user's own
//! configuration, agent and jump hosts.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use openssh::{ControlPersist, KnownHosts, SessionBuilder, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tokio::task::JoinHandle;

use super::error::Error;
use super::lock;
use super::script::Script;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// For a short step on a target. One that is gone is noticed by the missing signs of life; this is for one that is slow.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// A master whose `ci` was killed ends by itself after this time.
const ABANDONED_MASTER: std::num::NonZeroUsize = std::num::NonZeroUsize::new(900).expect("not zero");
/// A socket path has 108 bytes; the names below this directory take some fifty of them.
const LONGEST_CONTROL_DIRECTORY: usize = 50;

/// What a script printed and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code; `None` when it was killed or the connection broke.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// The last lines that it printed, for an error.
    pub(crate) fn tail(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        last_lines(text, 4)
    }
}

/// The last `count` lines of `text` that say something, as one line.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join(" / ")
}

/// The connection.
pub(crate) struct Session {
    master: Arc<openssh::Session>,
    destination: String,
}

/// A process on the target that lives until this value, this process or the connection is gone. It is told regularly
/// that we live.
pub(crate) struct Hold {
    /// What the script said before.
    pub(crate) said: String,
    _child: openssh::Child<Arc<openssh::Session>>,
    beats: JoinHandle<()>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

async fn beat(mut stdin: openssh::ChildStdin) {
    while stdin.write_all(b"\n").await.is_ok() {
        tokio::time::sleep(lock::BEAT).await;
    }
}

impl Session {
    /// Connects to `destination`.
    pub(crate) async fn connect(destination: &str) -> Result<Self, Error> {
        let mut builder = SessionBuilder::default();
        builder
            .server_alive_interval(KEEP_ALIVE)
            .control_persist(ControlPersist::IdleFor(ABANDONED_MASTER))
            .control_directory(control_directory());
        let configured = effective_configuration(&builder, destination).await?;
        builder.known_hosts_check(known_hosts(&configured));
        if option(&configured, "connecttimeout").is_none_or(|value| value == "none") {
            builder.connect_timeout(CONNECT_TIMEOUT);
        }
        let master = builder.connect_mux(destination).await.map_err(|error| explain(destination, &error))?;
        Ok(Self { master: Arc::new(master), destination: destination.to_owned() })
    }

    /// Runs a script in `sh` on the target. `limit` bounds the wait, not the remote process.
    pub(crate) async fn run(&self, script: &Script, limit: Duration) -> Result<Output, Error> {
        let run = async {
            let mut shell = self.master.command("sh");
            shell.arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = shell.spawn().await.map_err(|error| self.broken(&error))?;
            if let Some(mut stdin) = child.stdin().take() {
                // a shell that is gone already says so by its exit
                let _ = stdin.write_all(script.text().as_bytes()).await;
            }
            self.finish(child.wait_with_output().await)
        };
        self.bounded(limit, run).await
    }

    /// Runs a script that prints `held` and then reads standard input to its end; or ends, and says why.
    pub(crate) async fn hold(&self, script: &Script, limit: Duration) -> Result<Result<Hold, Output>, Error> {
        let hold = async {
            let mut shell = Arc::clone(&self.master).arc_command("sh");
            shell.arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = shell.spawn().await.map_err(|error| self.broken(&error))?;
            let (Some(mut stdin), Some(stdout)) = (child.stdin().take(), child.stdout().take()) else {
                return Err(Error::failed("the remote shell has no pipes"));
            };
            let _ = stdin.write_all(format!("{}\n", script.open_text()).as_bytes()).await;
            let (mut lines, mut said) = (BufReader::new(stdout).lines(), String::new());
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "held" {
                    return Ok(Ok(Hold { said, _child: child, beats: tokio::spawn(beat(stdin)) }));
                }
                said.push_str(&line);
                said.push('\n');
            }
            drop(stdin);
            let output = self.finish(child.wait_with_output().await)?;
            Ok(Err(Output { stdout: said, ..output }))
        };
        self.bounded(limit, hold).await
    }

    /// Streams a file, from the byte `offset` on, to the end of `path` on the target. Nothing is said about what
    /// arrived: compare digests.
    pub(crate) async fn upload(
        &self,
        (file, offset): (&Path, u64),
        path: &str,
        limit: Duration,
    ) -> Result<Output, Error> {
        let copy = async {
            // `read` takes exactly one line from a pipe, so the path needs no place in the arguments
            let mut shell = self.master.command("sh");
            shell.arg("-c").arg(r#"IFS= read -r path && exec cat >>"$path""#);
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = shell.spawn().await.map_err(|error| self.broken(&error))?;
            if let Some(mut stdin) = child.stdin().take() {
                let read = |error| Error::failed(format!("cannot read `{}`: {error}", file.display()));
                let mut source = tokio::fs::File::open(file).await.map_err(read)?;
                source.seek(std::io::SeekFrom::Start(offset)).await.map_err(read)?;
                // a full disk ends the remote `cat`; its own message is the better one
                if stdin.write_all(format!("{path}\n").as_bytes()).await.is_ok() {
                    let _ = tokio::io::copy(&mut source, &mut stdin).await;
                }
            }
            self.finish(child.wait_with_output().await)
        };
        self.bounded(limit, copy).await
    }

    /// Makes a socket of the target reachable through the connection, for as long as that lives.
    pub(crate) async fn forward(&self, socket: openssh::Socket<'_>) -> Result<Forward, Error> {
        let directory = tempfile::Builder::new().prefix("ci-").tempdir_in(control_directory());
        let directory =
            directory.map_err(|error| Error::failed(format!("cannot forward a socket: {error}")))?;
        let forward = Forward { directory };
        let path = forward.path();
        let here = openssh::Socket::UnixSocket { path: std::borrow::Cow::Borrowed(&path) };
        let request = self.master.request_port_forward(openssh::ForwardType::Local, here, socket);
        request.await.map_err(|error| self.broken(&error))?;
        Ok(forward)
    }

    /// Whether the connection still stands.
    pub(crate) async fn lives(&self) -> bool {
        self.master.check().await.is_ok()
    }

    /// Ends the connection.
    pub(crate) async fn close(self) {
        if let Ok(master) = Arc::try_unwrap(self.master) {
            let _ = master.close().await;
        }
    }

    async fn bounded<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late =
            || Error::failed(format!("`{}` gave no answer within {} s", self.destination, limit.as_secs()));
        tokio::time::timeout(limit, work).await.map_err(|_| late())?
    }

    fn finish(&self, output: Result<std::process::Output, openssh::Error>) -> Result<Output, Error> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match output {
            Ok(output) => Ok(Output {
                code: ExitStatus::code(&output.status),
                stdout: text(output.stdout),
                stderr: text(output.stderr),
            }),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &openssh::Error) -> Error {
        let reason = std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        Error::failed(format!("the ssh connection to `{}` broke: {reason}", self.destination))
    }
}

/// A socket of a target that can be reached from here.
#[derive(Debug)]
pub(crate) struct Forward {
    directory: tempfile::TempDir,
}

impl Forward {
    /// The socket on this machine.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }
}

/// Sockets have short paths, and a home directory may be long or read-only.
fn control_directory() -> PathBuf {
    let temporary = std::env::temp_dir();
    if temporary.as_os_str().len() <= LONGEST_CONTROL_DIRECTORY { temporary } else { PathBuf::from("/tmp") }
}

/// What the user's configuration says about this host (`ssh -G`): the crate always passes its own choice for
/// some options, so those have to be looked up first.
async fn effective_configuration(builder: &SessionBuilder, destination: &str) -> Result<String, Error> {
    let (resolved, host) = builder.resolve(destination);
    let mut ssh = tokio::process::Command::new("ssh");
    ssh.arg("-G").stdin(std::process::Stdio::null());
    if let Some(user) = resolved.get_user() {
        ssh.args(["-l", user]);
    }
    if let Some(port) = resolved.get_port() {
        ssh.args(["-p", port]);
    }
    let output = ssh.arg(host).output().await.map_err(|error| {
        Error::failed(format!("cannot run `ssh`: {error}")).help("install the OpenSSH client")
    })?;
    if !output.status.success() {
        let said = last_lines(&String::from_utf8_lossy(&output.stderr), 2);
        return Err(Error::failed(format!("`ssh` refuses the target `{destination}`: {said}"))
            .help("mend `SSH_USER_HOST` or the ssh configuration"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn option<'a>(configuration: &'a str, name: &str) -> Option<&'a str> {
    configuration.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn known_hosts(configuration: &str) -> KnownHosts {
    match option(configuration, "stricthostkeychecking") {
        Some("no" | "off" | "false") => KnownHosts::Accept,
        Some("accept-new") => KnownHosts::Add,
        _ => KnownHosts::Strict,
    }
}

/// Says which of the usual reasons it was.
fn explain(destination: &str, error: &openssh::Error) -> Error {
    let detail = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let detail = detail.replace('\r', "");
    let (what, help) = if detail.contains("Host key verification failed") || detail.contains("host key") {
        (
            "its host key is unknown or has changed",
            "compare the key's fingerprint with the host's own, then add it to ~/.ssh/known_hosts (`ssh-keyscan`), or set `StrictHostKeyChecking accept-new` for it in ~/.ssh/config",
        )
    } else if detail.contains("Permission denied") || detail.contains("Too many authentication failures") {
        (
            "it accepts none of our keys",
            "check the user name, that the agent holds the key (`ssh-add -l`), and that its public half is in the target's ~/.ssh/authorized_keys",
        )
    } else if detail.contains("Could not resolve") {
        ("its name is unknown", "check the host in `SSH_USER_HOST` and the `Host` entries in ~/.ssh/config")
    } else if ["refused", "timed out", "unreachable", "No route"].iter().any(|word| detail.contains(word)) {
        (
            "it can't be reached",
            "check that the host is up, that sshd listens on that port, and the way there (VPN, ProxyJump, firewall)",
        )
    } else {
        ("no connection", "try `ssh` to it by hand with `-v`")
    };
    Error::failed(format!("cannot connect to `{destination}`: {what} ({})", last_lines(&detail, 2)))
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_is_told_by_its_cause() {
        let cases = [
            ("connect to host h port 22: Connection refused", "can't be reached"),
            ("connect to host h port 22: Connection timed out", "can't be reached"),
            ("a@h: Permission denied (publickey).", "none of our keys"),
            ("Host key verification failed.", "host key"),
            ("Could not resolve hostname h: Name or service not known", "name is unknown"),
            ("kex_exchange_identification: read: Connection reset by peer", "no connection"),
        ];
        for (detail, expected) in cases {
            let error = explain("a@h", &openssh::Error::Connect(std::io::Error::other(detail)));
            assert!(error.message.contains(expected), "{detail}: {}", error.message);
            assert_eq!(error.outcome, super::super::error::Outcome::Failed);
            assert!(error.help.is_some());
        }
    }

    #[test]
    fn the_users_own_host_key_policy_is_kept() {
        let policy = |value: &str| {
            format!("{:?}", known_hosts(&format!("user a\nstricthostkeychecking {value}\nport 22\n")))
        };
        assert_eq!(policy("false"), "Accept");
        assert_eq!(policy("accept-new"), "Add");
        assert_eq!(policy("ask"), "Strict");
        assert_eq!(policy("true"), "Strict");
    }
}
