//! What people see of a node and its network: the snapshot behind `status`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::PathKind;
use crate::body::{Ipv4Range, Level, Tags};
use crate::id::{Digest, NetworkId, NodeId, OpId, TransportKey};
use crate::name::{NetworkName, NodeName, Owner};
use crate::peering::Path;
use crate::record::{CandidateKind, Nat};
use crate::relay::frame::Reason;
use crate::time::Timestamp;

/// A node's view of itself and its network, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The network.
    pub network: NetworkId,
    /// Its name.
    pub network_name: NetworkName,
    /// Its IPv4 range.
    pub ipv4_range: Ipv4Range,
    /// The epoch in force.
    pub epoch: u32,
    /// Stored ops.
    pub ops: usize,
    /// The newest version of the policy that counts; `None`: there is no policy.
    pub policy_version: Option<usize>,
    /// A digest of the whole view: equal on nodes that agree.
    pub view: Digest,
    /// How this node stands.
    pub state: State,
    /// For how long it has stood so, in milliseconds.
    pub state_for_ms: u64,
    /// This node.
    pub this: Member,
    /// All others, by name.
    pub peers: Vec<Peer>,
    /// What needs attention.
    pub warnings: Vec<Warning>,
    /// Who put this node out, once somebody did.
    pub revoked: Option<RevokedBy>,
    /// The newest revocation or policy change that some node has not heard yet.
    pub unheard: Option<Unheard>,
}

/// Why this node is in its network no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedBy {
    /// The revocation.
    pub op: OpId,
    /// Who signed it; `None`: the recovery phrase.
    pub by: Option<NodeName>,
    /// Why, in that person's words.
    pub reason: String,
    /// When, by that person's clock.
    pub said: Timestamp,
}

/// An act that some nodes have not heard yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// The op.
    pub op: OpId,
    /// Whom it puts out; `None`: it changes the policy.
    pub revoked: Option<NodeName>,
    /// When it was said.
    pub said: Timestamp,
    /// Who has not heard it, by name.
    pub nodes: Vec<NodeName>,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Runs.
    Running,
    /// Runs, nobody reachable, though there are others.
    Isolated,
    /// Joining, or waiting for approval.
    Waiting,
    /// Its store was damaged; waiting for a member to rebuild from.
    Recovering,
    /// Put out by a revocation: no interface, no peers; the store is kept.
    Revoked,
}

/// How far a device is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Confirmed by an admin.
    Settled,
    /// Let in by a member, works already.
    Provisional,
    /// Waits for an admin.
    Pending,
    /// Too many used one invite; no traffic until an admin decides.
    Quarantined,
}

/// A device of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its level.
    pub level: Level,
    /// How far it is in.
    pub standing: Standing,
    /// Its tags.
    pub tags: Tags,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Operating system and version, from its record.
    pub os: Option<String>,
    /// Program version, from its record.
    pub version: Option<String>,
    /// Its transport key, from its record.
    pub transport: Option<TransportKey>,
}

/// Another device, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub member: Member,
    /// Whether it is reachable: by a path or by a link.
    pub online: bool,
    /// The same, and if not, whether it was looked for.
    pub presence: Presence,
    /// What was tried to find a way to it; `None` while nobody looks for one.
    pub search: Option<Search>,
    /// Milliseconds since it was last heard; `None`: not since start.
    pub last_seen_ms: Option<u64>,
    /// The path in use.
    pub path: Option<PeerPath>,
    /// Whether it has the same authority ops as this node, as far as known.
    pub in_sync: bool,
    /// Bytes that came from it inside the tunnel, since start.
    pub rx_bytes: u64,
    /// Bytes that went to it inside the tunnel, since start.
    pub tx_bytes: u64,
    /// Milliseconds since the last WireGuard handshake.
    pub handshake_ms: Option<u64>,
    /// Whether it has heard everything that this node knows of who is in and what the policy is.
    pub heard: bool,
}

/// Whether a device is there, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answers, by a path or by a link.
    Online,
    /// It was not looked for since its last sign of life: of a large network not all are looked after all the time.
    Unknown,
    /// It was looked for and did not answer.
    Away,
}

