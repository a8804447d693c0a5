//! Addresses: which may be probed at all, and what kind of way they are.

use std::net::SocketAddr;

use crate::io::PathKind;
use crate::peering::Path;

/// Whether an address is one of a local network: private, link-local or unique local.
#[must_use]
pub fn is_local(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => v4.ip().is_private() || v4.ip().is_link_local(),
        SocketAddr::V6(v6) => v6.ip().is_unique_local() || v6.ip().is_unicast_link_local(),
    }
}

/// Whether an address may be probed at all: unicast, no loopback, no port of a well-known service but 443.
#[must_use]
pub fn is_probeable(address: &SocketAddr) -> bool {
    let unicast = match address.ip() {
        std::net::IpAddr::V4(v4) => !(v4.is_broadcast() || v4.octets()[0] == 0),
        std::net::IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
    };
    let ip = address.ip();
    let port = address.port() >= 1024 || address.port() == 443;
    unicast && port && !ip.is_multicast() && !ip.is_loopback() && !ip.is_unspecified()
}

/// Whether an address can be meant for the whole internet: none of a home, a provider's inside or a test bench.
#[must_use]
pub fn is_public(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => {
            let [first, second, ..] = v4.ip().octets();
            let shared = first == 100 && second & 0xC0 == 64;
            let bench = first == 198 && second & 0xFE == 18;
            is_probeable(address) && !is_local(address) && !shared && !bench && first < 224
        }
        SocketAddr::V6(_) => is_probeable(address) && !is_local(address),
    }
}

/// What kind of way a path is.
#[must_use]
pub fn kind_of(path: &Path) -> PathKind {
    match path {
        Path::Direct { remote, .. } if is_local(remote) => PathKind::Lan,
        Path::Direct { .. } => PathKind::Direct,
        Path::Relayed { .. } => PathKind::UdpRelay,
        Path::Circuit(_) => PathKind::Circuit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_home_or_a_provider_uses_inside_is_not_public() {
        let public = |text: &str| is_public(&text.parse().unwrap());
        for good in ["25.0.1.2:41641", "203.0.113.7:443", "[2a10::1]:41641"] {
            assert!(public(good), "{good}");
        }
        for bad in [
            "0.1.2.3:41641",
            "10.0.0.1:41641",
            "100.64.0.1:41641",
            "100.127.255.255:41641",
            "127.0.0.1:41641",
            "169.254.1.1:41641",
            "172.31.0.1:41641",
            "192.168.1.1:41641",
            "198.19.0.1:41641",
            "224.0.0.1:41641",
            "240.0.0.1:41641",
            "255.255.255.255:41641",
            "25.0.1.2:22",
            "25.0.1.2:0",
            "[fd00::1]:41641",
            "[fe80::1]:41641",
            "[::ffff:25.0.1.2]:41641",
        ] {
            assert!(!public(bad), "{bad}");
        }
    }
}
