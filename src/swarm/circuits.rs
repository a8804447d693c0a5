//! Circuits of relays: libp2p's client and server of circuit relay v2, held to what this node wants of them.
//!
//! The client neither connects by itself nor tells libp2p of the addresses that it got: those would be told to every
//! stranger. Its listeners are never taken away while their connection stands: libp2p's client does not survive that
//! while an answer of the relay is on its way.

use std::num::NonZeroU32;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::relay;
use libp2p::swarm::behaviour::ExternalAddrConfirmed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::address;
use super::gate::refuse_dial;

/// The client.
pub(super) struct Circuits {
    inner: relay::client::Behaviour,
}

impl Circuits {
    pub(super) const fn new(inner: relay::client::Behaviour) -> Self {
        Self { inner }
    }
}

/// How much a relay carries by circuits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Peers that are reachable here at the same time.
    pub(super) reservations: usize,
    /// Circuits at the same time.
    pub(super) circuits: usize,
    /// Circuits that one peer opened.
    pub(super) circuits_per_peer: usize,
    /// Bytes of one circuit; 0 for no limit.
    pub(super) bytes: u64,
    /// How long one circuit stands.
    pub(super) time: Duration,
}

/// What a member carries for its network: every pair of it once, in a network of a few dozen without any way out.
pub(super) const MEMBERS_ROOM: Room = Room {
    reservations: 512,
    circuits: 1024,
    circuits_per_peer: 128,
    bytes: 0,
    time: CIRCUIT_TIME_MAX,
};

/// The server; it carries nothing until it is told to.
///
/// A reservation lasts as long as its connection. So the two ends need not agree on the time, and a reservation never
/// ends while its renewal is on its way, which libp2p's server does not survive.
pub(super) fn server(own: PeerId, room: Room) -> relay::Behaviour {
    let config = relay::Config {
        max_reservations: room.reservations,
        max_reservations_per_peer: RESERVATIONS_PER_PEER_MAX,
        reservation_duration: RESERVATION_TIME,
        reservation_rate_limiters: Vec::new(),
        max_circuits: room.circuits,
        max_circuits_per_peer: room.circuits_per_peer,
        max_circuit_duration: room.time,
        max_circuit_bytes: room.bytes,
        circuit_src_rate_limiters: Vec::new(),
    }
    .reservation_rate_per_peer(REQUESTS, REQUEST_INTERVAL)
    .circuit_src_per_peer(REQUESTS, REQUEST_INTERVAL)
    .reservation_rate_per_ip(REQUESTS_OF_HOST, REQUEST_INTERVAL)
    .circuit_src_per_ip(REQUESTS_OF_HOST, REQUEST_INTERVAL);
    let mut server = relay::Behaviour::new(own, config);
    server.set_status(Some(relay::Status::Disable));
    // A reservation must name an address; ours says only whose it is, for the client knows the rest.
    let own_name = Multiaddr::empty().with(Protocol::P2p(own));
    server.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed {
        addr: &own_name,
    }));
    server
}

/// Turns a server on or off. Reservations and circuits that stand then stand until their connections end.
pub(super) fn serve(server: &mut relay::Behaviour, serves: bool) {
    let status = if serves {
        relay::Status::Enable
    } else {
        relay::Status::Disable
    };
    server.set_status(Some(status));
}

impl NetworkBehaviour for Circuits {
    type ConnectionHandler = THandler<relay::client::Behaviour>;
    type ToSwarm = relay::client::Event;

    /// The addresses of what comes by this connection begin with its own, and must say whose circuits they are.
    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let remote = address::named(remote, peer);
        self.inner
            .handle_established_inbound_connection(connection, peer, local, &remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let remote = address::named(remote, peer);
        self.inner
            .handle_established_outbound_connection(connection, peer, &remote, role, port_use)
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
            match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::Dial { opts }) => refuse_dial(&mut self.inner, &opts),
                Poll::Ready(
                    ToSwarm::ExternalAddrConfirmed(_) | ToSwarm::ExternalAddrExpired(_),
                ) => {}
                Poll::Ready(event) => return Poll::Ready(event),
            }
        }
    }
}

/// A peer that changes its network has the old connection and the new one for a while.
const RESERVATIONS_PER_PEER_MAX: usize = 3;
/// Ten years: no connection lasts so long.
const RESERVATION_TIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// As long as can be said.
pub(super) const CIRCUIT_TIME_MAX: Duration = Duration::from_secs(u32::MAX as u64);
/// Requests that a peer may make at once ...
const REQUESTS: NonZeroU32 = NonZeroU32::new(64).expect("64 is not zero");
/// ... and all peers behind one address ...
const REQUESTS_OF_HOST: NonZeroU32 = NonZeroU32::new(512).expect("512 is not zero");
/// ... and how long each further one takes.
const REQUEST_INTERVAL: Duration = Duration::from_secs(2);
