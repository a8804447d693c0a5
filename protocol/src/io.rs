//! What the driver hands to the [`Node`](crate::node::Node) and what it gets back: the two enums that close the world.

mod acts;
mod card;
mod joined;
mod kept;
mod policy;
mod refusal;
mod relays;
mod status;
mod surroundings;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::access::Filter;
use crate::body::Tags;
use crate::id::{NodeId, OpId, TransportKey};
use crate::invite::CodeText;
use crate::link::{LinkInput, LinkOutput};
use crate::name::{NodeName, Owner};
use crate::peering::{Path, PeerChange, TunnelInput};
use crate::policy::Service;
use crate::time::Timestamp;
use crate::wire::Items;

pub use self::acts::{
    Act, Acted, AdminInfo, Approval, Fallen, HeardBy, InviteInfo, InviteState, PendingInfo,
    Petition, Plan, RecoveryOptions, RevokeOptions, Roots, Signed, Since, Unreached,
};
pub use self::card::{Card, LetIn, MadeAdmin, Who};
pub use self::joined::{JoinStep, Joined};
pub use self::kept::{Imported, Stored, Trial, Write};
pub use self::policy::{
    InvitePolicy, PolicyBlamed, PolicyChange, PolicyChangeState, PolicyChecked, PolicyDiffed,
    PolicyDraft, PolicyExplained, PolicyQuestion, PolicyRule, PolicyShown, PolicyState, PolicyStep,
    PolicyTest, PolicyText, PolicyTrial, PolicyVerdict,
};
pub use self::refusal::{InviteRefusal, Refusal};
pub use self::relays::{CarryTerms, CarryWish, Carrying, RelayInfo};
pub use self::status::{
    Attempt, Member, Method, Outcome, Peer, PeerPath, Presence, RevokedBy, Search, Snapshot,
    Standing, State, Unheard, Warning,
};
pub use self::surroundings::{RelayNearby, Surroundings, Vantage};

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
    /// What the router leads here from outside now, all of it.
    Mapped(Mapped),
    /// What this node is to carry for other members; the default of it until the first of these.
    Carrying(CarryWish),
    /// What may be done against routers that map every destination anew; as in the setup until the first of these.
    Punch(crate::path::Punch),
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

/// The outside addresses that a router leads to this node (`docs/protocol.md` §8.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// To the tunnel's port.
    pub tunnel: Vec<SocketAddr>,
    /// To the control plane's TCP port.
    pub control: Vec<SocketAddr>,
}

