//! All ways to all peers: which probe belongs to whom, who is looked after, and what others tell us about ourselves.

mod outside;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use rand_core::Rng;

use self::outside::Outside;
use self::watch::Due;
use crate::id::NodeId;
use crate::io::CommandId;
use crate::path::{Means, PathEvent, PeerPath};
use crate::peering::Path;
use crate::probe::{PortPlan, ProbeKeys, tag_of};
use crate::record::{Candidate, Nat};
use crate::time::Moment;

pub use self::outside::Vantage;

/// Least time between two looks at all ways because others see this node elsewhere: several notice one change.
const JOLT_MS: u64 = 1000;

/// The ways to all peers.
#[derive(Debug, Default)]
pub struct Paths {
    peers: BTreeMap<NodeId, PeerPath>,
    tags: BTreeMap<[u8; 8], NodeId>,
    means: Means,
    outside: Outside,
    events: VecDeque<(NodeId, PathEvent)>,
    due: Due,
    choose_ms: Option<u64>,
    jolted_ms: Option<u64>,
    sockets: Vec<u16>,
}

impl Paths {
    /// Adds a peer with nothing known of where it is.
    pub fn insert(&mut self, node: NodeId, keys: ProbeKeys, now: Moment) {
        let mut peer = PeerPath::new(keys);
        self.place(&mut peer, now);
        self.tags.insert(peer.tag_in(), node);
        self.peers.insert(node, peer);
        self.collect(node);
    }

    /// Forgets a peer.
    pub fn remove(&mut self, node: &NodeId) {
        if let Some(mut peer) = self.peers.remove(node) {
            peer.end(&mut self.means);
            self.tags.remove(&peer.tag_in());
        }
        self.collect(*node);
        self.outside.forget(&Vantage::Member(*node));
        self.keep_sockets();
    }

    /// The way to a peer.
    #[must_use]
    pub fn peer(&self, node: &NodeId) -> Option<&PeerPath> {
        self.peers.get(node)
    }

    /// What all ways share.
    #[must_use]
    pub const fn means(&self) -> &Means {
        &self.means
    }

    /// The same, to change it.
    pub const fn means_mut(&mut self) -> &mut Means {
        &mut self.means
    }

    /// Does something with the way to a peer and collects what follows.
    pub fn with(&mut self, node: &NodeId, act: impl FnOnce(&mut PeerPath)) {
        self.with_means(node, |peer, _| act(peer));
    }

    fn with_means(&mut self, node: &NodeId, act: impl FnOnce(&mut PeerPath, &mut Means)) {
        if let Some(peer) = self.peers.get_mut(node) {
            act(peer, &mut self.means);
            self.collect(*node);
        }
    }

    /// Does something with all ways.
    pub fn with_all(&mut self, mut act: impl FnMut(&mut PeerPath)) {
        let nodes: Vec<_> = self.peers.keys().copied().collect();
        for node in nodes {
            self.with(&node, &mut act);
        }
    }

    /// Learns where a peer says it is.
    pub fn learn(&mut self, node: &NodeId, candidates: &[Candidate], now: Moment) {
        self.with_means(node, |peer, means| peer.learn(candidates, means, now));
    }

    /// Learns which relays and circuits lead to a peer now, whole list.
    pub fn learn_relayed(&mut self, node: &NodeId, paths: &[Path], now: Moment) {
        self.with(node, |peer| peer.learn_relayed(paths, now));
    }

    /// Takes a probe datagram from the network.
    pub fn datagram<R: Rng>(&mut self, path: Path, bytes: &[u8], now: Moment, rng: &mut R) {
        let Some(node) = tag_of(bytes).and_then(|tag| self.tags.get(&tag).copied()) else {
            return;
        };
        self.with_means(&node, |peer, means| {
            peer.datagram(path, bytes, means, now, rng);
        });
    }

    /// The engine heard a peer at a path that is not its own.
    pub fn moved<R: Rng>(&mut self, node: &NodeId, path: Path, now: Moment, rng: &mut R) {
        self.with_means(node, |peer, means| peer.moved(path, means, now, rng));
    }

    /// Forgets the probes of a person who went away.
    pub fn forget(&mut self, command: CommandId) {
        self.with_all(|peer| peer.forget(command));
    }

    /// This machine has these addresses now: what worked may not work any more.
    pub fn shake(&mut self, addresses: &[IpAddr], now: Moment) {
        self.outside.clear();
        self.means.enter(addresses, now.uptime_ms());
        self.with_all(|peer| peer.shake(now));
    }

    /// Whether somebody saw this node elsewhere than where the same saw it before: its router is another, or
    /// began anew.
    #[must_use]
    pub fn is_elsewhere(&self, who: Vantage, by: SocketAddr, seen: SocketAddr) -> bool {
        self.outside.is_elsewhere(who, by, seen)
    }

