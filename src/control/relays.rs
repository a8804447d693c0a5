//! The words for the relays of a network.

use std::net::SocketAddr;

use meshnode_protocol::id::{NodeId, TransportKey};
use meshnode_protocol::io::{Command, RelayInfo};
use meshnode_protocol::name::NodeName;
use meshnode_protocol::peering::Mailbox;
use meshnode_protocol::relay::exchange::{PairReport, Report};
use meshnode_protocol::relay::frame::Reason;
use serde::{Deserialize, Serialize};

use super::Response;

/// What is to be done with the relays of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RelayAsk {
    /// Name one that is no member.
    Add {
        /// Its key.
        key: TransportKey,
        /// What people call it.
        name: NodeName,
        /// Where it is.
        addresses: Vec<SocketAddr>,
    },
    /// Use one no more.
    Remove {
        /// Its name.
        name: NodeName,
    },
    /// Show all.
    List,
}

impl RelayAsk {
    /// The core's command.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Add {
                key,
                name,
                addresses,
            } => Command::RelayAdd {
                key,
                name,
                addresses,
            },
            Self::Remove { name } => Command::RelayRemove { name },
            Self::List => Command::RelayList,
        }
    }
}

/// What this node carried for other members since its daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedReport {
    /// Members that are bound here.
    pub(crate) clients: usize,
    /// Bits a second, of the last seconds.
    pub(crate) rate_bps: u64,
    pub(crate) bytes: u64,
    /// Between whom datagrams pass now.
    pub(crate) pairs: Vec<CarriedPair>,
}

/// Two members between which this node passes datagrams on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedPair {
    /// Their names, if they are members still.
    pub(crate) nodes: [Option<NodeName>; 2],
    /// Bytes that each of them sent.
    pub(crate) bytes: [u64; 2],
    /// Whether it was slowed within the last minute.
    pub(crate) limited: bool,
}

impl CarriedReport {
    /// The report of a relay, with names for mailboxes.
    pub(crate) fn of(report: Report, name: impl Fn(&Mailbox) -> Option<NodeName>) -> Self {
        let pair = |pair: PairReport| CarriedPair {
            nodes: [name(&pair.ends.0), name(&pair.ends.1)],
            bytes: [pair.bytes.0, pair.bytes.1],
            limited: pair.limited,
        };
        Self {
            clients: report.clients,
            rate_bps: report.rate_bps,
            bytes: report.volume.bytes,
            pairs: report.pairs.into_iter().map(pair).collect(),
        }
    }
}

/// A relay, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayLine {
    /// Its key, printed.
    pub(crate) key: String,
    pub(crate) name: NodeName,
    pub(crate) addresses: Vec<SocketAddr>,
    /// The admin that named it, if it is no member.
    pub(crate) by: Option<NodeName>,
    /// The member that it is.
    pub(crate) member: Option<NodeId>,
    /// Whether this node is to be found at it.
    pub(crate) home: bool,
    /// Whether datagrams can travel by it now.
    pub(crate) bound: bool,
    pub(crate) rtt_us: Option<u64>,
    /// Why it does not carry for this node.
    pub(crate) refused: Option<String>,
}

impl From<RelayInfo> for RelayLine {
    fn from(info: RelayInfo) -> Self {
        Self {
            key: info.key.to_string(),
            name: info.name,
            addresses: info.addresses,
            by: info.by,
            member: info.member,
            home: info.home,
            bound: info.bound,
            rtt_us: info.rtt_us,
            refused: info.refused.map(|reason| words(reason).to_owned()),
        }
    }
}

/// The response with all relays.
pub(crate) fn shown(relays: Vec<RelayInfo>) -> Response {
    Response::Relays(relays.into_iter().map(Into::into).collect())
}

pub(super) const fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::NotAdmitted => "it does not serve this node",
        Reason::Full => "it has no room",
        Reason::PairRate => "it slows this pair",
        Reason::Rate => "it is at its rate",
        Reason::Volume => "it is at its monthly limit",
        Reason::NotBound => "the other node is not there",
        Reason::IntroducesOnly => "it only helps to meet",
    }
}
