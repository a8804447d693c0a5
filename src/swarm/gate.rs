//! Keeps a behaviour's protocol shut towards a peer until that peer is trusted.
//!
//! A shut gate does not poll the inner handler: nothing that the peer sent is read, nothing goes out, and both wait in
//! the stream. So it does not matter which side trusts the other first, and a member's first words are not lost. A
//! refused stream would be remembered by the other side as "does not speak this protocol" for the whole connection.
//!
//! What is inside never starts a connection either: the core decides whom to dial.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, DialError,
    DialFailure, FromSwarm, NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// A behaviour that sees trusted peers only.
pub(super) struct Gate<B> {
    /// The behaviour behind the gate.
    pub(super) inner: B,
    open: BTreeSet<PeerId>,
    connections: BTreeMap<PeerId, Vec<ConnectionId>>,
    changes: VecDeque<(PeerId, ConnectionId, bool)>,
}

impl<B> Gate<B> {
    pub(super) const fn new(inner: B) -> Self {
        Self {
            inner,
            open: BTreeSet::new(),
            connections: BTreeMap::new(),
            changes: VecDeque::new(),
        }
    }

    /// Opens or shuts the gate for a peer, on all its connections, those to come included.
    pub(super) fn set(&mut self, peer: PeerId, open: bool) {
        let changed = if open {
            self.open.insert(peer)
        } else {
            self.open.remove(&peer)
        };
        if !changed {
            return;
        }
        for connection in self.connections.get(&peer).into_iter().flatten() {
            self.changes.push_back((peer, *connection, open));
        }
    }

    fn note(&mut self, event: &FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(up) = event {
            self.connections
                .entry(up.peer_id)
                .or_default()
                .push(up.connection_id);
        } else if let FromSwarm::ConnectionClosed(down) = event
            && let Some(connections) = self.connections.get_mut(&down.peer_id)
        {
            connections.retain(|connection| *connection != down.connection_id);
            if connections.is_empty() {
                self.connections.remove(&down.peer_id);
            }
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = GateHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let open = self.open.contains(&peer);
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
            .map(|inner| GateHandler { open, inner })
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let open = self.open.contains(&peer);
        self.inner
            .handle_established_outbound_connection(connection, peer, remote, role, port_use)
            .map(|inner| GateHandler { open, inner })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.note(&event);
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner
            .on_connection_handler_event(peer, connection, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, open)) = self.changes.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event: GateOrder::Set(open),
            });
        }
        loop {
            match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::Dial { opts }) => refuse_dial(&mut self.inner, &opts),
                Poll::Ready(event) => return Poll::Ready(event.map_in(GateOrder::Inner)),
            }
        }
    }
}

/// Tells a behaviour that a connection that it wants is not made.
pub(super) fn refuse_dial(inner: &mut impl NetworkBehaviour, opts: &DialOpts) {
    inner.on_swarm_event(FromSwarm::DialFailure(DialFailure {
        peer_id: opts.get_peer_id(),
        error: &DialError::Aborted,
        connection_id: opts.connection_id(),
    }));
}

/// What the gate tells a connection.
#[derive(Debug)]
pub(super) enum GateOrder<E> {
    /// Open or shut.
    Set(bool),
    /// For the handler behind the gate.
    Inner(E),
}

/// The gate of one connection.
pub(super) struct GateHandler<H> {
    open: bool,
    inner: H,
}

impl<H: ConnectionHandler> ConnectionHandler for GateHandler<H> {
    type FromBehaviour = GateOrder<H::FromBehaviour>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<H::InboundProtocol, H::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.open && self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>>
    {
        // No waker is kept: an order to open wakes the connection, which then polls all handlers.
        if self.open {
            self.inner.poll(cx)
        } else {
            Poll::Pending
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        if self.open {
            self.inner.poll_close(cx)
        } else {
            Poll::Ready(None)
        }
    }

    fn on_behaviour_event(&mut self, order: Self::FromBehaviour) {
        match order {
            GateOrder::Set(open) => self.open = open,
            GateOrder::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        self.inner.on_connection_event(event);
    }
}
