//! Lets a behaviour connect to those that the core named, at the addresses that the core named, and to nobody else.
//!
//! The DHT hears of other nodes from strangers. Whom a stranger names must not be dialled: it could be anything behind
//! this machine's router. What it names is told to the core instead.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::gate::refuse_dial;

/// A behaviour that connects to named peers only.
pub(super) struct Leash<B> {
    /// The behaviour on the leash.
    pub(super) inner: B,
    named: BTreeMap<PeerId, Vec<Multiaddr>>,
}

/// What the behaviour on the leash says.
#[derive(Debug)]
pub(super) enum LeashEvent<E> {
    /// Its own words.
    Inner(E),
    /// It would have connected to somebody who is not named.
    Sighted {
        /// Who.
        peer: PeerId,
        /// Where, unproven.
        addresses: Vec<Multiaddr>,
    },
}

impl<B> Leash<B> {
    pub(super) const fn new(inner: B) -> Self {
        Self {
            inner,
            named: BTreeMap::new(),
        }
    }

    /// Names all whom the behaviour may connect to; gives those that were named before.
    pub(super) fn name(
        &mut self,
        named: BTreeMap<PeerId, Vec<Multiaddr>>,
    ) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        std::mem::replace(&mut self.named, named)
    }

    /// All whom the behaviour may connect to.
    pub(super) const fn named(&self) -> &BTreeMap<PeerId, Vec<Multiaddr>> {
        &self.named
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Leash<B> {
    type ConnectionHandler = THandler<B>;
    type ToSwarm = LeashEvent<B::ToSwarm>;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
    }

    /// Only the behaviour's own dials have no address yet; those of the core bring theirs.
    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let named = peer.and_then(|peer| self.named.get(&peer));
        let named = named.filter(|_| addresses.is_empty());
        Ok(named.cloned().unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(connection, peer, remote, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
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
        loop {
            let opts = match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::Dial { opts }) => opts,
                Poll::Ready(event) => return Poll::Ready(event.map_out(LeashEvent::Inner)),
            };
            let peer = opts.get_peer_id();
            if peer.is_some_and(|peer| self.named.contains_key(&peer)) {
                return Poll::Ready(ToSwarm::Dial { opts });
            }
            let addresses = self
                .inner
                .handle_pending_outbound_connection(
                    opts.connection_id(),
                    peer,
                    &[],
                    Endpoint::Dialer,
                )
                .unwrap_or_default();
            refuse_dial(&mut self.inner, &opts);
            if let Some(peer) = peer.filter(|_| !addresses.is_empty()) {
                return Poll::Ready(ToSwarm::GenerateEvent(LeashEvent::Sighted {
                    peer,
                    addresses,
                }));
            }
        }
    }
}
