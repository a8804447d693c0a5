//! The state of a network as the daemon reports it to the people of its machine.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::netcheck::RoadReport;
use super::search::SearchReport;
use meshnode_protocol::id::{NetworkId, NodeId};
use meshnode_protocol::name::{NetworkName, NodeName, Owner, Tag};
use meshnode_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::ViewDigest;

/// What `status` shows of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// What this machine calls the network.
    pub(crate) local_name: String,
    /// How this node stands.
    pub(crate) state: NodeState,
    /// Since when, in seconds; `None` when not known.
    pub(crate) state_for_s: Option<u64>,
    /// The network; `None` while a join has not told it.
    pub(crate) network: Option<NetworkReport>,
    /// This node; `None` while a join has not told it.
    pub(crate) this: Option<MemberReport>,
    /// All others, by name.
    pub(crate) peers: Vec<PeerReport>,
    /// What needs attention.
    pub(crate) warnings: Vec<WarningReport>,
    /// The device's name, when there is one.
    pub(crate) tun: Option<String>,
    /// The UDP port, when there is one.
    pub(crate) port: Option<u16>,
    /// Whether this machine has a default route; `None` when not known.
    pub(crate) default_route: Option<bool>,
    /// Who put this node out, if somebody did.
    pub(crate) revoked: Option<RevokedReport>,
    /// Seconds until a `down` ends by itself; `None` when it does not.
    pub(crate) down_for_s: Option<u64>,
}

/// Why this node is out of its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevokedReport {
    /// Who signed it; `None`: the recovery phrase.
    pub(crate) by: Option<NodeName>,
    /// Why, in that person's words.
    pub(crate) reason: String,
    /// When, by that person's clock.
    pub(crate) said: Timestamp,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeState {
    /// Runs, and reaches somebody or is alone.
    Running,
    /// Runs, nobody else reachable.
    Isolated,
    /// The daemon runs, a person took the device down.
    Down,
    /// Not through its start.
    Starting,
    /// Joining, or waiting for approval.
    Waiting,
    /// Its store was damaged; waits for a member to rebuild from.
    Recovering,
    /// Put out of the network.
    Revoked,
}

/// The network's own facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkReport {
    /// Its name.
    pub(crate) name: NetworkName,
    /// Its id.
    pub(crate) id: NetworkId,
    /// The epoch in force.
    pub(crate) epoch: u32,
    /// Stored ops.
    pub(crate) ops: usize,
    /// The newest version of the policy; `None`: there is no policy.
    pub(crate) policy_version: Option<usize>,
    /// Equal on nodes that agree.
    pub(crate) view: ViewDigest,
    /// `a.b.c.d/n`.
    pub(crate) ipv4_range: String,
}

/// How far a device is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StandingReport {
    /// Confirmed by an admin.
    Settled,
    /// Let in by a member, works already.
    Provisional,
    /// Waits for an admin.
    Pending,
    /// Too many used one invite; no traffic.
    Quarantined,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberReport {
    /// Its id.
    pub(crate) id: NodeId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Its level; 255 is a member.
    pub(crate) level: u8,
    /// How far it is in.
    pub(crate) standing: StandingReport,
    /// Its tags.
    pub(crate) tags: Vec<Tag>,
    /// Whose it is.
    pub(crate) owner: Option<Owner>,
    /// Its IPv4 address.
    pub(crate) ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub(crate) ipv6: Ipv6Addr,
    /// Operating system, as it says.
    pub(crate) os: Option<String>,
    /// Program version, as it says.
    pub(crate) version: Option<String>,
}

impl MemberReport {
    /// Whether it may sign changes.
    pub(crate) const fn is_admin(&self) -> bool {
        self.level < 255
    }

    /// The address for people: IPv4 if there is one.
    pub(crate) fn address(&self) -> String {
        match self.ipv4 {
            Some(address) => address.to_string(),
            None => self.ipv6.to_string(),
        }
    }
}

/// Another device, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerReport {
    /// Who.
    pub(crate) member: MemberReport,
    /// Whether it is reachable.
    pub(crate) online: bool,
    /// Seconds since it was last heard; `None`: not since start.
    pub(crate) last_seen_s: Option<u64>,
    /// The path in use.
    pub(crate) path: Option<PathReport>,
    /// Smallest recent round trip in microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Seconds since the path is used.
    pub(crate) path_since_s: Option<u64>,
    /// Bytes of an inner packet that are known to pass on it.
    pub(crate) mtu: Option<u16>,
    /// Whether it has this node's authority ops.
    pub(crate) heard: bool,
    /// Bytes that came from it.
    pub(crate) rx_bytes: u64,
    /// Bytes that went to it.
    pub(crate) tx_bytes: u64,
    /// Seconds since the last WireGuard handshake.
    pub(crate) last_handshake_s: Option<u64>,
    /// Whether a person blocked it on this machine.
    pub(crate) blocked: bool,
    /// The newest search for a way to it.
    pub(crate) search: Option<SearchReport>,
}

/// How a path travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    /// Both in one local network.
    Lan,
    /// Over the internet, or between networks.
    Direct,
    /// By a relay's UDP port.
    #[serde(rename = "udp-relay")]
    UdpRelay,
    /// By a circuit of the control plane.
    Circuit,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathReport {
    /// How it travels.
    pub(crate) tier: Tier,
    /// The other end, or the relay; `None`: no address of UDP.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The relay's name.
    pub(crate) via: Option<String>,
    /// How the relay or the peer was called, where packets go over links.
    pub(crate) road: Option<RoadReport>,
}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WarningReport {
    /// A code of the closed list.
    pub(crate) code: String,
    /// One sentence without full stop.
    pub(crate) text: String,
    /// What to type or do.
    pub(crate) hint: Option<String>,
    /// The node it is about.
    pub(crate) subject: Option<String>,
}
