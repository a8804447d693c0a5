//! What the driver hands to the [`Node`](crate::node::Node) and what it gets back: the two enums that close the world.

mod card;
mod joined;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::access::Filter;
use crate::body::{Ipv4Range, Level, Tags};
use crate::id::{AdmitId, Digest, NetworkId, NodeId, OpId, TransportKey};
use crate::link::{LinkInput, LinkOutput};
use crate::name::{NetworkName, NodeName, Owner};
use crate::peering::{Path, PeerChange, TunnelInput};
use crate::record::CandidateKind;
use crate::time::Timestamp;

pub use self::card::{Card, LetIn, MadeAdmin, Who};
pub use self::joined::{JoinStep, Joined};

/// A command of a person; counted by the driver, named in its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// On the control plane's links.
    Link(LinkInput),
    /// In the engine.
    Tunnel(TunnelInput),
    /// The machine's addresses now, whole list, without the overlay's own.
    Interfaces(Vec<IpAddr>),
    /// A person wants something.
    Command(CommandId, Command),
    /// The caller of a command went away: no more replies.
    Hangup(CommandId),
    /// A write failed: the disk is full or broken. The node stops to promise anything.
    PersistFailed(String),
    /// Writes that had failed are through.
    PersistWorks,
    /// Nothing but time passed.
    Timeout,
}

/// What a person wants of a running node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make an invite. Replies [`Reply::Invited`].
    Invite(InviteOptions),
    /// Go for ever. Replies [`Reply::Left`] when members heard it, or after `wait_ms`.
    Leave {
        /// How long to wait for somebody to hear it.
        wait_ms: u64,
        /// Even as the only admin.
        force: bool,
    },
    /// Probe a peer. One [`Reply::Pong`] a probe, then [`Reply::PingDone`].
    Ping {
        /// Whom.
        node: NodeId,
        /// How many.
        count: u32,
        /// Milliseconds between two.
        interval_ms: u64,
        /// How long to wait for each.
        timeout_ms: u64,
    },
    /// Tell when the own join is through. Replies [`Reply::Joining`] on the way, then [`Reply::Joined`] or refusal.
    WatchJoin,
    /// Have no traffic with a device, on this node alone and at once. Replies [`Reply::Blocked`].
    Block(NodeId),
    /// The opposite. Replies [`Reply::Blocked`].
    Unblock(NodeId),
    /// The card of a device. Replies [`Reply::Card`].
    Whois(NodeId),
}

/// What an invite should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// Name of the newcomer.
    pub name: Option<NodeName>,
    /// Tags of the newcomer.
    pub tags: Tags,
    /// Owner of the newcomer.
    pub owner: Option<Owner>,
    /// How long it holds.
    pub ttl_ms: u64,
    /// How many machines may use it.
    pub uses: u16,
    /// Whether an admin must approve; `None`: when `uses` is more than one.
    pub approve: Option<bool>,
    /// `host:port` hints typed by the person; when none, the node adds its own.
    pub hints: Vec<String>,
    /// Sign nothing, say what would be signed.
    pub dry_run: bool,
}

/// What a node wants done. The order is part of the contract: a driver finishes one before the next.
#[derive(Debug)]
pub enum Output {
    /// Write, all of it, before anything after it; with `flush`, to the disk.
    Persist {
        /// What.
        writes: Vec<Write>,
        /// Whether it must survive a power cut.
        flush: bool,
    },
    /// On the control plane's links.
    Link(LinkOutput),
    /// To the engine's peers.
    Peer(PeerChange),
    /// Send a datagram that is no WireGuard message.
    Datagram {
        /// By which path.
        path: Path,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The device is to have these addresses; `None`: no device.
    Interface(Option<Interface>),
    /// What the engine lets through, from now on. `Filter::Open` until the first of these.
    Filter(Arc<Filter>),
    /// An answer to a person.
    Reply(CommandId, Reply),
    /// Something that a person may want to read in the log.
    Notice(Notice),
    /// The membership is over: erase keys and store, then stop.
    Erase,
}

/// The node's own addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// IPv4, if the node has one.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6, from the key.
    pub ipv6: Ipv6Addr,
}

/// One thing to keep. Every one is valid by itself, so any subset after a crash is a valid replica.
#[derive(Clone, Debug)]
pub enum Write {
    /// An op, by its id.
    Op(OpId, Vec<u8>),
    /// An admit, by its id.
    Admit(AdmitId, Vec<u8>),
    /// An admit that a smaller one replaced.
    DropAdmit(AdmitId),
    /// A device record, by its slot's key; replaces the one before.
    Record(Digest, Vec<u8>),
    /// Keys of this membership and of the epochs; canonical bytes of the core's own, to be kept apart with mode 0600.
    Secrets(Zeroizing<Vec<u8>>),
    /// The authority heads: what must be there again at the next start.
    Heads(Vec<OpId>),
    /// The devices that a person blocked on this node, ascending; replaces the list before.
    Blocked(Vec<NodeId>),
}

