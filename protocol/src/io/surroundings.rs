//! What a node found out about the network around it, for `netcheck`.

use std::net::{IpAddr, SocketAddr};

use crate::id::TransportKey;
use crate::record::Nat;

/// Where this node stands in the internet, as far as others told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The machine's own addresses, without the overlay's.
    pub addresses: Vec<IpAddr>,
    /// How the router maps this node's port over IPv4.
    pub nat: Nat,
    /// Who saw this node where, the newest word of each.
    pub seen: Vec<Vantage>,
    /// The relays that this node measures, the nearest first.
    pub relays: Vec<RelayNearby>,
    /// Members that answer by a direct path, by name, and those that only a relay leads to.
    pub members: (Vec<String>, Vec<String>),
    /// Whether any member is linked, by whatever way.
    pub linked: bool,
}

/// Somebody who saw this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vantage {
    /// Its name.
    pub who: String,
    /// Whether it is a relay that is no member.
    pub volunteer: bool,
    /// Where it saw this node.
    pub at: SocketAddr,
}

/// A relay that this node measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayNearby {
    /// Its transport key.
    pub key: TransportKey,
    /// Its name.
    pub name: String,
    /// Whether it is no member.
    pub volunteer: bool,
    /// Smallest recent round trip in microseconds; `None`: it does not answer.
    pub rtt_us: Option<u64>,
    /// Whether this node is to be found there.
    pub home: bool,
}
