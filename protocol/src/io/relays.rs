//! Relays, as driver and people hear of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::id::{NodeId, TransportKey};
use crate::name::NodeName;
use crate::relay::frame::Reason;

/// For whom a node carries datagrams, and how much (`docs/protocol.md` §8.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarryTerms {
    /// The key that clients bind to: this node's own.
    pub key: TransportKey,
    /// Who may bind; `None`: everybody.
    pub clients: Option<BTreeSet<TransportKey>>,
    /// Bytes a second of all pairs together, and of one.
    pub rate: (u64, u64),
    /// Pairs at the same time at most; with none, ends are helped to meet and nothing passes.
    pub pairs: usize,
    /// Bytes of all pairs in a calendar month; `None`: as many as there are.
    pub month_bytes: Option<u64>,
}

/// Whether a node carries for other members, as the person there has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carrying {
    /// As long as nothing speaks against it.
    #[default]
    Auto,
    /// In any case.
    On,
    /// Never.
    Off,
}

/// What a node carries for other members, as the person there has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarryWish {
    /// Whether it does.
    pub mode: Carrying,
    /// Bytes a second of all pairs together, if that is to be less than a member carries anyway.
    pub rate: Option<u64>,
}

/// A relay, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayInfo {
    /// Its transport key.
    pub key: TransportKey,
    /// Its name.
    pub name: NodeName,
    /// Where it may be.
    pub addresses: Vec<SocketAddr>,
    /// The admin that named it, if it is no member.
    pub by: Option<NodeName>,
    /// The member that it is.
    pub member: Option<NodeId>,
    /// Whether this node is to be found at it.
    pub home: bool,
    /// Whether datagrams can travel by it now.
    pub bound: bool,
    /// The smallest recent round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// Why it does not carry for this node, if it said so.
    pub refused: Option<Reason>,
}
