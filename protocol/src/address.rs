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
    let host = hash_as(IPV6_DEVICE_CONTEXT, device.as_bytes());
    let mut octets = ipv6_prefix(genesis).octets();
    octets[6..].copy_from_slice(&host.as_bytes()[..10]);
    Ipv6Addr::from(octets)
}

/// The first address of a network's IPv6 prefix, a /48.
#[must_use]
pub fn ipv6_prefix(genesis: &OpId) -> Ipv6Addr {
    let network = hash_as(IPV6_NETWORK_CONTEXT, genesis.as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&network.as_bytes()[..5]);
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

/// Whether an address of the range may be a device's: not a service's, not in a foreign block, not ending in 0 or 255.
#[must_use]
pub fn ipv4_assignable(range: Ipv4Range, address: Ipv4Addr) -> bool {
    let services = SERVICE_ADDRESSES.min(range.size() / 4);
    let offset = u32::from(address).wrapping_sub(u32::from(range.base));
    range.contains(address)
        && offset >= services
        && !matches!(address.octets()[3], 0 | 255)
        && !foreign_blocks(range).any(|block| block.contains(address))
}

/// How many addresses of a range may be devices'.
pub(crate) fn ipv4_assignable_count(range: Ipv4Range) -> u32 {
    let services = match SERVICE_ADDRESSES.min(range.size() / 4) {
        256 => 254,
        // One of them ends in 0.
        fewer => fewer - 1,
    };
    let devices = |size: u32| size / 256 * 254;
    let foreign: u32 = foreign_blocks(range)
        .map(|block| devices(block.size()))
        .sum();
    devices(range.size()) - services - foreign
}

/// The foreign blocks inside a range. A range that starts in one was put there on purpose.
fn foreign_blocks(range: Ipv4Range) -> impl Iterator<Item = &'static Ipv4Range> {
    FOREIGN_BLOCKS
        .iter()
        .filter(move |block| range.contains(block.base) && !block.contains(range.base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NetworkId;
    use crate::identity::Secret;

    fn device(seed: u8) -> NodeId {
        NodeId::new(Secret::from_seed(&[seed; 32]).public())
    }

    fn range(base: [u8; 4], prefix: u8) -> Ipv4Range {
        Ipv4Range::new(base.into(), prefix).expect("a sound range")
    }

    #[test]
    fn the_addresses_of_a_known_device_are_known() {
        let (genesis, device) = (OpId::new([7; 32]), device(9));
        assert_eq!(
            ipv6(&genesis, &device).to_string(),
            "fd7d:463a:3414:e871:4550:451e:38fb:9a9b"
        );
        let network = genesis.network();
        let drawn: Vec<String> = (0..3)
            .map(|i| ipv4_candidate(Ipv4Range::DEFAULT, &network, &device, i).to_string())
            .collect();
        assert_eq!(
            drawn,
            ["100.97.242.209", "100.80.100.182", "100.117.47.188"]
        );
    }

    #[test]
    fn reserved_addresses_are_never_assigned() {
        for address in [
            [100, 64, 0, 53],
            [100, 64, 1, 0],
            [100, 64, 1, 255],
            [100, 100, 100, 100],
            [100, 115, 93, 7],
            [100, 128, 0, 1],
        ] {
            assert!(!ipv4_assignable(Ipv4Range::DEFAULT, address.into()));
        }
        assert!(ipv4_assignable(Ipv4Range::DEFAULT, [100, 64, 1, 1].into()));
    }

    #[test]
    fn a_range_inside_a_foreign_block_still_has_addresses() {
        let inside = range([100, 100, 100, 0], 24);
        let address = ipv4_candidate(inside, &NetworkId::ZERO, &device(1), 0);
        assert!(inside.contains(address));
    }

    #[test]
    fn the_count_of_assignable_addresses_is_what_counting_gives() {
        for range in [
            range([10, 0, 0, 0], 24),
            range([10, 0, 0, 0], 23),
            range([10, 0, 0, 0], 22),
            range([10, 8, 0, 0], 16),
            range([100, 100, 96, 0], 20),
            range([100, 115, 92, 0], 22),
            range([100, 112, 0, 0], 14),
            range([100, 100, 100, 0], 24),
        ] {
            let base = u32::from(range.base);
            let counted = (base..base + range.size())
                .filter(|address| ipv4_assignable(range, (*address).into()))
                .count();
            assert_eq!(counted, ipv4_assignable_count(range) as usize, "{range:?}");
        }
    }
}
