//! Services for jobs in the host's own network: each gets a loopback address, whose ports lead to the service.

use super::Running;
use crate::executor::{Said, Voice};
use crate::sandbox::JobNetwork;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The listeners of a job's services. Dropping it closes them.
#[derive(Debug, Default)]
pub(crate) struct Forwarders {
    tasks: JoinSet<()>,
}

/// The address of a service of a job: all of 127.0.0.0/8 is the host's own.
pub(crate) fn address(slot: u32, number: usize) -> Ipv4Addr {
    let [.., high, low] = slot.to_be_bytes();
    let number = u8::try_from(number).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 77_u8.wrapping_add(high), low, number)
}

impl Forwarders {
    /// Offers the ports of `service` at an address of the host. A port that can't be offered is a warning.
    pub(crate) async fn add(
        &mut self,
        service: &Running,
        at: Ipv4Addr,
        network: &Arc<JobNetwork>,
        said: &Voice,
    ) {
        for port in service.ports.iter().copied() {
            match TcpListener::bind((at, port)).await {
                Ok(listener) => {
                    self.tasks.spawn(accept(listener, network.clone(), service.number, port));
                }
                Err(error) => {
                    let text = format!(
                        "port {port} of service `{}` can't be offered at {at} in the host's network: {error}; with \
                         `pasta` (package passt) or `slirp4netns` installed, jobs have a network of their own",
                        service.name
                    );
                    said.say(Said::Warning(text));
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, network: Arc<JobNetwork>, number: usize, port: u16) {
    let mut connections = JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let network = network.clone();
        connections.spawn(async move {
            // whoever connects to a service that isn't there sees the connection closed
            if let Ok(Some(to)) = network.connect(number, port).await
                && let Ok(mut to) = asynchronous(to)
            {
                let _either_has_gone = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn asynchronous(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_every_job_has_its_own_loopback_address() {
        let mut seen = std::collections::HashSet::new();
        for slot in 0..600 {
            for number in 1..5 {
                assert!(seen.insert(address(slot, number)), "{slot} {number}");
            }
        }
        assert_eq!(address(3, 1), Ipv4Addr::new(127, 77, 3, 1));
    }
}
