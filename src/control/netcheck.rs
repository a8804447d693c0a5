//! What the daemon knows of the network around this machine, as it tells it.

use std::net::{IpAddr, SocketAddr};

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::io::{RelayNearby, Surroundings, Vantage};
use serde::{Deserialize, Serialize};

use super::search::nat;

/// The facts behind `netcheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetcheckReport {
    /// The machine's own addresses, without the overlay's.
    pub(crate) addresses: Vec<IpAddr>,
    /// How the router maps over IPv4.
    pub(crate) mapping: NatReport,
    /// Who saw this node where.
    pub(crate) seen: Vec<VantageReport>,
    /// Relays, the nearest first.
    pub(crate) relays: Vec<RelayReport>,
    /// Members that answer directly.
    pub(crate) direct: Vec<String>,
    /// Members that only a relay leads to.
    pub(crate) relayed: Vec<String>,
    /// Whether any member is linked, by whatever way.
    pub(crate) linked: bool,
    /// What leads out of this site, if something is said to.
    pub(crate) proxy: Option<ProxyReport>,
    /// What the router says to each protocol of port mapping; empty: none was asked.
    pub(crate) router: Option<RouterReport>,
}

/// How a router maps a port (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NatReport {
    /// Nobody could tell.
    #[default]
    Unknown,
    /// Not at all.
    None,
    /// To one port for everybody.
    Independent,
    /// To the next port for everybody else.
    Sequential,
    /// To any port for everybody else.
    Random,
}

/// Somebody who saw this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VantageReport {
    /// Its name.
    pub(crate) who: String,
    /// Whether it is a relay that is no member.
    pub(crate) volunteer: bool,
    /// Where it saw this node.
    pub(crate) at: SocketAddr,
}

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayReport {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is no member.
    pub(crate) volunteer: bool,
    /// Round trip in microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Whether this node is to be found there.
    pub(crate) home: bool,
    /// How it was called, if this node called it by TCP.
    pub(crate) road: Option<RoadReport>,
}

/// How a call by TCP got through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoadReport {
    /// Plainly.
    Tcp,
    /// In TLS.
    Tls,
    /// In TLS, through the proxy.
    Proxy,
}

impl RoadReport {
    /// In words.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Proxy => "TLS through the proxy",
        }
    }

    /// One word for programs.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
        }
    }
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProxyReport {
    /// Where it is.
    pub(crate) place: String,
    /// What came of it, the last time.
    pub(crate) state: ProxyState,
}

/// What came of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProxyState {
    /// It was not needed.
    Unasked,
    /// It leads out.
    Leads,
    /// It does not answer.
    Silent,
    /// It wants a name and a password, or others.
    Credentials,
    /// It leads to no such place; its status.
    Refuses(u16),
    /// What answers is no proxy.
    NoProxy,
}

/// The router in front of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RouterReport {
    /// Its address on this side.
    pub(crate) gateway: IpAddr,
    /// Protocols, and what came of each: the outside port if it maps.
    pub(crate) methods: Vec<(String, MethodReport)>,
    /// The outside address that leads to the tunnel's port.
    pub(crate) mapped: Option<SocketAddr>,
}

/// What came of one protocol of port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MethodReport {
    /// No answer.
    Silent,
    /// The router speaks it.
    Serves,
    /// The router speaks it and maps nothing.
    Refuses,
    /// The router's own outer address is inside of another network.
    Inside(IpAddr),
}

impl NetcheckReport {
    /// The report of what the core knows; the router's part is the daemon's.
    pub(crate) fn of(
        around: Surroundings,
        router: Option<RouterReport>,
        proxy: Option<ProxyReport>,
        road: impl Fn(&TransportKey) -> Option<RoadReport>,
    ) -> Self {
        let (direct, relayed) = around.members;
        Self {
            addresses: around.addresses,
            mapping: nat(around.nat),
            seen: around.seen.into_iter().map(vantage).collect(),
            relays: around
                .relays
                .into_iter()
                .map(|found| relay(found, &road))
                .collect(),
            direct,
            relayed,
            linked: around.linked,
            proxy,
            router,
        }
    }
}

fn vantage(vantage: Vantage) -> VantageReport {
    VantageReport {
        who: vantage.who,
        volunteer: vantage.volunteer,
        at: vantage.at,
    }
}

fn relay(relay: RelayNearby, road: impl Fn(&TransportKey) -> Option<RoadReport>) -> RelayReport {
    RelayReport {
        road: road(&relay.key),
        name: relay.name,
        volunteer: relay.volunteer,
        rtt_us: relay.rtt_us,
        home: relay.home,
    }
}