/// What a person wants of a running node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make an invite. Replies [`Reply::Invited`].
    Invite(InviteOptions),
    /// Make an invite whose newcomer reaches little. Replies [`Reply::Invited`]; [`Reply::PolicyChecked`] when a test
    /// of the policy does not hold then.
    InviteOnly(Box<RestrictedInvite>),
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
    /// Put nodes out. Replies as [`Act`] says.
    Revoke(Box<RevokeOptions>),
    /// Who waits for an admin. Replies [`Reply::Pending`].
    Pending,
    /// Let in who waits. Replies as [`Act`] says.
    Approve {
        /// Whom, and as what.
        joiners: Vec<Approval>,
        /// How.
        act: Act,
    },
    /// Refuse who waits: it never comes in with these keys. Replies as [`Act`] says.
    Deny {
        /// Whom.
        joiners: Vec<NodeId>,
        /// Why, for people.
        reason: String,
        /// How.
        act: Act,
    },
    /// All invites. Replies [`Reply::Invites`].
    InviteList,
    /// End invites. Replies as [`Act`] says.
    InviteCancel {
        /// Which.
        invites: Vec<OpId>,
        /// How.
        act: Act,
    },
    /// Make a member an admin, one level below the most junior one. Replies as [`Act`] says.
    AdminAdd {
        /// Whom.
        node: NodeId,
        /// How.
        act: Act,
    },
    /// Make an admin a plain member. Replies as [`Act`] says.
    AdminRemove {
        /// Whom.
        node: NodeId,
        /// How.
        act: Act,
    },
    /// The admins, most senior first. Replies [`Reply::Admins`].
    AdminList,
    /// Act as the root set: this node becomes an admin of level 1. Replies as [`Act`] says; [`Reply::Petition`] when
    /// more root keys have to sign first.
    RecoveryUse(Box<RecoveryOptions>),
    /// Sign somebody's petition with root keys. Replies [`Reply::Petition`].
    RecoverySign {
        /// What the others signed so far.
        petition: Petition,
        /// The keys.
        roots: Roots,
    },
    /// Take new tunnel keys on this node, now; with `transport`, a new transport key from the next start. Replies
    /// [`Reply::Rotated`].
    Rotate {
        /// Whether the transport key too.
        transport: bool,
    },
    /// Start a new epoch. Replies as [`Act`] says.
    RotateNetwork {
        /// How.
        act: Act,
    },
    /// Take items out of a file; records are as they are signed, not sealed. Replies [`Reply::Imported`].
    Import(Box<Items>),
    /// Have no traffic with a device, on this node alone and at once. Replies [`Reply::Blocked`].
    Block(NodeId),
    /// The opposite. Replies [`Reply::Blocked`].
    Unblock(NodeId),
    /// The card of a device. Replies [`Reply::Card`].
    Whois(NodeId),
    /// The policy. Replies [`Reply::Policy`].
    PolicyShow {
        /// As it was after this op; `None`: now.
        at: Option<OpId>,
    },
    /// Replace the policy by a text. Replies as [`Act`] says; [`Reply::PolicyChecked`] when the text is faulty.
    PolicySet(Box<PolicyText>),
    /// Whether a text can be set. Replies [`Reply::PolicyChecked`].
    PolicyCheck {
        /// The text.
        text: String,
    },
    /// Why a node reaches another, or does not. Replies [`Reply::PolicyExplained`].
    PolicyExplain(PolicyQuestion),
    /// What the policy would be after a step. Replies [`Reply::PolicyDraft`].
    PolicyDraft(Box<PolicyStep>),
    /// Replace the policy by a text until a time is over. Replies as [`Command::PolicySet`].
    PolicyTry(Box<PolicyTrial>),
    /// Let what is on trial stay. Replies [`Reply::PolicyKept`].
    PolicyKeep,
    /// Who wrote each line of the policy. Replies [`Reply::PolicyBlame`].
    PolicyBlame {
        /// Of the policy as it was after this op; `None`: now.
        at: Option<OpId>,
    },
    /// What a text would change. Replies [`Reply::PolicyDiff`].
    PolicyDiff {
        /// Of this text; `None`: of the policy.
        from: Option<String>,
        /// The text.
        text: String,
    },
    /// Say again what the policy said after an op. Replies as [`Act`] says; [`Reply::PolicyChecked`] when a test of
    /// that policy does not hold any more.
    PolicyRollback {
        /// The op.
        op: OpId,
        /// How.
        act: Act,
    },
    /// The counting policy ops. Replies [`Reply::PolicyLog`].
    PolicyLog,
    /// Name a relay that belongs to no network. Replies [`Reply::RelayChanged`].
    RelayAdd {
        /// Its transport key.
        key: TransportKey,
        /// What people call it.
        name: NodeName,
        /// Where it is.
        addresses: Vec<SocketAddr>,
    },
    /// Use such a relay no more. Replies [`Reply::RelayChanged`].
    RelayRemove {
        /// Its name.
        name: NodeName,
    },
    /// The relays. Replies [`Reply::Relays`].
    RelayList,
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
    /// The node whose name and address the newcomer takes over; it is revoked when the newcomer is in.
    pub replaces: Option<NodeId>,
    /// How long the membership lasts from the day it is settled; `None`: for ever.
    pub member_for_ms: Option<u64>,
    /// Sign nothing, say what would be signed.
    pub dry_run: bool,
}

