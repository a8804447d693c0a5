//! Streams that carry datagrams to trusted peers, where UDP does not get through (`docs/protocol.md` §8.6).
//!
//! A peer's handle is of the connection that leads by no relay, if one does. Each end may open a stream; it sends by
//! its own if it has one, else by the peer's. What comes while the gate of trust is shut is not even read.

mod ends;
mod frame;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use meshnode_protocol::peering::CircuitId;

use crate::carrier::Carrier;
use ends::{Ends, Source, Want};

/// The streams of all connections.
pub(super) struct Datagrams {
    source: Source,
    wanted: BTreeSet<PeerId>,
    connections: BTreeMap<PeerId, BTreeMap<ConnectionId, Standing>>,
    /// The handle that was last told of each peer.
    told: BTreeMap<PeerId, CircuitId>,
    orders: VecDeque<(PeerId, ConnectionId, Want)>,
    news: VecDeque<Carrying>,
}

/// A peer's handle changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carrying {
    pub(super) peer: PeerId,
    pub(super) circuit: Option<CircuitId>,
}

/// A connection that stands.
struct Standing {
    by_circuit: bool,
    /// Whether it was told to have a stream.
    asked: bool,
    circuit: Option<CircuitId>,
}

impl Datagrams {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self {
            source: Source {
                carrier,
                counted: Arc::default(),
            },
            wanted: BTreeSet::new(),
            connections: BTreeMap::new(),
            told: BTreeMap::new(),
            orders: VecDeque::new(),
            news: VecDeque::new(),
        }
    }

    /// Has a stream with a peer, over the best of its connections until the last one ends, or has none.
    pub(super) fn want(&mut self, peer: PeerId, wanted: bool) {
        if !wanted {
            self.wanted.remove(&peer);
        } else if self.connections.contains_key(&peer) {
            self.wanted.insert(peer);
        }
        self.choose(peer);
    }

    /// The stream is over the newest connection that leads by no relay, else over the newest at all.
    fn choose(&mut self, peer: PeerId) {
        let Some(connections) = self.connections.get_mut(&peer) else {
            return;
        };
        let best = connections
            .iter()
            .map(|(id, standing)| (!standing.by_circuit, *id))
            .max();
        let wanted = self.wanted.contains(&peer);
        for (id, standing) in connections {
            let asked = wanted && best == Some((!standing.by_circuit, *id));
            if standing.asked != asked {
                standing.asked = asked;
                self.orders.push_back((peer, *id, Want(asked)));
            }
        }
    }

    /// Tells when the handle to use is another one.
    fn tell(&mut self, peer: PeerId) {
        let connections = self.connections.get(&peer).into_iter().flatten();
        let circuit = connections
            .filter_map(|(_, standing)| Some((!standing.by_circuit, standing.circuit?)))
            .max()
            .map(|(_, circuit)| circuit);
        if self.told.get(&peer).copied() == circuit {
            return;
        }
        match circuit {
            Some(circuit) => self.told.insert(peer, circuit),
            None => self.told.remove(&peer),
        };
        self.news.push_back(Carrying { peer, circuit });
    }
}

impl NetworkBehaviour for Datagrams {
    type ConnectionHandler = Ends;
    type ToSwarm = Carrying;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Ends::new(self.source.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Ends::new(self.source.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(up) = event {
            let standing = Standing {
                by_circuit: up.endpoint.is_relayed(),
                asked: false,
                circuit: None,
            };
            let connections = self.connections.entry(up.peer_id).or_default();
            connections.insert(up.connection_id, standing);
            self.choose(up.peer_id);
        } else if let FromSwarm::ConnectionClosed(down) = event {
            if let Some(connections) = self.connections.get_mut(&down.peer_id) {
                connections.remove(&down.connection_id);
                if connections.is_empty() {
                    self.connections.remove(&down.peer_id);
                    self.wanted.remove(&down.peer_id);
                }
            }
            self.choose(down.peer_id);
            self.tell(down.peer_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        carries: THandlerOutEvent<Self>,
    ) {
        let connections = self.connections.get_mut(&peer);
        if let Some(standing) = connections.and_then(|all| all.get_mut(&connection)) {
            standing.circuit = carries.0;
        }
        self.tell(peer);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker is kept: the swarm polls after each of its own events and after each order.
        if let Some((peer_id, connection, event)) = self.orders.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event,
            });
        }
        match self.news.pop_front() {
            Some(carrying) => Poll::Ready(ToSwarm::GenerateEvent(carrying)),
            None => Poll::Pending,
        }
    }
}
