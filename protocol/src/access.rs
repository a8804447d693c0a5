//! Who may reach whom, compiled for one node: what the engine enforces.
//!
//! The engine judges the first packet of a flow by the device it came from, never by address text; what belongs to an
//! allowed flow passes in both directions.

use std::collections::BTreeMap;

use crate::id::NodeId;

/// IP protocol numbers (IANA).
pub mod number {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last; not below the first.
    pub last: u16,
}

impl Ports {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// Whether a port lies inside.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// One thing that is allowed: an IP protocol, and for those that have ports, which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allow {
    /// The IP protocol number; `None`: every protocol.
    pub protocol: Option<u8>,
    /// The ports at the destination; of protocols without ports, all must be in.
    pub ports: Ports,
}

impl Allow {
    /// Everything.
    pub const ALL: Self = Self {
        protocol: None,
        ports: Ports::ALL,
    };

    /// Whether a first packet with this protocol and destination port is meant. `None`: it has no port.
    #[must_use]
    pub fn covers(&self, protocol: u8, port: Option<u16>) -> bool {
        let protocol = self.protocol.is_none_or(|own| own == protocol);
        protocol && port.map_or(self.ports == Ports::ALL, |port| self.ports.contains(port))
    }
}

/// What may be opened between this node and one peer; both lists ascend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What the peer may open at this node.
    pub inbound: Vec<Allow>,
    /// What this node may open at the peer: the peer enforces it, this node only tells its own programs sooner.
    pub outbound: Vec<Allow>,
}

/// The policy as one node enforces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// No policy has ever existed: all members reach each other.
    Open,
    /// What is not listed is denied; so is everything of a peer that is not.
    Closed(BTreeMap<NodeId, Access>),
}

impl Filter {
    /// A filter that lets nothing through.
    #[must_use]
    pub const fn deny_all() -> Self {
        Self::Closed(BTreeMap::new())
    }

    /// Whether a peer may open a flow at this node.
    #[must_use]
    pub fn inbound(&self, peer: &NodeId, protocol: u8, port: Option<u16>) -> bool {
        self.allows(peer, protocol, port, |access| &access.inbound)
    }

    /// Whether this node may open a flow at a peer.
    #[must_use]
    pub fn outbound(&self, peer: &NodeId, protocol: u8, port: Option<u16>) -> bool {
        self.allows(peer, protocol, port, |access| &access.outbound)
    }

    fn allows(
        &self,
        peer: &NodeId,
        protocol: u8,
        port: Option<u16>,
        list: impl Fn(&Access) -> &Vec<Allow>,
    ) -> bool {
        match self {
            Self::Open => true,
            Self::Closed(peers) => peers.get(peer).is_some_and(|access| {
                list(access)
                    .iter()
                    .any(|allow| allow.covers(protocol, port))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Secret;

    fn device(seed: u8) -> NodeId {
        NodeId::new(Secret::from_seed(&[seed; 32]).public())
    }

    #[test]
    fn what_is_not_listed_is_denied() {
        let (friend, stranger) = (device(1), device(2));
        let web = Allow {
            protocol: Some(number::TCP),
            ports: Ports {
                first: 80,
                last: 81,
            },
        };
        let access = Access {
            inbound: vec![web],
            outbound: vec![Allow::ALL],
        };
        let filter = Filter::Closed(BTreeMap::from([(friend, access)]));
        assert!(filter.inbound(&friend, number::TCP, Some(81)));
        assert!(filter.outbound(&friend, number::ICMP, None));
        for port in [Some(79), Some(82), None] {
            assert!(!filter.inbound(&friend, number::TCP, port));
        }
        assert!(!filter.inbound(&friend, number::UDP, Some(80)));
        assert!(!filter.inbound(&stranger, number::TCP, Some(80)));
        assert!(!Filter::deny_all().outbound(&friend, number::TCP, Some(80)));
        assert!(Filter::Open.inbound(&stranger, number::UDP, Some(1)));
    }
}