    /// What the own router knew is gone: the ways in use are looked at, and their peers called.
    pub fn jolt(&mut self, now: Moment) {
        let rested = self
            .jolted_ms
            .is_none_or(|ms| ms + JOLT_MS <= now.uptime_ms());
        if rested {
            self.jolted_ms = Some(now.uptime_ms());
            self.with_all(|peer| peer.jolt(now));
        }
    }

    /// Learns where this node may be found, and how its router maps: whoever is looked for is told.
    pub fn announce(&mut self, candidates: Vec<Candidate>, nat: Nat, plan: PortPlan, now: Moment) {
        if self.means.announce(candidates, nat, plan) {
            let nat = self.means.guess();
            self.with_all(|peer| peer.call_again(nat, now));
        }
    }

    /// Does what is due.
    pub fn timeout<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        self.means.on_time(now.uptime_ms());
        for node in self.due.until(now.uptime_ms()) {
            self.with_means(&node, |peer, means| peer.timeout(means, now, rng));
        }
    }

    fn collect(&mut self, node: NodeId) {
        let mut moved = false;
        if let Some(peer) = self.peers.get_mut(&node) {
            while let Some(event) = peer.poll_event() {
                moved |= matches!(event, PathEvent::Active(_));
                self.events.push_back((node, event));
            }
        }
        let next = self.peers.get(&node).and_then(PeerPath::poll_timeout);
        self.due.plan(node, next);
        if moved {
            self.keep_sockets();
        }
    }

    /// Keeps the extra sockets that are in use.
    fn keep_sockets(&mut self) {
        if self.means.has_sockets() {
            let paths = self.peers.values().filter_map(PeerPath::active_path);
            self.means.keep_sockets(paths);
        }
    }

    /// The extra sockets that are to be there, whole list, if that changed since it was last asked.
    #[must_use]
    pub fn poll_sockets(&mut self) -> Option<Vec<u16>> {
        let sockets = self.means.sockets();
        if sockets == self.sockets {
            return None;
        }
        self.sockets.clone_from(&sockets);
        Some(sockets)
    }

    /// When [`Self::timeout`] has something to do, uptime in milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let due = [self.due.first(), self.choose_ms, self.means.run_ends_ms()];
        due.into_iter().flatten().min()
    }

    /// The next event, in order.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<(NodeId, PathEvent)> {
        self.events.pop_front()
    }

    /// Remembers that a member or a relay, at an address, saw us at another. Gives whether what we announce changes.
    pub fn saw_us(
        &mut self,
        who: Vantage,
        by: SocketAddr,
        seen: SocketAddr,
        own: &[IpAddr],
        now: Moment,
    ) -> bool {
        let before = (self.observed(own), self.outside.router(own));
        let news = self.outside.saw(who, by, seen, now.uptime_ms());
        news && before != (self.observed(own), self.outside.router(own))
    }

    /// The addresses that others saw us at: those that most of them saw, ascending; not those of this machine.
    #[must_use]
    pub fn observed(&self, own: &[IpAddr]) -> Vec<SocketAddr> {
        let mut observed = self.outside.observed();
        observed.retain(|address| !own.contains(&address.ip()));
        observed
    }

    /// Who saw this node where, lately.
    pub fn sightings(&self) -> impl Iterator<Item = (Vantage, SocketAddr)> {
        self.outside.sightings()
    }

    /// How our router maps, and which port it takes next.
    #[must_use]
    pub fn router(&self, own: &[IpAddr]) -> (Nat, PortPlan) {
        self.outside.router(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Secret;

    fn node(number: u8) -> NodeId {
        NodeId::new(Secret::from_seed(&[number; 32]).public())
    }

    #[test]
    fn what_is_announced_is_what_most_see_now() {
        let at = |port: u16| SocketAddr::from(([5, 6, 7, 8], port));
        let now = Moment::default();
        let mut paths = Paths::default();
        let saw = |paths: &mut Paths, number: u8, port| {
            let by = ([198, 51, 100, number], 1024).into();
            paths.saw_us(Vantage::Member(node(number)), by, at(port), &[], now)
        };
        for (number, port) in [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (5, 4000)] {
            saw(&mut paths, number, port);
        }
        // Three are announced: of those that one saw, the smallest.
        assert_eq!(paths.observed(&[]), [at(1000), at(2000), at(4000)]);
        // The same again is no news; another address is.
        assert!(!saw(&mut paths, 1, 1000));
        assert!(saw(&mut paths, 1, 3000));
        assert_eq!(paths.observed(&[]), [at(2000), at(3000), at(4000)]);
        paths.remove(&node(2));
        assert_eq!(paths.observed(&[]), [at(3000), at(4000)]);
        // What is this machine's own needs no sighting.
        assert!(paths.observed(&[at(1).ip()]).is_empty());
        paths.shake(&[], now);
        assert!(paths.observed(&[]).is_empty());
    }
}
