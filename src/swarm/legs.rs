//! First legs: the direct connections to relays that circuits and reservations need.
//!
//! One that this node makes for that reason alone is hidden from the core, which would take the relay for a caller that
//! never says who it is. It is shown when the core calls the same peer, or when the peer asks something.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::{DialId, LinkInput};
use meshnode_protocol::record::ControlAddress;
use tokio::time::Instant;

use super::address;
use super::dial::{ADDRESSES_MAX, CONCURRENCY};
use super::state::{Link, State};

/// First legs on their way, and who waits for them.
#[derive(Default)]
pub(super) struct Legs {
    made: BTreeMap<ConnectionId, PeerId>,
    waiting: BTreeMap<DialId, Waiting>,
}

/// A call that waits for a connection to its relay.
#[derive(Clone, Copy)]
struct Waiting {
    peer: PeerId,
    relay: PeerId,
}

impl Legs {
    /// Whether a connection was made as a first leg; it is not on its way any more.
    pub(super) fn take(&mut self, connection: &ConnectionId) -> bool {
        self.made.remove(connection).is_some()
    }
}

impl State {
    /// Calls a peer by a relay's circuit.
    pub(super) fn dial_by(
        &mut self,
        dial: DialId,
        peer: &TransportKey,
        relay: &TransportKey,
        addresses: &[ControlAddress],
    ) {
        let (Some(peer), Some(relay)) = (address::peer_id(peer), address::peer_id(relay)) else {
            self.dial_failed(dial, true);
            return;
        };
        let own = *self.swarm.local_peer_id();
        if let Some(connection) = self.hidden(&peer) {
            self.show(connection, Some(dial));
        } else if peer == own || relay == own || peer == relay || self.swarm.is_connected(&peer) {
            self.dial_failed(dial, true);
        } else if self.direct_link(&relay).is_some() {
            self.dial_circuit(dial, Waiting { peer, relay });
        } else if addresses.is_empty() {
            self.dial_failed(dial, true);
        } else {
            self.legs.waiting.insert(dial, Waiting { peer, relay });
            self.reach(relay, addresses);
        }
    }

    /// Has a direct connection to a relay made, unless one is on its way.
    pub(super) fn reach(&mut self, relay: PeerId, addresses: &[ControlAddress]) {
        if self.legs.made.values().any(|peer| *peer == relay) {
            return;
        }
        let addresses = addresses.iter().take(ADDRESSES_MAX);
        let options = DialOpts::peer_id(relay)
            .condition(PeerCondition::Always)
            .addresses(addresses.map(address::multiaddr).collect())
            .override_dial_concurrency_factor(CONCURRENCY)
            .build();
        let connection = options.connection_id();
        self.legs.made.insert(connection, relay);
        self.swarm.behaviour_mut().pulse.watch(connection);
        if self.swarm.dial(options).is_err() {
            self.on_leg_failed(connection);
        }
    }

    /// A direct connection with a peer stands: what waited for that goes on.
    pub(super) fn on_leg_up(&mut self, relay: PeerId) {
        let ready: Vec<_> = self
            .legs
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.relay == relay)
            .map(|(dial, waiting)| (*dial, *waiting))
            .collect();
        for (dial, waiting) in ready {
            self.legs.waiting.remove(&dial);
            self.dial_circuit(dial, waiting);
        }
        self.on_home_reached(relay, Instant::now());
    }

    /// A connection was not made; gives whether it was a first leg.
    pub(super) fn on_leg_failed(&mut self, connection: ConnectionId) -> bool {
        let Some(relay) = self.legs.made.remove(&connection) else {
            return false;
        };
        // A connection that the core made meanwhile is as good.
        if self.direct_link(&relay).is_some() {
            self.on_leg_up(relay);
            return true;
        }
        tracing::debug!(reason = "no address answers", "A relay is not reached");
        let left: Vec<_> = self
            .legs
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.relay == relay)
            .map(|(dial, _)| *dial)
            .collect();
        for dial in left {
            self.legs.waiting.remove(&dial);
            self.dial_failed(dial, false);
        }
        self.on_home_unreachable(&relay, Instant::now());
        true
    }

    fn dial_circuit(&mut self, dial: DialId, waiting: Waiting) {
        let Waiting { peer, relay } = waiting;
        let Some(at) = self.direct_link(&relay).map(|link| link.remote) else {
            self.dial_failed(dial, false);
            return;
        };
        let way = address::circuit(&at, relay, peer);
        let end = self.dials.start_by(&mut self.swarm, dial, peer, way);
        self.end_dial(end);
    }

    fn dial_failed(&mut self, dial: DialId, useless: bool) {
        self.happened
            .push_back(LinkInput::DialFailed { dial, useless });
    }

    /// A connection with a peer that leads by no relay.
    pub(super) fn direct_link(&self, peer: &PeerId) -> Option<&Link> {
        self.links
            .values()
            .find(|link| link.peer == *peer && link.by.is_none())
    }

    /// The connection with a peer that the core does not know of.
    pub(super) fn hidden(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.links
            .iter()
            .find(|(_, link)| link.hidden && link.peer == *peer)
            .map(|(connection, _)| *connection)
    }

    /// Tells the core of a connection that it did not know of.
    pub(super) fn show(&mut self, connection: ConnectionId, dial: Option<DialId>) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.hidden = false;
            link.active = Instant::now();
            self.happened.push_back(LinkInput::Up {
                link: link.id,
                peer: link.key,
                remote: link.remote,
                dial,
                by: None,
            });
        }
    }

    /// Ends the hidden connections that nobody needs any more.
    pub(super) fn end_idle_legs(&mut self, now: Instant) {
        let is_used = |peer: &PeerId| {
            let by = Some(*peer);
            self.homes.has(peer) || self.links.values().any(|link| link.by == by)
        };
        let idle: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.hidden && now.duration_since(link.since) >= IDLE_MAX)
            .filter(|(_, link)| !is_used(&link.peer))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in idle {
            self.swarm.close_connection(connection);
        }
    }
}

/// How long a first leg may stand without a circuit: longer than a call by it takes.
const IDLE_MAX: Duration = Duration::from_secs(60);
