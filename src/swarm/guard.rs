//! Who may connect at all: limits on strangers by source, one connection for each dial, Ed25519 keys only.
//!
//! It judges before any other behaviour sees a connection. Trust is kept here too, because limits are for strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use meshnode_protocol::link::DialId;
use tokio::time::Instant;

use super::address;

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwanted {
    #[error("the address names no host")]
    NoHost,
    #[error("too many strangers from one source")]
    Crowd,
    #[error("too many connections from one source in a minute")]
    Rate,
    #[error("too many strangers")]
    Strangers,
    #[error("the peer's key is no Ed25519 key")]
    Key,
    #[error("the peer is not among those that may")]
    NotListed,
    #[error("the peer is connected already")]
    Connected,
    #[error("the peer has as many connections as it can need")]
    Full,
    #[error("another address of the same attempt was faster")]
    Slower,
}

/// How many strangers there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// Connections from one source at a time.
    pub(super) per_source: usize,
    /// Connections from everywhere at a time.
    pub(super) all: usize,
    /// New connections from one source in a minute.
    pub(super) arrivals: u32,
}

/// At a member's door: a room of machines behind one address joins together; with the services' limits the sum bounds
/// the memory that strangers can hold.
const MEMBERS_CROWD: Crowd = Crowd {
    per_source: 16,
    all: 128,
    arrivals: 60,
};

/// Judges connections.
pub(super) struct Guard {
    crowd: Crowd,
    /// Who may connect at all; `None`: everybody.
    only: Option<BTreeSet<PeerId>>,
    trusted: BTreeSet<PeerId>,
    connected: BTreeMap<PeerId, Connected>,
    inbound: BTreeMap<ConnectionId, Inbound>,
    arrivals: BTreeMap<Source, Arrivals>,
    dials: BTreeMap<ConnectionId, DialId>,
    won: BTreeSet<DialId>,
}

/// How many connections stand with a peer.
#[derive(Default)]
struct Connected {
    direct: usize,
    circuits: usize,
}

impl Connected {
    const fn of_kind(&mut self, by_circuit: bool) -> &mut usize {
        if by_circuit {
            &mut self.circuits
        } else {
            &mut self.direct
        }
    }
}

/// A connection from outside that stands or is being made.
struct Inbound {
    source: Source,
    peer: Option<PeerId>,
}

/// How many came since when.
struct Arrivals {
    since: Instant,
    count: u32,
}

/// One IPv4 address, or one /64 of IPv6: what a single machine can have for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn new(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(IpAddr::V4(ip)),
            IpAddr::V6(ip) => {
                let prefix = Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX));
                Self(IpAddr::V6(prefix))
            }
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(MEMBERS_CROWD, None)
    }
}

impl Guard {
    pub(super) const fn new(crowd: Crowd, only: Option<BTreeSet<PeerId>>) -> Self {
        Self {
            crowd,
            only,
            trusted: BTreeSet::new(),
            connected: BTreeMap::new(),
            inbound: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            dials: BTreeMap::new(),
            won: BTreeSet::new(),
        }
    }

    pub(super) fn trust(&mut self, peer: PeerId) {
        self.trusted.insert(peer);
    }

    pub(super) fn distrust(&mut self, peer: &PeerId) {
        self.trusted.remove(peer);
    }

    pub(super) fn is_trusted(&self, peer: &PeerId) -> bool {
        self.trusted.contains(peer)
    }

    /// Whether a connection stands that leads by no relay.
    pub(super) fn is_direct(&self, peer: &PeerId) -> bool {
        self.connected.get(peer).is_some_and(|with| with.direct > 0)
    }

    /// Lets a connection of ours count for an attempt.
    pub(super) fn expect(&mut self, connection: ConnectionId, dial: DialId) {
        self.dials.insert(connection, dial);
    }

    /// The attempt that a connection of ours counts for; afterwards it counts no more.
    pub(super) fn take_dial(&mut self, connection: &ConnectionId) -> Option<DialId> {
        self.dials.remove(connection)
    }

    /// Forgets an attempt that is through.
    pub(super) fn forget(&mut self, dial: &DialId) {
        self.won.remove(dial);
    }

