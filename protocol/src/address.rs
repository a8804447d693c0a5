//! Addresses: what a device is called by IP (`docs/protocol.md` §6.5).
//!
//! IPv6 follows from genesis and device key and cannot be stolen. IPv4 is claimed in grants; this room only draws
//! the candidates that a device tries in turn and says which addresses of a range may be given at all.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::body::Ipv4Range;
use crate::id::{NetworkId, NodeId, OpId};
use crate::identity::hash_as;

const IPV6_NETWORK_CONTEXT: &str = "meshnode ipv6 network 1";
const IPV6_DEVICE_CONTEXT: &str = "meshnode ipv6 device 1";
const IPV4_CONTEXT: &str = "meshnode ipv4 candidate 1";

/// Addresses at the start of a range that stay free for services of the network: a /24, or a quarter of less.
const SERVICE_ADDRESSES: u32 = 256;

/// Address blocks inside 100.64.0.0/10 that other software occupies: Tailscale's services, Chrome OS's containers.
const FOREIGN_BLOCKS: [Ipv4Range; 2] = [
    Ipv4Range {
        base: Ipv4Addr::new(100, 100, 100, 0),
        prefix: 24,
    },
    Ipv4Range {
        base: Ipv4Addr::new(100, 115, 92, 0),
        prefix: 23,
    },
];

/// The IPv6 address of a device: `fd`, 40 bits of the genesis' hash (a /48), 80 bits of the device key's hash.
#[must_use]
pub fn ipv6(genesis: &OpId, device: &NodeId) -> Ipv6Addr {
    let network = hash_as(IPV6_NETWORK_CONTEXT, genesis.as_bytes());
    let host = hash_as(IPV6_DEVICE_CONTEXT, device.as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&network.as_bytes()[..5]);
    octets[6..].copy_from_slice(&host.as_bytes()[..10]);
    Ipv6Addr::from(octets)
}

/// The candidate number `i` of a device: drawn from the assignable addresses of the range.
#[must_use]
pub fn ipv4_candidate(range: Ipv4Range, network: &NetworkId, device: &NodeId, i: u32) -> Ipv4Addr {
    let mut draws = blake3::Hasher::new_derive_key(IPV4_CONTEXT)
        .update(network.as_bytes())
        .update(device.as_bytes())
        .update(&i.to_le_bytes())
        .finalize_xof();
    // A quarter of any range at most is not assignable, so this ends after a few draws.
    loop {
        let mut word = [0; 4];
        draws.fill(&mut word);
        let offset = u32::from_le_bytes(word) & (range.size() - 1);
        let address = Ipv4Addr::from(u32::from(range.base) | offset);
        if ipv4_assignable(range, address) {
            return address;
        }
    }
}

/// Whether an address of the range may be a device's: not a service's, not somebody else's, not ending in 0 or 255.
#[must_use]
pub fn ipv4_assignable(range: Ipv4Range, address: Ipv4Addr) -> bool {
    let services = SERVICE_ADDRESSES.min(range.size() / 4);
    let offset = u32::from(address).wrapping_sub(u32::from(range.base));
    range.contains(address)
        && offset >= services
        && !matches!(address.octets()[3], 0 | 255)
        && !FOREIGN_BLOCKS.iter().any(|block| block.contains(address))
}
