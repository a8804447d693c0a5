//! What a caller says with a request: networks, invites, joins, probes, items of a file.

use meshnode_protocol::id::{NetworkId, NodeId};
use meshnode_protocol::name::{NetworkName, NodeName, Owner, Tag};
use serde::{Deserialize, Serialize};

use super::{Blob, SecretText};

/// A network to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InitRequest {
    /// Its name; `None`: the host name with `-net`.
    pub(crate) name: Option<NetworkName>,
    /// The name of this node.
    pub(crate) node_name: NodeName,
    /// `a.b.c.d/n`; `None`: the default, or another when that is taken here.
    pub(crate) ipv4_range: Option<String>,
    /// How many recovery phrases there are to be, and how many of them must sign.
    pub(crate) recovery: (u8, u8),
    /// Whether the phrases are kept here until they were typed back.
    pub(crate) keep_phrases: bool,
}

/// An invite to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InviteRequest {
    /// Name of the newcomer.
    pub(crate) name: Option<NodeName>,
    /// Tags of the newcomer.
    pub(crate) tags: Vec<Tag>,
    /// Owner of the newcomer.
    pub(crate) owner: Option<Owner>,
    /// How long it holds.
    pub(crate) ttl_ms: u64,
    /// How many machines may use it.
    pub(crate) uses: u16,
    /// Whether an admin must approve; `None`: when `uses` is more than one.
    pub(crate) approve: Option<bool>,
    /// `host:port` hints; when none, the node adds its own.
    pub(crate) hints: Vec<String>,
    /// The node that the newcomer replaces.
    pub(crate) replaces: Option<NodeId>,
    /// How long the newcomer stays a member; `None`: for ever.
    pub(crate) member_for_ms: Option<u64>,
    /// What the newcomer may reach, and nothing else; none: what the policy says.
    pub(crate) only: Vec<Only>,
    /// Sign nothing.
    pub(crate) dry_run: bool,
}

/// A service of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Only {
    /// Which node.
    pub(crate) node: NodeId,
    /// The service as a rule names it: `tcp:8096`, `icmp`.
    pub(crate) service: String,
}

/// A join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    /// The code as typed, hints included; it parsed in the caller.
    pub(crate) code: SecretText,
    /// The wish for a name; the invite's wins.
    pub(crate) name: NodeName,
    /// How long to wait for the end of it.
    pub(crate) timeout_ms: u64,
}

/// A probe of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PingRequest {
    /// Whom.
    pub(crate) node: NodeId,
    /// How many.
    pub(crate) count: u32,
    /// Milliseconds between two.
    pub(crate) interval_ms: u64,
    /// How long to wait for each.
    pub(crate) timeout_ms: u64,
}

/// Items of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportRequest {
    /// The network that the file is of.
    pub(crate) network: NetworkId,
    /// Ops, parents first.
    pub(crate) ops: Vec<Blob>,
    /// Admits.
    pub(crate) admits: Vec<Blob>,
    /// Records.
    pub(crate) records: Vec<Blob>,
}
