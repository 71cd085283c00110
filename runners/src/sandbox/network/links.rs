//! Bridges, virtual cables, addresses, routes: the shape of our networks. See [`super`] for the picture.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::netlink::{CREATE, Message, Socket, text};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const NEWRULE: u16 = 32;
const INET: u8 = 2;
const UP: u32 = 1;
const MAIN_TABLE: u8 = 254;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

/// All of our addresses: networks are /24s of it.
const RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 208, 0, 0), 12);
/// How many networks the range has.
pub(super) const NETWORKS: u32 = 1 << (24 - 12);
/// How many containers a network has addresses for.
pub(super) const CONTAINERS: u32 = 250;
/// The interface that leads out of the router.
pub(super) const EGRESS: &str = "tap0";
/// Index of a container's end of its cable. Indexes of our own are far from those that the kernel gives away.
const INSIDE: u32 = 1000;

/// Address of a container (from 0) of a network; the router's is that of container -1.
pub(super) fn address(network: u32, host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(RANGE.0) + (network << 8) + host)
}

/// The router's own address in a network: the containers' gateway.
pub(super) fn gateway(network: u32) -> Ipv4Addr {
    address(network, 1)
}

/// Address of the container with this number, from 0.
pub(super) fn container(network: u32, number: u32) -> Ipv4Addr {
    address(network, number + 2)
}

fn bridge_index(network: u32) -> u32 {
    10_000 + network * 256
}

fn ifinfomsg(index: u32, up: bool) -> Vec<u8> {
    let flags = if up { UP } else { 0 };
    let mut body = vec![0; 4];
    for word in [index, flags, flags] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body
}

/// Switches the loopback interface on.
pub(super) fn loopback_up(socket: &mut Socket) -> io::Result<()> {
    socket.ask(Message::new(NEWLINK, 0, &ifinfomsg(1, true)))
}

/// In the router: networks can't reach one another. What comes from outside, and what the router itself sends,
/// may go to any network; all else that goes to a network and is not for the router is from another network.
pub(super) fn separate_networks(socket: &mut Socket) -> io::Result<()> {
    const FRA_DST: u16 = 1;
    const FRA_IIFNAME: u16 = 3;
    const FRA_PRIORITY: u16 = 6;
    const TO_TABLE: u8 = 1;
    const UNREACHABLE: u8 = 7;
    for (priority, from, action) in
        [(100u32, Some(EGRESS), TO_TABLE), (101, Some("lo"), TO_TABLE), (102, None, UNREACHABLE)]
    {
        let table = if action == TO_TABLE { MAIN_TABLE } else { 0 };
        let body = [INET, RANGE.1, 0, 0, table, 0, 0, action, 0, 0, 0, 0];
        let mut rule = Message::new(NEWRULE, CREATE, &body)
            .with(FRA_DST, &RANGE.0.octets())
            .with(FRA_PRIORITY, &priority.to_ne_bytes());
        if let Some(name) = from {
            rule = rule.with(FRA_IIFNAME, &text(name));
        }
        socket.ask(rule)?;
    }
    Ok(())
}

/// In the router: a bridge with the gateway's address.
pub(super) fn add_bridge(socket: &mut Socket, network: u32) -> io::Result<()> {
    let index = bridge_index(network);
    let bridge = Message::new(NEWLINK, CREATE, &ifinfomsg(index, true))
        .with(IFLA_IFNAME, &text(&format!("br{network}")))
        .nest(IFLA_LINKINFO, &[], |info| info.with(INFO_KIND, b"bridge"));
    socket.ask(bridge)?;
    add_address(socket, index, gateway(network))
}

/// In the router: removes a bridge. Its cables go with the namespaces at their other ends.
pub(super) fn remove_bridge(socket: &mut Socket, network: u32) -> io::Result<()> {
    socket.ask(Message::new(DELLINK, 0, &ifinfomsg(bridge_index(network), false)))
}

