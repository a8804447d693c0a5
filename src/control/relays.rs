//! The words for the relays of a network.

use std::net::SocketAddr;

use meshnode_protocol::id::{NodeId, TransportKey};
use meshnode_protocol::io::{Command, RelayInfo};
use meshnode_protocol::name::NodeName;
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
