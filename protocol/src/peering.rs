//! Which WireGuard peers should exist, and how their packets travel: the words between the core and the engine.

use std::net::{IpAddr, SocketAddr};

use crate::id::{NodeId, WireGuardKey};
use crate::time::Timestamp;

/// One of the engine's UDP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// The IPv4 socket.
    V4,
    /// The IPv6 socket.
    V6,
    /// One of the IPv4 sockets that were opened to be met by chance (`docs/protocol.md` §8.4), by its number.
    Extra(u16),
}

/// Where a relay keeps what is for one node: from the node's transport key, so that whoever knows that, knows this
/// (`docs/protocol.md` §8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox(pub u64);

/// A connection of libp2p that carries datagrams to a peer; counted by the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitId(pub u64);

/// A path handle: how a datagram gets to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Through one of our sockets, to an address.
    Direct {
        /// Our end.
        socket: Socket,
        /// The other end.
        remote: SocketAddr,
    },
    /// Through the UDP port of a relay, to the peer's mailbox there.
    Relayed {
        /// The relay's address, as this node reaches it.
        relay: SocketAddr,
        /// The peer's.
        mailbox: Mailbox,
    },
    /// Over a stream of the control plane, mostly by a relay's circuit.
    Circuit(CircuitId),
}

impl Path {
    /// The path to an address, by the socket of its family.
    #[must_use]
    pub const fn to(remote: SocketAddr) -> Self {
        Self::Direct {
            socket: Socket::of(&remote),
            remote,
        }
    }

    /// Where the peer itself is, on a direct path.
    #[must_use]
    pub const fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct { remote, .. } => Some(*remote),
            Self::Relayed { .. } | Self::Circuit(_) => None,
        }
    }

    /// Where a datagram on this path goes first, if that is by UDP: the peer, or the relay.
    #[must_use]
    pub const fn next_hop(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct { remote, .. } => Some(*remote),
            Self::Relayed { relay, .. } => Some(*relay),
            Self::Circuit(_) => None,
        }
    }
}

impl Socket {
    /// The socket of an address's family.
    #[must_use]
    pub const fn of(remote: &SocketAddr) -> Self {
        match remote {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// Who decides by which path a peer is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roaming {
    /// The core: an authenticated packet from elsewhere is only reported.
    Told,
    /// The engine, as WireGuard does: the source of the last authenticated packet. For stock WireGuard peers.
    Follow,
}

/// A peer that the engine should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its public key.
    pub key: WireGuardKey,
    /// Which device it is: what the filter knows it by.
    pub device: NodeId,
    /// The addresses that are its own: packets to them go to it, packets from it come from them. Ascending.
    pub allowed_ips: Vec<IpAddr>,
    /// Who decides on its path.
    pub roaming: Roaming,
    /// Seconds between keepalives while a path is set; 0 for none.
    pub keepalive_s: u16,
    /// The tag on its probes (`docs/protocol.md` §8.3): the engine passes on no others. `None`: it sends none.
    pub probe_tag: Option<[u8; 8]>,
}

/// A change of the engine's peers. Changes of one peer are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Add the peer, or change it; its sessions stay when the key is there already.
    Set(PeerConfig),
    /// Send to the peer by this path; `None`: nowhere.
    Path(WireGuardKey, Option<Path>),
    /// Inner packets of up to so many bytes pass on the peer's path, until it has another.
    Mtu(WireGuardKey, u16),
    /// Forget the peer and its sessions.
    Remove(WireGuardKey),
}

/// What the engine reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelInput {
    /// A probe with a peer's tag (`docs/protocol.md` §8.1, §8.3), at most 1500 bytes.
    Datagram {
        /// Where it came from, by which socket.
        path: Path,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A relay's own word (`docs/protocol.md` §8.5), from one of the relays that the core named.
    Relay {
        /// Which.
        relay: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A peer's authenticated packet came by a path that is not its own; at most once a second per peer.
    Moved {
        /// Whose.
        key: WireGuardKey,
        /// Where from.
        path: Path,
    },
    /// Packets moved with a peer since the last report; at most once a second per peer.
    Traffic {
        /// Whose.
        key: WireGuardKey,
        /// Bytes inside the tunnel that came from it.
        rx_bytes: u64,
        /// Bytes inside the tunnel that went to it.
        tx_bytes: u64,
        /// The newest handshake.
        handshake: Option<Timestamp>,
    },
    /// A packet wants to go to a peer that has no path; at most once a second per peer.
    Wanted {
        /// Whose.
        key: WireGuardKey,
    },
}