    fn arrive(
        &mut self,
        connection: ConnectionId,
        ip: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Unwanted> {
        let source = Source::new(ip.ok_or(Unwanted::NoHost)?);
        let strangers = self.inbound.values().filter(|inbound| {
            !inbound
                .peer
                .as_ref()
                .is_some_and(|peer| self.trusted.contains(peer))
        });
        let (mut all, mut same) = (0, 0);
        for inbound in strangers {
            all += 1;
            same += usize::from(inbound.source == source);
        }
        if same >= self.crowd.per_source {
            return Err(Unwanted::Crowd);
        }
        if all >= self.crowd.all {
            return Err(Unwanted::Strangers);
        }
        self.count(source, now)?;
        self.inbound
            .insert(connection, Inbound { source, peer: None });
        Ok(())
    }

    fn count(&mut self, source: Source, now: Instant) -> Result<(), Unwanted> {
        let is_old = |since: Instant| now.duration_since(since) >= ARRIVALS_WINDOW;
        if !self.arrivals.contains_key(&source) && self.arrivals.len() >= SOURCES_MAX {
            self.arrivals.retain(|_, arrivals| !is_old(arrivals.since));
            // Still full: a flood from many sources. Forgetting one only lets that one start to count anew.
            if self.arrivals.len() >= SOURCES_MAX {
                self.arrivals.pop_first();
            }
        }
        let arrivals = self.arrivals.entry(source).or_insert(Arrivals {
            since: now,
            count: 0,
        });
        if is_old(arrivals.since) {
            *arrivals = Arrivals {
                since: now,
                count: 0,
            };
        }
        if arrivals.count >= self.crowd.arrivals {
            return Err(Unwanted::Rate);
        }
        arrivals.count += 1;
        Ok(())
    }

    /// Two that call each other at once have two; a third is of no use to anybody.
    fn come_in(&mut self, peer: &PeerId, by_circuit: bool) -> Result<(), Unwanted> {
        address::transport_key(peer).ok_or(Unwanted::Key)?;
        if self.only.as_ref().is_some_and(|only| !only.contains(peer)) {
            return Err(Unwanted::NotListed);
        }
        let stand = self.connected.get_mut(peer);
        if stand.is_some_and(|with| *with.of_kind(by_circuit) >= OF_KIND_MAX) {
            return Err(Unwanted::Full);
        }
        Ok(())
    }

    fn come_out(
        &mut self,
        connection: ConnectionId,
        peer: &PeerId,
        by_circuit: bool,
    ) -> Result<(), Unwanted> {
        self.come_in(peer, by_circuit)?;
        let Some(dial) = self.dials.get(&connection) else {
            return Ok(());
        };
        if self.won.contains(dial) {
            return Err(Unwanted::Slower);
        }
        let stand = self.connected.get_mut(peer);
        if stand.is_some_and(|with| with.direct > 0 || *with.of_kind(by_circuit) > 0) {
            return Err(Unwanted::Connected);
        }
        self.won.insert(*dial);
        Ok(())
    }
}

impl NetworkBehaviour for Guard {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // Who comes by a circuit is told apart by nothing that costs anything: all of one relay are one source.
        let host = address::host(remote).or_else(|| {
            let (_, relay) = address::relay(local)?;
            Some(relay.address.ip())
        });
        self.arrive(connection, host, Instant::now())
            .map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.come_in(&peer, address::is_circuit(local))
            .map_err(ConnectionDenied::new)?;
        if let Some(inbound) = self.inbound.get_mut(&connection) {
            inbound.peer = Some(peer);
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.come_out(connection, &peer, address::is_circuit(remote))
            .map(|()| dummy::ConnectionHandler)
            .map_err(ConnectionDenied::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(up) = event {
            let with = self.connected.entry(up.peer_id).or_default();
            *with.of_kind(up.endpoint.is_relayed()) += 1;
        } else if let FromSwarm::ConnectionClosed(down) = event {
            self.inbound.remove(&down.connection_id);
            if down.remaining_established == 0 {
                self.connected.remove(&down.peer_id);
            } else if let Some(with) = self.connected.get_mut(&down.peer_id) {
                *with.of_kind(down.endpoint.is_relayed()) -= 1;
            }
        } else if let FromSwarm::ListenFailure(failure) = event {
            self.inbound.remove(&failure.connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Connections with one peer that lead by no relay, and those that do.
const OF_KIND_MAX: usize = 2;
/// The time in which new connections of a source are counted.
const ARRIVALS_WINDOW: Duration = Duration::from_secs(60);
/// Sources that are counted at a time.
const SOURCES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn arrive(guard: &mut Guard, number: usize, from: &str, now: Instant) -> Result<(), Unwanted> {
        guard.arrive(ConnectionId::new_unchecked(number), ip(from), now)
    }

    #[tokio::test]
    async fn one_source_has_so_many_strangers_and_no_more() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for number in 0..MEMBERS_CROWD.per_source {
            assert_eq!(arrive(&mut guard, number, "192.0.2.1", now), Ok(()));
        }
        assert_eq!(
            arrive(&mut guard, 90, "192.0.2.1", now),
            Err(Unwanted::Crowd)
        );
        assert_eq!(
            arrive(&mut guard, 91, "::ffff:192.0.2.1", now),
            Err(Unwanted::Crowd)
        );
        assert_eq!(arrive(&mut guard, 92, "192.0.2.2", now), Ok(()));
    }

    #[tokio::test]
    async fn a_trusted_peer_is_no_stranger_in_the_crowd() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        let peer = PeerId::random();
        guard.trust(peer);
        for number in 0..MEMBERS_CROWD.per_source + 4 {
            assert_eq!(arrive(&mut guard, number, "2001:db8::1", now), Ok(()));
            let inbound = guard
                .inbound
                .get_mut(&ConnectionId::new_unchecked(number))
                .unwrap();
            inbound.peer = Some(peer);
        }
    }

    #[tokio::test]
    async fn one_source_comes_so_often_a_minute_and_no_more() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for number in 0..MEMBERS_CROWD.arrivals as usize {
            let from = format!("2001:db8::{number:x}");
            assert_eq!(arrive(&mut guard, number, &from, now), Ok(()));
            guard.inbound.clear();
        }
        assert_eq!(
            arrive(&mut guard, 90, "2001:db8::1", now),
            Err(Unwanted::Rate)
        );
        assert_eq!(
            arrive(&mut guard, 91, "2001:db8::1", now + ARRIVALS_WINDOW),
            Ok(())
        );
    }

    #[tokio::test]
    async fn the_count_of_sources_is_bounded() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for number in 0..SOURCES_MAX + 9 {
            let from = format!("10.{}.{}.1", number >> 8, number & 255);
            assert_eq!(arrive(&mut guard, number, &from, now), Ok(()));
            guard.inbound.clear();
        }
        assert_eq!(guard.arrivals.len(), SOURCES_MAX);
    }
}
