//! What came of roads: which one led where last, and what a proxy says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::LinkId;
use tokio::time::Instant;

use super::proxy::Trouble;

/// How a TCP address of a peer is reached, the plainest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Road {
    /// Noise on TCP.
    Tcp,
    /// The same in a WebSocket in TLS, as a browser's.
    Tls,
    /// And that through the proxy.
    Proxy,
}

/// What is known of roads; a handle.
#[derive(Clone, Debug, Default)]
pub(in crate::swarm) struct Memory(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    last: BTreeMap<SocketAddr, (Road, Instant)>,
    standing: BTreeMap<LinkId, (TransportKey, Road)>,
    proxy: Option<Result<(), Trouble>>,
}

impl Memory {
    /// A road led to an address.
    pub(in crate::swarm) fn note(&self, to: SocketAddr, road: Road, now: Instant) {
        let mut known = self.known();
        known.last.insert(to, (road, now));
        if known.last.len() > ADDRESSES_MAX {
            let oldest = known.last.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(to, _)| *to) {
                known.last.remove(&oldest);
            }
        }
    }

    /// The road that led to an address last, not too long ago.
    pub(in crate::swarm) fn last(&self, to: SocketAddr, now: Instant) -> Option<Road> {
        let known = self.known();
        let (road, at) = known.last.get(&to)?;
        (now.duration_since(*at) < MEMORY_TIME).then_some(*road)
    }

    /// A connection stands by a road, or its first leg does.
    pub(in crate::swarm) fn stands(&self, link: LinkId, peer: TransportKey, road: Road) {
        self.known().standing.insert(link, (peer, road));
    }

    /// The road of a connection that stands.
    pub(in crate::swarm) fn of(&self, link: LinkId) -> Option<Road> {
        self.known().standing.get(&link).map(|(_, road)| *road)
    }

    /// It does not any more.
    pub(in crate::swarm) fn ended(&self, link: LinkId) {
        self.known().standing.remove(&link);
    }

    /// What came of asking the proxy.
    pub(in crate::swarm) fn asked(&self, result: Result<(), Trouble>) {
        self.known().proxy = Some(result);
    }

    /// What the proxy said last; `None`: it was not asked.
    pub(in crate::swarm) fn proxy(&self) -> Option<Result<(), Trouble>> {
        self.known().proxy
    }

    /// By which roads this node called its peers.
    pub(in crate::swarm) fn standing(&self) -> BTreeMap<TransportKey, Road> {
        self.known().standing.values().copied().collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nobody panics with the roads in hand")
    }
}

/// Addresses that are remembered: more than one has peers with addresses of TCP.
const ADDRESSES_MAX: usize = 512;
/// How long: then the plain road has its chance again.
const MEMORY_TIME: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_led_there_is_remembered_for_an_hour_and_so_many_addresses() {
        let (memory, now) = (Memory::default(), Instant::now());
        let to = |port| SocketAddr::from(([192, 0, 2, 1], port));
        memory.note(to(1), Road::Tls, now);
        assert_eq!(memory.last(to(1), now), Some(Road::Tls));
        assert_eq!(memory.last(to(2), now), None);
        assert_eq!(memory.last(to(1), now + MEMORY_TIME), None);
        for port in 2..700 {
            memory.note(to(port), Road::Tcp, now + Duration::from_secs(1));
        }
        assert_eq!(memory.known().last.len(), ADDRESSES_MAX);
        assert_eq!(memory.last(to(1), now), None);
    }
}