/// An invite, and what its newcomer may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestrictedInvite {
    /// The invite; the first of its tags is what the rule is for. Without one, a tag after its name.
    pub invite: InviteOptions,
    /// What, and nothing else.
    pub only: Vec<(NodeId, Service)>,
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
    /// The relays whose datagrams the engine takes, whole list.
    Relays(Vec<SocketAddr>),
    /// Whether the engine carries datagrams between others, and for whom.
    Carry(Option<CarryTerms>),
    /// The extra sockets that the engine is to have, whole list, ascending.
    Sockets(Vec<u16>),
    /// What the engine lets through, from now on. `Filter::Open` until the first of these.
    Filter(Arc<Filter>),
    /// The tunnel key is another one: the engine goes on with the same device, sockets and filter, and without peers;
    /// all that it had are set again.
    TunnelKey,
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
    /// This node was put out: who did (`None`: the root set), and why.
    Revoked(Option<NodeName>, String),
    /// A device is in again, because the revocation that kept it out does not count any more.
    BackAgain(NodeId, NodeName),
    /// A new epoch is in force and its key is here.
    Epoch(u32),
    /// What is enforced changed; and how many policy ops count.
    Policy(PolicyState, usize),
    /// A device (`None`: the root set) said so many ops within an hour: more than any honest one does.
    Flood(Option<NodeName>, u32),
    /// A policy op says nothing that an edit may say: it is as if it were not there.
    PolicyUnread(OpId),
    /// Nobody kept what was on trial: whether it could be undone.
    TrialOver(bool),
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
        /// What kind of way it is.
        kind: PathKind,
        /// The name of the relay, on a path by one.
        via: Option<String>,
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
    /// What was new in a file, or in a part of one.
    Imported(Imported),
    /// The command cannot be done.
    Refused(Refusal),
    /// What an act signed, or in a dry run would sign.
    Acted(Box<Acted>),
    /// One more node has heard the act.
    Heard(HeardBy),
    /// The wait for others to hear is over: these have not. The last word of an act.
    HeardDone {
        /// How many heard it.
        heard: usize,
        /// How many nodes there are besides this one.
        of: usize,
        /// Who has not, by name.
        unreached: Vec<Unreached>,
    },
    /// Who waits for an admin.
    Pending(Vec<PendingInfo>),
    /// The invites, newest first.
    Invites(Vec<InviteInfo>),
    /// The admins, most senior first.
    Admins(Vec<AdminInfo>),
    /// Root keys that are not here have to sign this, too.
    Petition(Petition),
    /// The policy.
    Policy(Box<PolicyShown>),
    /// What is wrong with a text of the policy.
    PolicyChecked(Box<PolicyChecked>),
    /// Why a node reaches another, or does not.
    PolicyExplained(Box<PolicyExplained>),
    /// What a text would change.
    PolicyDiff(Box<PolicyDiffed>),
    /// The counting policy ops, in op order.
    PolicyLog(Vec<PolicyChange>),
    /// What the policy would be.
    PolicyDraft(Box<PolicyDraft>),
    /// What was on trial stays.
    PolicyKept,
    /// Who wrote each line.
    PolicyBlame(Vec<PolicyBlamed>),
    /// This node has new keys.
    Rotated {
        /// Whether the transport key changes at the next start of the daemon.
        restart: bool,
    },
    /// The list of blocked devices is as wanted; whether that changed it.
    Blocked(bool),
    /// Who a device is, and who let it in.
    Card(Box<Card>),
    /// What the network says of a relay is as wanted; whether that changed it.
    RelayChanged(bool),
    /// The relays that were named, then the members that this node speaks to as relays.
    Relays(Vec<RelayInfo>),
}

/// What kind of way a path is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// Both in one local network.
    Lan,
    /// Over the internet, or between networks.
    Direct,
    /// By a relay's UDP port.
    UdpRelay,
    /// By a circuit of the control plane.
    Circuit,
}

/// An invite that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// What to type, hints included. `None` in a dry run.
    pub code: Option<CodeText>,
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
    /// The member behind the first hint, if it is another than this node; the relay, if a relay is there.
    pub via: Option<NodeName>,
    /// Nodes that hold the invite now, and nodes there are besides this one.
    pub heard: (usize, usize),
    /// What the policy says of the newcomer, if the invite is for one that reaches little.
    pub policy: Option<Box<InvitePolicy>>,
}
