//! The router, seen from `ci`.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

use super::egress::NAME_SERVER;
use super::talk::{self, Reply, Request};
use crate::sandbox::spec::Joint;
use crate::sandbox::{Error, Network, Output, Sandbox, Spec, Streams, Task};

/// Longer than any of the programs that lead out needs to start.
const EGRESS_START: Duration = Duration::from_secs(10);

/// Whether containers reach the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Not yet.
    Starting,
    /// By this program.
    Up(String),
    /// They don't, for this reason.
    Down(String),
}

/// The process behind all networks of a run. When the last copy and the last [`JobNetwork`] are gone, so is it.
#[derive(Clone, Debug)]
pub struct Router {
    pid: u32,
    asks: mpsc::UnboundedSender<Ask>,
    egress: watch::Receiver<Egress>,
}

/// What is asked of the router's process, and who wants to know.
type Ask = (Request, oneshot::Sender<Result<Answer, Error>>);
type Answer = (Reply, Option<OwnedFd>);

/// The network of a job: a namespace with an address for each of its containers. Dropping it removes it.
#[derive(Debug)]
pub struct JobNetwork {
    router: Router,
    number: u32,
    ends: Vec<(i32, Ipv4Addr)>,
}

impl Router {
    /// Starts the process; with `egress`, the way out is made in the background.
    ///
    /// # Errors
    /// The kernel allows no network namespaces.
    pub async fn start(sandbox: &Sandbox, egress: bool) -> Result<Router, Error> {
        let spec = Spec::none();
        let streams = Streams { stdin: None, stdout: Output::Pipe, stderr: Output::Null };
        let process = sandbox.start(&spec, Task::Route { egress }, streams).await?;
        let (pid, socket, stdout) = process.into_router().ok_or(Error::Lost)?;
        let (asks, asked) = mpsc::unbounded_channel();
        let begin = if egress { Egress::Starting } else { Egress::Down("it is not wanted".to_owned()) };
        let (tell, egress) = watch::channel(begin);
        tokio::spawn(speak(socket, asked));
        if let Some(stdout) = stdout {
            tokio::spawn(listen(stdout, tell));
        }
        Ok(Router { pid, asks, egress })
    }

    /// Waits until it is known whether containers reach the world.
    pub async fn egress(&self) -> Egress {
        let mut egress = self.egress.clone();
        let known = egress.wait_for(|egress| *egress != Egress::Starting);
        match tokio::time::timeout(EGRESS_START, known).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) => Egress::Down("the router has ended".to_owned()),
            Err(_) => Egress::Down(format!("it was not ready after {} s", EGRESS_START.as_secs())),
        }
    }

    /// Makes a network of so many containers.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn join(&self, containers: u32) -> Result<JobNetwork, Error> {
        match self.ask(Request::Join(containers)).await? {
            (Reply::Joined(number, ends), _) => Ok(JobNetwork { router: self.clone(), number, ends }),
            (Reply::Failed(failure), _) => Err(Error::Setup(failure)),
            _ => Err(Error::Lost),
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, Error> {
        let (tell, told) = oneshot::channel();
        self.asks.send((request, tell)).map_err(|_| Error::Lost)?;
        told.await.map_err(|_| Error::Lost)?
    }
}

impl JobNetwork {
    /// Address of the container with this number, from 0.
    pub fn address(&self, container: usize) -> Option<Ipv4Addr> {
        self.ends.get(container).map(|(_, address)| *address)
    }

    /// The network as that container enters it.
    pub fn network(&self, container: usize) -> Option<Network> {
        let (namespace, _) = *self.ends.get(container)?;
        Some(Network::Joined(Joint { router: self.router.pid, namespace }))
    }

    /// Connects to a container from outside of it; `None`: nobody listens there.
    ///
    /// # Errors
    /// The router is gone.
    pub async fn connect(&self, container: usize, port: u16) -> Result<Option<std::net::TcpStream>, Error> {
        let Some(address) = self.address(container) else { return Ok(None) };
        match self.router.ask(Request::Connect(address, port)).await? {
            (Reply::Connected, connection) => Ok(connection.map(Into::into)),
            _ => Ok(None),
        }
    }
}

impl Drop for JobNetwork {
    fn drop(&mut self) {
        let (tell, _nobody_waits) = oneshot::channel();
        // a router that is gone took it along
        let _gone = self.router.asks.send((Request::Leave(self.number), tell));
    }
}

/// Passes requests on, one at a time, until nobody can make one any more. The router ends with its socket.
async fn speak(mut socket: UnixStream, mut asked: mpsc::UnboundedReceiver<Ask>) {
    while let Some((request, tell)) = asked.recv().await {
        let answer = exchange(&mut socket, request).await;
        // nobody waits for the end of a network
        let _nobody = tell.send(answer.map_err(Error::io("speaking to the network's router")));
    }
}

async fn exchange(socket: &mut UnixStream, request: Request) -> std::io::Result<Answer> {
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    socket.write_all(&line).await?;
    let (mut reply, mut descriptor) = (Vec::new(), None);
    while reply.last() != Some(&b'\n') {
        socket.async_io(Interest::READABLE, || talk::receive(&*socket, &mut reply, &mut descriptor)).await?;
    }
    Ok((serde_json::from_slice(&reply)?, descriptor))
}

async fn listen(stdout: pipe::Receiver, tell: watch::Sender<Egress>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let egress = match line.split_once(' ') {
            Some(("up", program)) => Egress::Up(program.to_owned()),
            Some((_, reason)) => Egress::Down(reason.to_owned()),
            None => continue,
        };
        let _nobody_asks = tell.send(egress);
    }
}

/// The host's settings of its resolver, with the name server that containers reach: what they get as
/// `/etc/resolv.conf`.
pub fn resolver_settings() -> String {
    let candidates = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"].map(PathBuf::from);
    let host = candidates.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    through_egress(&host)
}

fn through_egress(host: &str) -> String {
    let mut text = format!("nameserver {NAME_SERVER}\n");
    let kept = |line: &&str| ["search ", "options ", "domain "].iter().any(|key| line.starts_with(key));
    for line in host.lines().filter(kept) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_keeps_everything_but_the_name_servers() {
        let host = "# by systemd\nnameserver 127.0.0.53\nsearch example.org\noptions edns0\n";
        assert_eq!(through_egress(host), "nameserver 10.0.2.3\nsearch example.org\noptions edns0\n");
    }
}
