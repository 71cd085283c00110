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
    wire::send_status(socket, &Status::Routing(std::process::id()));
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

/// Networks without a job that are kept for the next one: taking a network down makes the kernel wait for all of its
/// processors, which costs many times what everything else here does.
const KEPT: usize = 16;

struct Router {
    /// Our own namespace.
    own: OwnedFd,
    socket: Socket,
    networks: BTreeMap<u32, Network>,
    next: u32,
}

/// A bridge, by its number in [`Router::networks`].
struct Network {
    /// Of its containers.
    namespaces: Vec<OwnedFd>,
    /// Has a job now?
    taken: bool,
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
            Request::Leave(number) => {
                self.leave(number)?;
                Ok((Reply::Left, None))
            }
            Request::Connect(address, port) => Ok(match connect(address, port) {
                Ok(connection) => (Reply::Connected, Some(connection)),
                Err(_) => (Reply::Refused, None),
            }),
        }
    }

    fn join(&mut self, containers: u32) -> Result<Reply, Failure> {
        let fits = |network: &Network| !network.taken && network.namespaces.len() >= containers as usize;
        let kept = self.networks.iter().filter(|(_, network)| fits(network));
        let smallest = kept.min_by_key(|(_, network)| network.namespaces.len()).map(|(number, _)| *number);
        let number = match smallest {
            Some(number) => number,
            None => self.make(containers)?,
        };
        let Some(network) = self.networks.get_mut(&number) else {
            return Err(Failure::new(format!("entering network {number}"), "it is gone"));
        };
        network.taken = true;
        let ends = network.namespaces.iter().zip(0..containers);
        let ends = ends.map(|(namespace, at)| (namespace.as_raw_fd(), links::container(number, at)));
        Ok(Reply::Joined(number, ends.collect()))
    }

    /// Jobs can't change their namespaces (they lack CAP_NET_ADMIN) and their processes are dead: one that is used
    /// again is as good as new.
    fn leave(&mut self, number: u32) -> Result<(), Failure> {
        let kept = self.networks.values().filter(|network| !network.taken).count();
        if kept < KEPT {
            if let Some(network) = self.networks.get_mut(&number) {
                network.taken = false;
            }
        } else if self.networks.remove(&number).is_some() {
            let removed = links::remove_bridge(&mut self.socket, number);
            removed.doing(|| format!("removing network {number}"))?;
        }
        Ok(())
    }

    fn make(&mut self, containers: u32) -> Result<u32, Failure> {
        // a number is not used again at once: the kernel takes a while to take a network down
        let mut numbers = (0..links::NETWORKS).map(|offset| (self.next + offset) % links::NETWORKS);
        let free = numbers.find(|number| !self.networks.contains_key(number));
        let number = free.filter(|_| containers <= links::CONTAINERS).ok_or_else(|| {
            Failure::new(format!("making a network of {containers} containers"), "there is no room for it")
        })?;
        self.next = number + 1;
        links::add_bridge(&mut self.socket, number).doing(|| format!("making bridge {number}"))?;
        let made: Result<Vec<OwnedFd>, Failure> =
            (0..containers).map(|at| self.container(number, at)).collect();
        match made {
            Ok(namespaces) => {
                self.networks.insert(number, Network { namespaces, taken: false });
                Ok(number)
            }
            Err(failure) => {
                // the failure before it is the one to tell
                let _as_well = links::remove_bridge(&mut self.socket, number);
                Err(failure)
            }
        }
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
    // connections that one job has closed must not keep a port from the next one; kernels that don't know it per
    // namespace refuse
    let _optional = std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0");
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
