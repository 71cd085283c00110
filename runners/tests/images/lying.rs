//! A registry that doesn't behave: a proxy before the real one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is wrong with answers for layers and configurations, or with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    None,
    /// The first answers for a blob break off after this many bytes; how many answers.
    BreaksOff { after: usize, times: usize },
    /// The same, but the connection stays open and silent.
    Stalls { after: usize, times: usize },
    /// A byte is wrong in the first answers for a blob.
    Flips { times: usize },
    /// Ranges are ignored; the first answer breaks off.
    KnowsNoRanges,
    /// 429 to the first requests.
    TooMany { times: usize },
    /// 500 to the first requests for manifests.
    Fails { times: usize },
    /// Another document than asked for, under every digest.
    SwapsManifests,
    /// A token is needed, and for that a user and password.
    WantsToken,
}

/// Ends with the runtime.
pub(crate) struct Lying {
    pub(crate) address: String,
    /// First lines of all requests.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
    listening: tokio::task::JoinHandle<()>,
}

struct Proxy {
    real: String,
    own: String,
    lie: Lie,
    /// Answers that may still be wrong.
    left: AtomicUsize,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Lying {
    pub(crate) async fn before(real: &str, lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let times = match lie {
            Lie::BreaksOff { times, .. } | Lie::Stalls { times, .. } => times,
            Lie::Flips { times } | Lie::TooMany { times } | Lie::Fails { times } => times,
            Lie::KnowsNoRanges => 1,
            Lie::None | Lie::SwapsManifests | Lie::WantsToken => 0,
        };
        let seen = Arc::default();
        let proxy = Arc::new(Proxy {
            real: real.to_owned(),
            own: address.clone(),
            lie,
            left: AtomicUsize::new(times),
            seen: Arc::clone(&seen),
        });
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = proxy.clone();
                // a client that goes away in the middle is what these tests are about
                tokio::spawn(async move { drop(proxy.serve(client).await) });
            }
        });
        Self { address, seen, listening }
    }

    /// Nobody listens there any more.
    pub(crate) async fn stop(self) {
        self.listening.abort();
        let _aborted = self.listening.await;
    }

    /// Requests whose first line contains `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

impl Proxy {
    async fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let request = head(&mut client).await?;
        let line = request.lines().next().unwrap_or_default().to_owned();
        self.seen.lock().unwrap().push(line.clone());
        if let Some(answer) = self.own_answer(&line, &request) {
            return client.write_all(answer.as_bytes()).await;
        }
        let mut lines: Vec<String> =
            request.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
        lines.retain(|line| {
            let lower = line.to_lowercase();
            let ranges = self.lie == Lie::KnowsNoRanges && lower.starts_with("range:");
            !ranges && !lower.starts_with("connection:") && !lower.starts_with("authorization:")
        });
        if self.lie == Lie::SwapsManifests && line.contains("/manifests/sha256:") {
            let (start, _) = line.split_once("sha256:").unwrap();
            lines[0] = format!("{start}latest HTTP/1.1");
            lines.retain(|line| !line.to_lowercase().starts_with("accept:"));
            lines.push("Accept: application/vnd.oci.image.index.v1+json".to_owned());
        }
        let mut upstream = TcpStream::connect(&self.real).await?;
        upstream.write_all(format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        self.spoil(&line, answer, client).await
    }

    fn own_answer(&self, line: &str, request: &str) -> Option<String> {
        let status = |status: &str, headers: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        match self.lie {
            Lie::TooMany { .. } if self.once_more() => Some(status("429 Too Many Requests", "", "slow down")),
            Lie::Fails { .. } if line.contains("/manifests/") && self.once_more() => {
                Some(status("500 Internal Server Error", "", "oops"))
            }
            Lie::WantsToken if line.contains("/token") => {
                // ann:s3cret
                let known = request.contains("Basic YW5uOnMzY3JldA==")
                    && line.contains("scope=repository%3Atiny%3Apull");
                Some(match known {
                    true => status("200 OK", "", r#"{"token": "good"}"#),
                    false => status("401 Unauthorized", "", "who are you?"),
                })
            }
            Lie::WantsToken if !request.contains("Bearer good") => {
                let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.own);
                Some(status("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\n"), ""))
            }
            _ => None,
        }
    }

    fn once_more(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    async fn spoil(&self, line: &str, mut answer: Vec<u8>, mut client: TcpStream) -> std::io::Result<()> {
        let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        // configurations are small, layers are not
        let spoilt = line.contains("/blobs/") && answer.len() - body > 10_000;
        match self.lie {
            Lie::BreaksOff { after, .. } | Lie::Stalls { after, .. } if spoilt && self.once_more() => {
                client.write_all(&answer[..(body + after).min(answer.len())]).await?;
                if matches!(self.lie, Lie::Stalls { .. }) {
                    // until the client gives up
                    let _gone = client.read(&mut [0; 16]).await;
                }
                Ok(())
            }
            Lie::KnowsNoRanges if spoilt && self.once_more() => {
                client.write_all(&answer[..body + 5_000]).await
            }
            Lie::Flips { .. } if spoilt && self.once_more() => {
                let middle = body + (answer.len() - body) / 2;
                answer[middle] ^= 1;
                client.write_all(&answer).await
            }
            _ => client.write_all(&answer).await,
        }
    }
}

async fn head(client: &mut TcpStream) -> std::io::Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(client.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