/// In the router: a cable from the bridge to `eth0` in the namespace `inside`.
pub(super) fn add_cable(
    socket: &mut Socket,
    network: u32,
    number: u32,
    inside: BorrowedFd<'_>,
) -> io::Result<()> {
    let bridge = bridge_index(network);
    let peer = |data: Message| {
        data.nest(VETH_PEER, &ifinfomsg(INSIDE, false), |peer| {
            peer.with(IFLA_IFNAME, &text("eth0")).with(IFLA_NET_NS_FD, &inside.as_raw_fd().to_ne_bytes())
        })
    };
    let cable = Message::new(NEWLINK, CREATE, &ifinfomsg(bridge + 1 + number, true))
        .with(IFLA_IFNAME, &text(&format!("v{network}-{number}")))
        .with(IFLA_MASTER, &bridge.to_ne_bytes())
        .nest(IFLA_LINKINFO, &[], |info| info.with(INFO_KIND, b"veth").nest(INFO_DATA, &[], peer));
    socket.ask(cable)
}

/// In a container's namespace: loopback, address, the way out.
pub(super) fn configure_container(socket: &mut Socket, network: u32, number: u32) -> io::Result<()> {
    const RTA_GATEWAY: u16 = 5;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    loopback_up(socket)?;
    socket.ask(Message::new(NEWLINK, 0, &ifinfomsg(INSIDE, true)))?;
    add_address(socket, INSIDE, container(network, number))?;
    let route = Message::new(NEWROUTE, CREATE, &[INET, 0, 0, 0, MAIN_TABLE, STATIC, 0, UNICAST, 0, 0, 0, 0])
        .with(RTA_GATEWAY, &gateway(network).octets());
    socket.ask(route)
}

fn add_address(socket: &mut Socket, index: u32, address: Ipv4Addr) -> io::Result<()> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let mut body = vec![INET, 24, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    let message = Message::new(NEWADDR, CREATE, &body)
        .with(IFA_LOCAL, &address.octets())
        .with(IFA_ADDRESS, &address.octets());
    socket.ask(message)
}

/// In the router: what leaves through [`EGRESS`] has the address of that interface.
pub(super) fn masquerade() -> io::Result<()> {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const NFTABLES: u16 = 10;
    let kind = |message: u16| NFTABLES << 8 | message;
    let bounds = |edge| Message::new(edge, 0, &[0, 0, 0, NFTABLES as u8]);
    let ipv4 = [INET, 0, 0, 0];
    let (table, chain) = (text("slipway"), text("out"));
    let number = |value: u32| value.to_be_bytes();
    let add_table = Message::new(kind(0), CREATE, &ipv4).with(1, &table);
    let add_chain = Message::new(kind(3), CREATE, &ipv4)
        .with(1, &table)
        .with(3, &chain)
        // after routing, with the priority of source NAT
        .nest(4, &[], |hook| hook.with(1, &number(4)).with(2, &number(100)))
        .with(7, &text("nat"));
    let expression = |list: Message, name: &str, data: &dyn Fn(Message) -> Message| {
        list.nest(1, &[], |element| element.with(1, &text(name)).nest(2, &[], data))
    };
    let mut interface = [0; 16];
    interface[..EGRESS.len()].copy_from_slice(EGRESS.as_bytes());
    const REGISTER: u32 = 1;
    const OUTPUT_INTERFACE_NAME: u32 = 7;
    let add_rule =
        Message::new(kind(6), CREATE, &ipv4).with(1, &table).with(2, &chain).nest(4, &[], |list| {
            let list = expression(list, "meta", &|data| {
                data.with(1, &number(REGISTER)).with(2, &number(OUTPUT_INTERFACE_NAME))
            });
            let list = expression(list, "cmp", &|data| {
                data.with(1, &number(REGISTER))
                    .with(2, &number(0))
                    .nest(3, &[], |value| value.with(1, &interface))
            });
            expression(list, "masq", &|data| data)
        });
    let batch = vec![bounds(BATCH_BEGIN), add_table, add_chain, add_rule, bounds(BATCH_END)];
    Socket::netfilter()?.ask_all(batch)
}
