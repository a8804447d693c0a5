//! The words over the local control socket, and both of its ends.
//!
//! One JSON object a line; a caller sends one [`Request`] and reads [`Response`]s until the daemon closes. The daemon
//! checks who calls by the socket's peer credentials on every request (see [`Rights`]). This room knows no core: what
//! the core replies is turned into these words by [`convert`].

use std::time::Duration;

use meshnode_protocol::id::{Digest, NetworkId, NodeId, OpId};
use meshnode_protocol::limits::POLICY_TEXT_BYTES_MAX;
use meshnode_protocol::name::{NetworkName, NodeName};
use meshnode_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use self::asked::{
    ImportRequest, InitRequest, InviteRequest, JoinRequest, Only, PingRequest,
};
pub(crate) use self::card::CardReport;
pub(crate) use self::report::{PathReport, StatusReport};
pub(crate) use self::secret::SecretText;
use crate::config::settings::Key;
use crate::failure::Failure;

pub(crate) use self::blob::Blob;
pub(crate) use self::history::LogLine;

pub(crate) mod acts;
mod asked;
mod blob;
pub(crate) mod card;
pub(crate) mod client;
pub(crate) mod convert;
pub(crate) mod history;
pub(crate) mod netcheck;
pub(crate) mod policy;
pub(crate) mod relays;
pub(crate) mod report;
pub(crate) mod search;
mod secret;
pub(crate) mod server;

/// Bytes of one line at most, with its end: holds two of the largest policies, each of their bytes escaped.
pub(crate) const LINE_BYTES_MAX: usize = 4 * POLICY_TEXT_BYTES_MAX + 4096;
/// How long the daemon waits for a caller's request line.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Callers of one user with all rights that are served at one time, and of all other users together.
pub(crate) const CALLS_MAX: usize = 64;
/// Callers of one such other user.
pub(crate) const CALLS_GUEST_MAX: usize = 16;
/// Responses that wait for a caller to read them; a caller that lets more pile up is dropped.
pub(crate) const RESPONSES_WAITING_MAX: usize = 256;

/// Log lines that wait for a caller that reads along; the oldest are lost when more pile up.
pub(crate) const LOG_LINES_WAITING_MAX: usize = 256;

/// What a caller wants of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The state of the network. Answer [`Response::Status`].
    Status,
    /// Make a network. Answer [`Response::Inited`].
    Init(InitRequest),
    /// Make an invite. Answer [`Response::Invited`].
    Invite(InviteRequest),
    /// Join a network. Answers [`Response::Progress`], then [`Response::Joined`].
    Join(JoinRequest),
    /// Leave for ever. Answer [`Response::Left`].
    Leave {
        /// Even as the only admin.
        force: bool,
        /// How long to wait for somebody to hear it.
        wait_ms: u64,
    },
    /// Have the device and its addresses. Answer [`Response::Done`] once the addresses stand.
    Up {
        /// How long to wait for that.
        timeout_ms: u64,
    },
    /// Have no device, until `Up` or the end of a time. Answer [`Response::Done`].
    Down {
        /// Seconds until it comes back by itself; `None`: never.
        for_s: Option<u64>,
    },
    /// Probe a peer. Answers [`Response::Pong`] or [`Response::Silence`] for each probe, then [`Response::Done`].
    Ping(PingRequest),
    /// All that is stored, as a file. Answers [`Response::Exported`].
    Export,
    /// Take items of a file. Answer [`Response::Imported`].
    Import(ImportRequest),
    /// What happened, without the first ops that were stored here. Answers [`Response::Log`].
    Log {
        /// How many to leave out.
        skip: usize,
    },
    /// Stop the daemon; the membership stays. Answer [`Response::Done`].
    Stop,
    /// Sign something for the network. Answers [`Response::Acted`], then [`Response::Heard`] for every node that heard
    /// it and [`Response::HeardDone`]; or [`Response::Petition`] when more root keys have to sign first, or
    /// [`Response::Policy`] with what is wrong with a policy.
    Act(Box<acts::ActRequest>),
    /// Look at the policy. Answer [`Response::Policy`].
    Policy(policy::PolicyAsk),
    /// Let what is on trial here stay. Answer [`Response::Done`].
    PolicyKeep,
    /// Who waits for an admin. Answer [`Response::Pending`].
    Pending,
    /// The invites. Answer [`Response::Invites`].
    Invites,
    /// The admins. Answer [`Response::Admins`].
    Admins,
    /// Sign a petition with root keys. Answer [`Response::Petition`].
    RecoverySign {
        /// The bytes of the file.
        petition: Vec<u8>,
        /// The phrases.
        phrases: Vec<SecretText>,
    },
    /// How the way back stands. Answer [`Response::Recovery`].
    Recovery,
    /// The phrases, until they were typed back. Answer [`Response::Phrases`].
    RecoveryShow,
    /// Phrases typed back. Answer [`Response::PhraseChecked`].
    RecoveryCheck {
        /// As typed.
        phrases: Vec<SecretText>,
    },
    /// Look at the relays of the network, or change them. Answers [`Response::Relays`], [`Response::RelayChanged`].
    Relay(relays::RelayAsk),
    /// New tunnel keys for this node. Answer [`Response::Rotated`].
    Rotate {
        /// The transport key, too.
        transport: bool,
    },
    /// What is set on this machine. Answer [`Response::Settings`].
    Settings,
    /// Set keys, or with `None` forget them; all or none. Answer [`Response::Settings`].
    Set(Vec<(Key, Option<String>)>),
    /// What the network around this machine is like. Answer [`Response::Netcheck`].
    Netcheck,
    /// What this node carried for other members. Answer [`Response::Carried`].
    Carried,
    /// The card of a node. Answer [`Response::Card`].
    Whois(NodeId),
    /// Have no traffic with a node, or have it again. Answer [`Response::Blocked`].
    Block {
        /// Whom.
        node: NodeId,
        /// Whether it is to be blocked.
        blocked: bool,
    },
    /// Any other request, with the daemon's log lines while it is answered. Answers [`Response::Logged`] in between.
    Logged(Box<Self>),
}

