//! Which hosts may be reached: a server that fetches what a configuration names must not become a way into the network
//! that it stands in.

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

/// Hosts that may be reached. The default: all.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Names and addresses that may be private; none: everything may be reached.
    allowed: Option<Arc<[String]>>,
}

impl Reach {
    /// Only public addresses, and these hosts (names, or addresses) wherever they are.
    pub fn public(allowed: &[String]) -> Reach {
        Reach { allowed: Some(allowed.iter().map(|host| host.to_ascii_lowercase()).collect()) }
    }

    /// Names are looked at when they are resolved; an address stands for itself.
    ///
    /// # Errors
    /// It is private, and not allowed; says what to do.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let Some(host) = url.host_str() else { return Ok(()) };
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if self.refuses(host.trim_matches(['[', ']']), address) => Err(refusal(host)),
            _ => Ok(()),
        }
    }

    /// As [`Reach::check`] for what is not reached by http: the name is resolved here.
    ///
    /// # Errors
    /// As [`Reach::check`].
    pub fn check_host(&self, host: &str) -> Result<(), String> {
        if self.allowed.is_none() {
            return Ok(());
        }
        // a name that does not resolve can't be reached either
        let mut found = (host, 0).to_socket_addrs().into_iter().flatten();
        match found.any(|address| self.refuses(host, address.ip())) {
            true => Err(refusal(host)),
            false => Ok(()),
        }
    }

    fn refuses(&self, host: &str, address: IpAddr) -> bool {
        let Some(allowed) = &self.allowed else { return false };
        let named = |text: &String| *text == host.to_ascii_lowercase() || *text == address.to_string();
        is_private(address) && !allowed.iter().any(named)
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            // all or none: which of them is taken is not decided here
            if found.iter().any(|address| reach.refuses(&host, address.ip())) {
                return Err(refusal(&host).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn refusal(host: &str) -> String {
    format!("`{host}` is in a private network: `allow_private` in `server.yml` may list it")
}

/// Not an address of the public internet?
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private_v4(v4),
            None => is_private_v6(v6),
        },
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_multicast()
        || a == 0
        || (a == 100 && (b & 0b1100_0000) == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b & 0xfe) == 18)
        || a >= 240
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let [first, second, ..] = v6.segments();
    // addresses that hold an IPv4 address inside (NAT64, 6to4) lead where that leads
    let inner = match (first, second) {
        (0x64, 0xff9b) => Some(v6.octets()[12..].to_vec()),
        (0x2002, _) => Some(v6.octets()[2..6].to_vec()),
        _ => None,
    };
    let inner = inner.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || (first & 0xfe00) == 0xfc00
        || (first & 0xffc0) == 0xfe80
        || inner.is_some_and(is_private_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_refused_unless_they_are_listed() {
        let reach = Reach::public(&["git.internal".to_owned(), "10.0.0.7".to_owned()]);
        let table = [
            ("http://127.0.0.1/x", false),
            ("http://[::1]:80/x", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("http://10.0.0.8/", false),
            ("http://10.0.0.7/", true),
            ("http://[::ffff:10.0.0.8]/", false),
            ("http://[64:ff9b::a00:8]/", false),
            ("http://[fd00::1]/", false),
            ("http://100.64.0.1/", false),
            ("http://0.0.0.0/", false),
            ("http://2130706433/", false),
            ("http://0x7f.1/", false),
            ("http://8.8.8.8/", true),
            ("http://[2606:4700::1111]/", true),
        ];
        for (url, passes) in table {
            assert_eq!(reach.check(&Url::parse(url).unwrap()).is_ok(), passes, "{url}");
            assert!(Reach::default().check(&Url::parse(url).unwrap()).is_ok(), "{url}");
        }
        assert!(reach.check_host("localhost").unwrap_err().contains("allow_private"));
        assert!(Reach::public(&["localhost".to_owned()]).check_host("localhost").is_ok());
    }
}
