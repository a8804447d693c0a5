//! Pings on the connections that this node made to relays by itself: the core asks nothing there, so nobody else would
//! find out that the other end is gone. On all others it only answers.

use std::collections::BTreeSet;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, ping};

/// Finds out which of the chosen connections are dead, and closes those.
pub(super) struct Pulse {
    asking: ping::Behaviour,
    answering: ping::Behaviour,
    chosen: BTreeSet<ConnectionId>,
}

impl Default for Pulse {
    fn default() -> Self {
        let config = ping::Config::new().with_timeout(ANSWER_TIME_MAX);
        Self {
            asking: ping::Behaviour::new(config.clone().with_interval(INTERVAL)),
            answering: ping::Behaviour::new(config.with_interval(NEVER)),
            chosen: BTreeSet::new(),
        }
    }
}

impl Pulse {
    /// Watches a connection that is about to be made.
    pub(super) fn watch(&mut self, connection: ConnectionId) {
        self.chosen.insert(connection);
    }
}

impl NetworkBehaviour for Pulse {
    type ConnectionHandler = THandler<ping::Behaviour>;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.answering
            .handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = if self.chosen.contains(&connection) {
            &mut self.asking
        } else {
            &mut self.answering
        };
        inner.handle_established_outbound_connection(connection, peer, remote, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(down) = event {
            self.chosen.remove(&down.connection_id);
        } else if let FromSwarm::DialFailure(failure) = event {
            self.chosen.remove(&failure.connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.chosen.contains(&connection) {
            self.asking
                .on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.asking.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    if event.result.is_err() && self.chosen.remove(&event.connection) {
                        return Poll::Ready(ToSwarm::CloseConnection {
                            peer_id: event.peer,
                            connection: CloseConnection::One(event.connection),
                        });
                    }
                }
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Often enough for the NATs that forget a quiet TCP connection within a minute.
const INTERVAL: Duration = Duration::from_secs(30);
/// One ping, when the connection begins; none after it.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