impl Request {
    /// The right that a caller needs.
    pub(crate) fn needs(&self) -> Rights {
        match self {
            Self::Status
            | Self::Ping(_)
            | Self::Export
            | Self::Log { .. }
            | Self::Policy(_)
            | Self::Pending
            | Self::Invites
            | Self::Admins
            | Self::Recovery
            | Self::Settings
            | Self::Netcheck
            | Self::Carried
            | Self::Relay(relays::RelayAsk::List)
            | Self::Whois(_) => Rights::Look,
            // Who may change this node must not make himself its operator.
            Self::Set(changes) if changes.iter().any(|(key, _)| key.is_about_rights()) => {
                Rights::Administer
            }
            Self::Logged(request) => request.needs(),
            Self::Up { .. }
            | Self::Down { .. }
            | Self::Rotate { .. }
            | Self::Import(_)
            | Self::Block { .. }
            | Self::Set(_) => Rights::Use,
            Self::Init(_)
            | Self::Invite(_)
            | Self::Join(_)
            | Self::Leave { .. }
            | Self::Act(_)
            | Self::Relay(relays::RelayAsk::Add { .. } | relays::RelayAsk::Remove { .. })
            | Self::PolicyKeep
            | Self::RecoverySign { .. }
            | Self::RecoveryShow
            | Self::RecoveryCheck { .. }
            | Self::Stop => Rights::Administer,
        }
    }
}

/// What a local caller may do; each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// Nothing.
    None,
    /// Read.
    Look,
    /// Change this node only.
    Use,
    /// Sign for the network, join and leave.
    Administer,
}

/// How the way back stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryFacts {
    /// How many phrases must sign.
    pub(crate) threshold: usize,
    /// How many there are.
    pub(crate) of: usize,
    /// Whether they are still kept on this machine, because nobody typed them back.
    pub(crate) kept: bool,
}

