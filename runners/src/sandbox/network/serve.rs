//! The router's process: makes networks, connects to their containers, and holds their namespaces open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::netlink::Socket;
use super::talk::{self, Reply, Request};
use super::{egress, links};
use crate::sandbox::error::Doing;
use crate::sandbox::spec::Joint;
use crate::sandbox::wire::{self, Status};
use crate::sandbox::{Failure, sys};

/// On our own bridges an answer takes microseconds; whoever drops packets is taken for not listening.
const CONNECT: Duration = Duration::from_millis(100);

/// Until `ci` is gone. The caller is root in the user namespace that shall own the networks.
pub(in crate::sandbox) fn serve(socket: &UnixStream, egress: bool, rootless: bool) -> Result<(), Failure> {
    let gate = if egress { Some(egress::fork_guard(rootless)?) } else { None };
    let mut router = Router::new()?;
    if let Some(gate) = gate {
        egress::open(gate);
    }
    wire::send_status(socket, &Status::Started);
    for line in BufReader::new(socket).lines() {
        let Ok(line) = line else { break };
        let doing = || "reading a request of `ci`".to_owned();
        let request: Request = serde_json::from_str(&line).map_err(io::Error::from).doing(doing)?;
        let (reply, connection) = router.handle(request).unwrap_or_else(|f| (Reply::Failed(f), None));
        if talk::send(socket, &reply, connection.as_ref().map(OwnedFd::as_fd)).is_err() {
            break;
        }
    }
    Ok(())
}

struct Router {
    /// Our own namespace.
    own: OwnedFd,
    socket: Socket,
    /// Namespaces of containers, by number of their network.
    networks: BTreeMap<u32, Vec<OwnedFd>>,
    /// Where to look for the next free number: the kernel takes a while to take a network down, so that a number is
    /// not to be used again at once.
    next: u32,
}

impl Router {
    /// Moves the calling process into the router's namespace.
    fn new() -> Result<Self, Failure> {
        let own = new_namespace()?;
        let doing = || "setting up the router's network".to_owned();
        let mut socket = Socket::route().doing(doing)?;
        links::loopback_up(&mut socket).doing(doing)?;
        links::separate_networks(&mut socket).doing(|| "separating networks".to_owned())?;
        // also without a way out: who asks for the world is told at once that there is none
        let forward = "/proc/sys/net/ipv4/ip_forward";
        std::fs::write(forward, "1").doing(|| format!("writing `{forward}`"))?;
        Ok(Self { own, socket, networks: BTreeMap::new(), next: 0 })
    }

    fn handle(&mut self, request: Request) -> Result<(Reply, Option<OwnedFd>), Failure> {
        match request {
            Request::Join(containers) => Ok((self.join(containers)?, None)),
            Request::Leave(network) => {
                if self.networks.remove(&network).is_some() {
                    let removed = links::remove_bridge(&mut self.socket, network);
                    removed.doing(|| format!("removing network {network}"))?;
                }
                Ok((Reply::Left, None))
            }
            Request::Connect(address, port) => Ok(match connect(address, port) {
                Ok(connection) => (Reply::Connected, Some(connection)),
                Err(_) => (Reply::Refused, None),
            }),
        }
    }

    fn join(&mut self, containers: u32) -> Result<Reply, Failure> {
        let numbers = (0..links::NETWORKS).map(|offset| (self.next + offset) % links::NETWORKS);
        let free = numbers.into_iter().find(|number| !self.networks.contains_key(number));
        let network = free.filter(|_| containers <= links::CONTAINERS).ok_or_else(|| {
            Failure::new(format!("making a network of {containers} containers"), "there is no room for it")
        })?;
        links::add_bridge(&mut self.socket, network).doing(|| format!("making bridge {network}"))?;
        let made = (0..containers).map(|number| self.container(network, number)).collect();
        let namespaces: Vec<OwnedFd> = match made {
            Ok(namespaces) => namespaces,
            Err(failure) => {
                // the failure before it is the one to tell
                let _as_well = links::remove_bridge(&mut self.socket, network);
                return Err(failure);
            }
        };
        let ends = namespaces
            .iter()
            .zip(0..)
            .map(|(namespace, number)| (namespace.as_raw_fd(), links::container(network, number)));
        let reply = Reply::Joined(network, ends.collect());
        self.next = network + 1;
        self.networks.insert(network, namespaces);
        Ok(reply)
    }

    fn container(&mut self, network: u32, number: u32) -> Result<OwnedFd, Failure> {
        let doing = || format!("connecting container {number} of network {network}");
        let made = new_namespace().and_then(|namespace| Ok((namespace, Socket::route().doing(doing)?)));
        move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::Network))
            .doing(|| "going back to the router's namespace".to_owned())?;
        let (namespace, mut inside) = made?;
        links::add_cable(&mut self.socket, network, number, namespace.as_fd()).doing(doing)?;
        links::configure_container(&mut inside, network, number).doing(doing)?;
        Ok(namespace)
    }
}

/// Moves the calling process into a new network namespace.
fn new_namespace() -> Result<OwnedFd, Failure> {
    let doing = || "creating a network namespace".to_owned();
    sys::unshare(UnshareFlags::NEWNET).doing(doing)?;
    Ok(File::open("/proc/self/ns/net").doing(doing)?.into())
}

fn connect(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let stream = std::net::TcpStream::connect_timeout(&(address, port).into(), CONNECT)?;
    Ok(stream.into())
}

/// Moves the calling process into a container's namespace, and for ordinary users into the router's user namespace
/// before.
pub(in crate::sandbox) fn enter(joint: &Joint, rootless: bool) -> Result<(), Failure> {
    let router = joint.router;
    let open = |path: String| File::open(&path).doing(|| format!("opening `{path}` of the network's router"));
    let network = open(format!("/proc/{router}/fd/{}", joint.namespace))?;
    if rootless {
        let user = open(format!("/proc/{router}/ns/user"))?;
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
            .doing(|| "entering the user namespace of the network".to_owned())?;
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .doing(|| "entering the job's network".to_owned())
}
