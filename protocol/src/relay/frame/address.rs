//! An address in 19 bytes, as in a PONG (`docs/protocol.md` §8.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Family 1, address 16, port 2.
pub(super) const ADDRESS_BYTES: usize = 19;

/// Writes an address; one that is IPv4 in the form of IPv6 as what it is.
pub(super) fn to_bytes(address: SocketAddr) -> [u8; ADDRESS_BYTES] {
    let mut bytes = [0; ADDRESS_BYTES];
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[0] = 6;
            bytes[1..17].copy_from_slice(&ip.octets());
        }
    }
    bytes[17..].copy_from_slice(&address.port().to_le_bytes());
    bytes
}

/// Reads an address in its one form.
pub(super) fn parse(bytes: [u8; ADDRESS_BYTES]) -> Option<SocketAddr> {
    let (octets, _) = bytes[1..].split_first_chunk::<16>()?;
    let ip = match bytes[0] {
        4 if octets[4..] == [0; 12] => {
            IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
        }
        6 => IpAddr::V6(Ipv6Addr::from(*octets)),
        _ => return None,
    };
    let port = u16::from_le_bytes([bytes[17], bytes[18]]);
    (ip.to_canonical() == ip).then_some(SocketAddr::new(ip, port))
}