/// What was new among the items of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Ops.
    pub(crate) ops: usize,
    /// Admits.
    pub(crate) admits: usize,
    /// Records.
    pub(crate) records: usize,
    /// Items that do not hold.
    pub(crate) refused: usize,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    /// A step on the way; more answers follow.
    Progress(Progress),
    /// The state of the network.
    Status(Box<StatusReport>),
    /// The network is made.
    Inited(Box<Inited>),
    /// The invite stands.
    Invited(Box<Invited>),
    /// The join is through.
    Joined(Box<Joined>),
    /// This machine is a member already; nothing was done and the invite was not used.
    AlreadyJoined(Box<Joined>),
    /// This node left.
    Left {
        /// Nodes that heard it.
        heard: usize,
        /// Nodes there are besides this one.
        of: usize,
    },
    /// An answered probe; more answers follow.
    Pong {
        /// Which probe, from 1.
        seq: u32,
        /// Round trip in microseconds.
        rtt_us: u64,
        /// The path it took.
        path: PathReport,
    },
    /// A probe that nobody answered; more answers follow.
    Silence {
        /// Which probe, from 1.
        seq: u32,
    },
    /// The next part of a file; more answers follow unless it is the last.
    Exported {
        /// The part.
        bytes: Blob,
        /// Whether it is the last.
        last: bool,
    },
    /// What was new in a file.
    Imported(Imported),
    /// What happened; more answers follow unless it is the last.
    Log {
        /// The next lines.
        lines: Vec<LogLine>,
        /// How many ops are stored.
        ops: usize,
        /// Whether these are the last lines.
        last: bool,
    },
    /// What was signed, or in a dry run would be.
    Acted(Box<acts::Acted>),
    /// One more node heard it; more answers follow.
    Heard(acts::HeardBy),
    /// The wait for others to hear is over.
    HeardDone(acts::HeardDone),
    /// What was asked of the policy.
    Policy(policy::PolicyTold),
    /// Who waits for an admin.
    Pending(Vec<acts::Waiting>),
    /// The invites, newest first.
    Invites(Vec<acts::InviteReport>),
    /// The admins, most senior first.
    Admins(Vec<acts::Admin>),
    /// More root keys have to sign.
    Petition(acts::Petition),
    /// How the way back stands.
    Recovery(RecoveryFacts),
    /// The recovery phrases.
    Phrases(Vec<SecretText>),
    /// So many of the network's phrases were right.
    PhraseChecked {
        /// How many were typed, all right.
        known: usize,
        /// How many the network has.
        of: usize,
        /// Whether the copy on this machine was wiped now.
        forgotten: bool,
    },
    /// This node has new keys.
    Rotated {
        /// Whether one of them is used from the daemon's next start on.
        restart: bool,
    },
    /// What is set on this machine, all keys in their order.
    Settings(Vec<SettingReport>),
    /// What the network around this machine is like.
    Netcheck(Box<netcheck::NetcheckReport>),
    /// What this node carried; `None`: it carries nothing.
    Carried(Option<relays::CarriedReport>),
    /// Who a node is, and who let it in.
    Card(Box<CardReport>),
    /// The node is blocked, or is not, as wanted; whether that was new.
    Blocked(bool),
    /// The relays of the network are as wanted; whether that changed anything.
    RelayChanged(bool),
    /// The relays of the network.
    Relays(Vec<relays::RelayLine>),
    /// A line of the daemon's log; more answers follow.
    Logged(String),
    /// What was asked is done.
    Done,
    /// What was asked cannot be done.
    Failed(Failure),
}

/// A step of a join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// A member proved itself.
    Found {
        /// Its name, as far as known.
        name: Option<NodeName>,
        /// Where, `host:port`.
        remote: String,
        /// Whether it was found on this LAN.
        lan: bool,
    },
    /// An admin must approve.
    Waiting {
        /// Eight symbols with a hyphen, the same on the admin's screen.
        fingerprint: String,
    },
}

/// One key, its value in force, and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingReport {
    /// The key.
    pub(crate) key: Key,
    /// The value; `None`: nobody set one, and there is no fixed default.
    pub(crate) value: Option<String>,
    /// `default`, `set`, `FILE:LINE`, or the daemon's flag.
    pub(crate) from: String,
}

/// This node as a member, for the screens of `init` and `join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// The network's name.
    pub(crate) network: NetworkName,
    /// The network's id.
    pub(crate) network_id: NetworkId,
    /// This node's name.
    pub(crate) name: NodeName,
    /// This node's id.
    pub(crate) id: NodeId,
    /// IPv4, if the node has one.
    pub(crate) ipv4: Option<std::net::Ipv4Addr>,
    /// IPv6, from the key.
    pub(crate) ipv6: std::net::Ipv6Addr,
}

/// A network that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inited {
    /// This node in it.
    pub(crate) this: Membership,
    /// The phrases: each twelve words with single spaces.
    pub(crate) phrases: Vec<SecretText>,
    /// How many of them must sign.
    pub(crate) threshold: usize,
}

/// A join that is through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// This node in the network.
    pub(crate) this: Membership,
    /// The name it had wished, if that was taken.
    pub(crate) wished: Option<NodeName>,
    /// Who let it in.
    pub(crate) witness: Option<NodeId>,
    /// Whether an admin confirmed it already.
    pub(crate) settled: bool,
}

/// An invite that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Invited {
    /// What to type, hints included; `None` in a dry run.
    pub(crate) code: Option<SecretText>,
    /// The op; `None` in a dry run.
    pub(crate) id: Option<OpId>,
    /// When it ends.
    pub(crate) expires: Timestamp,
    /// How many machines may use it.
    pub(crate) uses: u16,
    /// Whether an admin must approve.
    pub(crate) approve: bool,
    /// The hints in the code.
    pub(crate) hints: Vec<String>,
    /// The member behind the first hint, if it is another than this node; the relay, if a relay is there.
    pub(crate) via: Option<NodeName>,
    /// The network's name.
    pub(crate) network: NetworkName,
    /// Nodes that hold the invite.
    pub(crate) heard: usize,
    /// Nodes there are besides this one.
    pub(crate) of: usize,
    /// What the policy says of the newcomer, if it is to reach little.
    pub(crate) policy: Option<Box<policy::InviteRules>>,
}

/// A digest that is equal on nodes that agree on the whole view.
pub(crate) type ViewDigest = Digest;
