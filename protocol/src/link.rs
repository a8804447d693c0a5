//! The control plane's links as the core sees them: peers by transport key, calls by number.
//!
//! The adapter around libp2p carries [`LinkOutput`] out and [`LinkInput`] in. It knows no message's meaning; the core
//! knows no libp2p. Every number is counted by the side that hands it out and never used twice.

use crate::id::TransportKey;
use crate::peering::CircuitId;
use crate::record::ControlAddress;

/// One connection to a peer; counted by the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A question that we asked; counted by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A question that a peer asked and that waits for our answer; counted by the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerId(pub u64);

/// An attempt to connect; counted by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// A request-response protocol of ours (`docs/protocol.md` §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `/meshnode/join/1`: the only one that is served to strangers.
    Join,
    /// `/meshnode/hello/1`: device authentication.
    Hello,
    /// `/meshnode/sync/1`: the reconciler and the epoch key.
    Sync,
    /// `/meshnode/push/1`: bad news, from anybody to anybody.
    Push,
}

impl Service {
    /// All services.
    pub const ALL: [Self; 4] = [Self::Join, Self::Hello, Self::Sync, Self::Push];

    /// The protocol's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Join => "/meshnode/join/1",
            Self::Hello => "/meshnode/hello/1",
            Self::Sync => "/meshnode/sync/1",
            Self::Push => "/meshnode/push/1",
        }
    }
}

/// Why a question got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer closed the stream without a word.
    #[error("the peer refused to answer")]
    Refused,
    /// No answer in time.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The connection is gone.
    #[error("the connection broke")]
    Broken,
    /// The peer does not speak this protocol.
    #[error("the peer does not speak the protocol")]
    Unsupported,
}

/// What happens on the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkInput {
    /// A connection stands; the transport authenticated the peer's key.
    Up {
        /// Which.
        link: LinkId,
        /// With whom.
        peer: TransportKey,
        /// Where the other end is.
        remote: ControlAddress,
        /// The attempt of ours that made it; `None` if the peer called.
        dial: Option<DialId>,
        /// The relay whose circuit it is; `remote` is then the relay's address.
        by: Option<TransportKey>,
    },
    /// A connection ended.
    Down {
        /// Which.
        link: LinkId,
        /// With whom.
        peer: TransportKey,
    },
    /// An attempt failed.
    DialFailed {
        /// Which.
        dial: DialId,
        /// One address is ours or is another peer than expected: no use to try again.
        useless: bool,
    },
    /// A relay keeps a reservation for this node, or does not any more.
    Reserved {
        /// Which.
        relay: TransportKey,
        /// Whether it does.
        stands: bool,
    },
    /// Datagrams can go to a peer over its connection, or cannot any more.
    Carrying {
        /// Which peer.
        peer: TransportKey,
        /// By which handle; `None`: not any more.
        circuit: Option<CircuitId>,
    },
    /// A peer asks.
    Asked {
        /// To answer with.
        answer: AnswerId,
        /// On which connection.
        link: LinkId,
        /// Who.
        peer: TransportKey,
        /// By which protocol.
        service: Service,
        /// The question, bounded by the adapter.
        bytes: Vec<u8>,
    },
    /// A question of ours ended.
    Answered {
        /// Which.
        call: CallId,
        /// The connection it went over, if it went.
        link: Option<LinkId>,
        /// The answer.
        result: Result<Vec<u8>, CallError>,
    },
    /// Somebody on this LAN says it is there; unproven.
    Found {
        /// Who it says it is.
        peer: TransportKey,
        /// Where.
        addresses: Vec<ControlAddress>,
    },
    /// A DHT node tells of another one; unproven.
    Sighted {
        /// Who.
        peer: TransportKey,
        /// Where.
        addresses: Vec<ControlAddress>,
    },
    /// What a DHT node holds under a key that was asked for; unproven, of the one size that a locator has.
    Got {
        /// The key.
        key: LocatorKey,
        /// The sealed value.
        value: Vec<u8>,
    },
    /// A gossip message on our topic, handed on by a trusted peer.
    Gossip {
        /// Which neighbour handed it on.
        from: TransportKey,
        /// To tell the adapter whether it was good.
        message: GossipId,
        /// The sealed message.
        bytes: Vec<u8>,
    },
    /// Our own listening addresses, whole list, after every change.
    Listening(Vec<ControlAddress>),
}

/// A gossip message that waits for a verdict; counted by the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub u64);

/// The place of a locator in the DHT: says nothing to whoever does not hold the epoch key
/// (`docs/protocol.md` §7.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocatorKey(pub [u8; 32]);

/// What the links are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOutput {
    /// Connect, to a known peer or to whoever answers.
    Dial {
        /// To tell the end of it.
        dial: DialId,
        /// Who must answer; `None` on a hint that names nobody.
        peer: Option<TransportKey>,
        /// Where; tried together.
        addresses: Vec<ControlAddress>,
    },
    /// Connect to a peer by a relay's circuit.
    DialBy {
        /// To tell the end of it.
        dial: DialId,
        /// Who must answer.
        peer: TransportKey,
        /// The relay.
        relay: TransportKey,
        /// Where the relay is; connected to first, if it is not yet.
        addresses: Vec<ControlAddress>,
    },
    /// The relays at which this node is to be reachable by circuits, whole list. The adapter makes the reservations and
    /// makes them anew when they are lost.
    Homes(Vec<(TransportKey, Vec<ControlAddress>)>),
    /// Whether circuits are carried for trusted peers.
    Relaying(bool),
    /// Have a stream for datagrams with a trusted, connected peer, or have none.
    Carry {
        /// Whom.
        peer: TransportKey,
        /// Whether there is to be one.
        wanted: bool,
    },
    /// Ask a connected peer.
    Ask {
        /// To tell the answer.
        call: CallId,
        /// Whom.
        peer: TransportKey,
        /// By which protocol.
        service: Service,
        /// The question.
        bytes: Vec<u8>,
    },
    /// Answer a question.
    Answer {
        /// Which.
        answer: AnswerId,
        /// The answer.
        bytes: Vec<u8>,
    },
    /// Close a question's stream without a word.
    Refuse {
        /// Which.
        answer: AnswerId,
    },
    /// Close all connections with a peer.
    HangUp {
        /// Whom.
        peer: TransportKey,
    },
    /// The peer proved to be a live member: it may gossip, and its connection is kept.
    Trust {
        /// Whom.
        peer: TransportKey,
    },
    /// The peer is a member no longer.
    Distrust {
        /// Whom.
        peer: TransportKey,
    },
    /// Gossip on this topic from now on (and no other).
    Topic([u8; 32]),
    /// Publish a sealed message on the topic.
    Publish(Vec<u8>),
    /// The verdict on a gossip message: pass it on, or not and remember who sent it.
    Verdict {
        /// Which message.
        message: GossipId,
        /// Whether it opened and was well formed.
        good: bool,
    },
    /// The DHT nodes that this node puts at and gets from, whole list; none of them is a member.
    Neighbours(Vec<(TransportKey, Vec<ControlAddress>)>),
    /// Put a sealed value at the DHT nodes.
    Put {
        /// Where in the DHT.
        key: LocatorKey,
        /// What; of the one size that a locator has.
        value: Vec<u8>,
    },
    /// Ask the DHT nodes for what they hold under a key.
    Get {
        /// Which.
        key: LocatorKey,
    },
}