/// What was tried to find a way to a device, for `ping --why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// When it began, milliseconds ago.
    pub began_ms: u64,
    /// What it tried, in order.
    pub attempts: Vec<Attempt>,
    /// In how many milliseconds the next one begins; `None`: none is planned.
    pub next_ms: Option<u64>,
    /// How the own router maps.
    pub own_nat: Nat,
    /// How the other's router maps, as it told.
    pub their_nat: Nat,
    /// Whether the two routers together leave no way but a relay.
    pub hopeless: bool,
    /// Whether it goes on.
    pub running: bool,
}

/// One thing that a search tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When, milliseconds after the search began.
    pub at_ms: u64,
    /// How.
    pub method: Method,
    /// Where, in words.
    pub target: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// How a way is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The addresses that are known are probed.
    Candidates,
    /// The other is called to probe at the same time.
    Call,
    /// The next ports of a router are foretold.
    Prediction,
    /// Ports are met by chance.
    Birthday,
    /// The address that answered first.
    Found,
}

impl Method {
    /// Whether it takes a run of many probes.
    #[must_use]
    pub const fn is_run(self) -> bool {
        matches!(self, Self::Prediction | Self::Birthday)
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may still be answered.
    Waiting,
    /// It was not.
    NoAnswer,
    /// It was.
    Found,
    /// Not tried: of no use between these two routers.
    Hopeless,
    /// Not tried: a setting says so.
    Forbidden,
}

/// A path in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPath {
    /// The handle.
    pub path: Path,
    /// For people.
    pub kind: PathKind,
    /// How its address was learned; `None`: from the peer's own packets.
    pub source: Option<CandidateKind>,
    /// The name of the relay, on a path by one.
    pub via: Option<String>,
    /// Smallest recent round trip in microseconds.
    pub rtt_us: Option<u64>,
    /// Bytes of an inner packet that are known to pass.
    pub mtu: u16,
    /// Since when it is used, milliseconds ago.
    pub since_ms: u64,
}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No node of the network can be reached from outside.
    NoWayIn,
    /// One admin only; its name.
    OneAdmin(NodeName),
    /// The recovery phrase was not typed back yet.
    RecoveryUnchecked,
    /// The clock is far from the members' clocks.
    ClockSuspect,
    /// This version does not understand a senior's op.
    Outdated,
    /// Too many devices used one invite.
    Quarantine(NodeName),
    /// Two devices present one key.
    SharedKey(NodeName, NodeName),
    /// Two machines answer in turn for one device: a copy of it runs.
    Cloned(NodeName),
    /// The store takes no writes.
    DiskFailed(String),
    /// The store is being rebuilt.
    Recovering,
    /// A revocation or a policy change that some nodes have not heard.
    UnheardRevoke(Unheard),
    /// A membership ends soon: 14, 3 or 1 days, or fewer, are left.
    Expiring {
        /// Whose.
        node: NodeName,
        /// When.
        at: Timestamp,
        /// The largest of 14, 3 and 1 that it is within.
        days: u8,
    },
    /// No admin was heard of for so many days.
    StaleAdmins {
        /// Whole days.
        days: u64,
    },
    /// An admin knows of ops that this node has not got yet.
    Stale,
    /// A device says more than any honest one does, and is heard slowly from some point on.
    Flood {
        /// Which; `None`: the root set.
        node: Option<NodeName>,
        /// Ops of the last hour.
        ops: u32,
    },
    /// A relay loses what goes to a node: a budget of it is used up.
    RelayLimit {
        /// Which node.
        node: NodeName,
        /// The relay's name.
        relay: Option<String>,
        /// Which budget.
        reason: Reason,
    },
    /// An entry of the policy counts for nothing until an admin settles it: which, and why.
    PolicyConflict(String),
    /// The policy cannot be built here.
    PolicyUnbuilt {
        /// Whether the last one that could is enforced; else everything is denied.
        kept: bool,
    },
}