/// What a store gives back at start: whatever it still has, unproven.
#[derive(Debug, Default)]
pub struct Stored {
    /// The bytes of the last [`Write::Secrets`].
    pub secrets: Option<Zeroizing<Vec<u8>>>,
    /// All ops, any order.
    pub ops: Vec<Vec<u8>>,
    /// All admits.
    pub admits: Vec<Vec<u8>>,
    /// All records.
    pub records: Vec<Vec<u8>>,
    /// The last [`Write::Heads`].
    pub heads: Vec<OpId>,
    /// The last [`Write::Blocked`].
    pub blocked: Vec<NodeId>,
    /// The store was damaged so that what is missing cannot be told.
    pub suspect: bool,
}

/// A line for the log: what happened, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A device came in.
    MemberJoined(NodeId, NodeName),
    /// A device is in no longer.
    MemberGone(NodeId, NodeName),
    /// The way to a peer changed.
    PathChanged(NodeId, Option<Path>),
    /// Nobody reachable, or somebody again.
    Isolated(bool),
    /// A stranger, a liar or a broken program; constant text.
    Refused(&'static str),
    /// Two live devices present one key; neither is programmed.
    SharedKey(NodeId, NodeId),
    /// This version does not understand a senior's op.
    Outdated(OpId),
    /// The store lost ops that it had acknowledged; membership is rebuilt from members.
    Recovering {
        /// How many known heads are missing.
        missing: usize,
    },
    /// The store is whole again.
    Recovered,
}

/// An answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The invite stands.
    Invited(Box<Invited>),
    /// This node left; so many heard it.
    Left {
        /// Nodes that heard it.
        heard: usize,
        /// Nodes there are.
        of: usize,
    },
    /// One answered probe.
    Pong {
        /// Which probe, from 1.
        seq: u32,
        /// Round trip in microseconds.
        rtt_us: u64,
        /// The path it took.
        path: Path,
        /// How that path's address was learned.
        kind: PathKind,
    },
    /// A probe that nobody answered.
    Silence {
        /// Which probe, from 1.
        seq: u32,
    },
    /// All probes are through.
    PingDone,
    /// A step of a join.
    Joining(JoinStep),
    /// The join is through.
    Joined(Box<Joined>),
    /// The command cannot be done.
    Refused(Refusal),
    /// The list of blocked devices is as wanted; whether that changed it.
    Blocked(bool),
    /// Who a device is, and who let it in.
    Card(Box<Card>),
}

/// What kind of way a path is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// Both in one local network.
    Lan,
    /// Over the internet, or between networks.
    Direct,
}

/// An invite that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// What to type, hints included. `None` in a dry run.
    pub code: Option<String>,
    /// The op; zero in a dry run.
    pub id: OpId,
    /// When it ends.
    pub expires: Timestamp,
    /// How many may use it.
    pub uses: u16,
    /// Whether an admin must approve.
    pub approve: bool,
    /// The hints in the code.
    pub hints: Vec<String>,
    /// The member behind the first hint, if it is another than this node.
    pub via: Option<NodeName>,
    /// Nodes that hold the invite now, and nodes there are besides this one.
    pub heard: (usize, usize),
}

/// Why a command cannot be done. The words for people are the command line's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Only admins may; these are the admins, and whether each is online.
    NotAdmin(Vec<(NodeName, bool)>),
    /// The only admin does not leave.
    LastAdmin,
    /// The membership of this node is not through yet, or is being rebuilt.
    NotReady,
    /// No such node.
    UnknownNode,
    /// A node cannot ping itself over the network.
    SelfPing,
    /// Nobody answered for the code in time; what was asked.
    NobodyAnswered(Vec<String>),
    /// Somebody at this address answered, but could not prove to be the code's network.
    NotTheNetwork(String),
    /// A member refused the invite.
    Invite(InviteRefusal),
    /// An admin did not approve in time; the node goes on waiting. The fingerprint.
    StillWaiting(String),
    /// This machine's clock, and the network's.
    Clock {
        /// What this machine's clock says.
        ours: Timestamp,
        /// What the network's says.
        theirs: Timestamp,
    },
    /// The disk does not take writes.
    Disk(String),
    /// The network has ops that this version does not understand.
    Outdated,
    /// Too many heads, invites or names of some kind: a limit of this program.
    Limit(&'static str),
}

/// Why a member does not honour a known code (`docs/protocol.md` §6.4).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InviteRefusal {
    /// It ended.
    Expired {
        /// When.
        not_after: Timestamp,
        /// Admins that can make another.
        admins: Vec<NodeName>,
    },
    /// Taken.
    UsedUp {
        /// By whom, as far as known.
        by: Option<NodeName>,
        /// When that was.
        at: Timestamp,
        /// How many may use it.
        uses: u16,
    },
    /// Closed, or its issuer is an admin no longer.
    Closed,
    /// The member's own clock is too far off to judge.
    WitnessClock,
    /// The member is not settled itself, or its program is too old to let anybody in.
    NotWitness,
}

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
}

/// A path in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPath {
    /// The handle.
    pub path: Path,
    /// For people.
    pub kind: PathKind,
    /// How its address was learned; `None`: from the peer's own packets.
    pub source: Option<CandidateKind>,
    /// Smallest recent round trip in microseconds.
    pub rtt_us: Option<u64>,
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
    /// The store takes no writes.
    DiskFailed(String),
    /// The store is being rebuilt.
    Recovering,
}
