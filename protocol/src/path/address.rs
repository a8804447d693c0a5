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
