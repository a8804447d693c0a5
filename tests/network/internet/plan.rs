//! What a site is to be.

use std::fmt;
use std::net::IpAddr;

use super::uplinks::Uplink;

/// How a router maps inner sockets to outer ones, and whom it lets in through a mapping.
///
/// EIM, ADM, APDM: the mapping is one for all destinations, one for each address, one for each address and port. EIF,
/// ADF, APDF: in comes whatever was not filtered: all, what an address sends that was written to, an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nat {
    /// None, and no firewall.
    Public,
    /// None, behind a stateful firewall.
    PubFw,
    /// EIM, EIF.
    FullCone,
    /// EIM, ADF.
    Addr,
    /// EIM that keeps ports, APDF: what Linux makes of `masquerade`.
    Port,
    /// EIM, APDF.
    PortRand,
    /// ADM, APDF.
    SymAddr,
    /// APDM with one port after the other, APDF.
    SymSeq,
    /// APDM with ports that nobody foresees, APDF.
    Sym,
}

impl Nat {
    pub(crate) const ALL: [Self; 9] = [
        Self::Public,
        Self::PubFw,
        Self::FullCone,
        Self::Addr,
        Self::Port,
        Self::PortRand,
        Self::SymAddr,
        Self::SymSeq,
        Self::Sym,
    ];

    pub(crate) const fn translates(self) -> bool {
        !matches!(self, Self::Public | Self::PubFw)
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Public => "public",
            Self::PubFw => "pubfw",
            Self::FullCone => "fullcone",
            Self::Addr => "addr",
            Self::Port => "port",
            Self::PortRand => "portrand",
            Self::SymAddr => "symaddr",
            Self::SymSeq => "symseq",
            Self::Sym => "sym",
        })
    }
}

/// What may leave a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayOut {
    All,
    /// TCP alone.
    NoUdp,
    /// TCP to port 443 alone.
    Tcp443,
    /// Whatever goes to these hosts.
    Only(Vec<IpAddr>),
    /// TCP to port 443 of these hosts.
    Only443(Vec<IpAddr>),
}

/// A site's IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum V6 {
    Off,
    /// Lets out everything and in what answers.
    Firewalled,
    Open,
}

/// A site: `Plan { hairpin: true, ..Plan::of(Nat::Port) }`.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nat: Nat,
    /// Whether machines inside reach each other by the outer address.
    pub(crate) hairpin: bool,
    pub(crate) way_out: WayOut,
    /// The network inside, a /24; without: one that no other site has.
    pub(crate) lan: Option<[u8; 3]>,
    pub(crate) v4: bool,
    pub(crate) v6: V6,
    /// After so many silent seconds a UDP mapping is gone.
    pub(crate) udp_seconds: Option<u32>,
    pub(crate) uplink: Uplink,
    /// Of the link between router and provider.
    pub(crate) mtu: Option<u16>,
    /// Nobody is told that a packet was too big.
    pub(crate) black_hole: bool,
}

impl Plan {
    pub(crate) const fn of(nat: Nat) -> Self {
        Self {
            nat,
            hairpin: false,
            way_out: WayOut::All,
            lan: None,
            v4: true,
            v6: V6::Off,
            udp_seconds: None,
            uplink: Uplink::IDEAL,
            mtu: None,
            black_hole: false,
        }
    }
}
