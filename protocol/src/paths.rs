//! All ways to all peers: which probe belongs to whom, and what the peers tell us about ourselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use rand_core::Rng;

use crate::id::NodeId;
use crate::io::CommandId;
use crate::path::{PathEvent, PeerPath, is_local};
use crate::peering::Path;
use crate::probe::{ProbeKeys, tag_of};
use crate::record::Candidate;
use crate::time::Moment;

/// Observed addresses that we announce.
const OBSERVED_MAX: usize = 3;

/// The ways to all peers.
#[derive(Debug, Default)]
pub struct Paths {
    peers: BTreeMap<NodeId, PeerPath>,
    tags: BTreeMap<[u8; 8], NodeId>,
    observed: BTreeMap<NodeId, SocketAddr>,
    /// How many peers saw each of these addresses.
    votes: BTreeMap<SocketAddr, usize>,
    events: VecDeque<(NodeId, PathEvent)>,
    /// Who has something to do when, in order; and the same by peer.
    due: BTreeSet<(u64, NodeId)>,
    due_of: BTreeMap<NodeId, u64>,
}

impl Paths {
    /// Adds a peer with nothing known of where it is.
    pub fn insert(&mut self, node: NodeId, keys: ProbeKeys) {
        let peer = PeerPath::new(keys);
        self.tags.insert(peer.tag_in(), node);
        self.peers.insert(node, peer);
        self.plan(node);
    }

    /// Forgets a peer.
    pub fn remove(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.remove(node) {
            self.tags.remove(&peer.tag_in());
        }
        self.plan(*node);
        if let Some(address) = self.observed.remove(node) {
            self.take_vote(&address);
        }
    }

    /// The way to a peer.
    #[must_use]
    pub fn peer(&self, node: &NodeId) -> Option<&PeerPath> {
        self.peers.get(node)
    }

    /// Does something with the way to a peer and collects what follows.
    pub fn with(&mut self, node: &NodeId, act: impl FnOnce(&mut PeerPath)) {
        if let Some(peer) = self.peers.get_mut(node) {
            act(peer);
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
        self.with(node, |peer| peer.learn(candidates, now));
    }

    /// Takes a probe datagram from the network.
    pub fn datagram<R: Rng>(&mut self, path: Path, bytes: &[u8], now: Moment, rng: &mut R) {
        let Some(node) = tag_of(bytes).and_then(|tag| self.tags.get(&tag).copied()) else {
            return;
        };
        self.with(&node, |peer| peer.datagram(path, bytes, now, rng));
    }

    /// Forgets the probes of a person who went away.
    pub fn forget(&mut self, command: CommandId) {
        self.with_all(|peer| peer.forget(command));
    }

    /// Does what is due.
    pub fn timeout<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let due = self.due.iter();
        let due = due.take_while(|(at, _)| *at <= now.uptime_ms());
        let due: Vec<_> = due.map(|(_, node)| *node).collect();
        for node in due {
            self.with(&node, |peer| peer.timeout(now, rng));
        }
    }

    fn collect(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        while let Some(event) = peer.poll_event() {
            self.events.push_back((node, event));
        }
        self.plan(node);
    }

    /// Keeps in mind when a peer has something to do next.
    fn plan(&mut self, node: NodeId) {
        let next = self.peers.get(&node).and_then(PeerPath::poll_timeout);
        let planned = match next {
            Some(at) => self.due_of.insert(node, at),
            None => self.due_of.remove(&node),
        };
        if planned != next {
            self.due.extend(next.map(|at| (at, node)));
            if let Some(at) = planned {
                self.due.remove(&(at, node));
            }
        }
    }

    /// When [`Self::timeout`] has something to do, uptime in milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next event, in order.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<(NodeId, PathEvent)> {
        self.events.pop_front()
    }

    /// Remembers where a peer saw us. Gives whether what we announce changes.
    pub fn saw_us(&mut self, node: NodeId, address: SocketAddr, own: &[IpAddr]) -> bool {
        let known = self.observed.get(&node) == Some(&address);
        if known || own.contains(&address.ip()) || is_local(&address) {
            return false;
        }
        let before = self.observed();
        if let Some(other) = self.observed.insert(node, address) {
            self.take_vote(&other);
        }
        *self.votes.entry(address).or_default() += 1;
        self.observed() != before
    }

    fn take_vote(&mut self, address: &SocketAddr) {
        let left = self.votes.get_mut(address).map(|votes| {
            *votes -= 1;
            *votes
        });
        if left == Some(0) {
            self.votes.remove(address);
        }
    }

    /// Forgets what peers saw: our own addresses changed.
    pub fn forget_observed(&mut self) {
        self.observed.clear();
        self.votes.clear();
    }

    /// The addresses that peers saw us at: those that most of them saw, ascending.
    #[must_use]
    pub fn observed(&self) -> Vec<SocketAddr> {
        let votes = self.votes.iter();
        let mut addresses: Vec<_> = votes.map(|(address, votes)| (*address, *votes)).collect();
        addresses.sort_by_key(|(address, votes)| (std::cmp::Reverse(*votes), *address));
        addresses.truncate(OBSERVED_MAX);
        let mut addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        addresses.sort_unstable();
        addresses
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
    fn what_is_announced_is_what_most_peers_see_now() {
        let at = |port: u16| SocketAddr::from(([5, 6, 7, 8], port));
        let mut paths = Paths::default();
        for (number, port) in [(1, 1000), (2, 2000), (3, 3000), (4, 4000), (5, 4000)] {
            paths.saw_us(node(number), at(port), &[]);
        }
        // Three are announced: of those that one peer saw, the smallest.
        assert_eq!(paths.observed(), [at(1000), at(2000), at(4000)]);
        // The same again is no news; another address is.
        assert!(!paths.saw_us(node(1), at(1000), &[]));
        assert!(paths.saw_us(node(1), at(3000), &[]));
        assert_eq!(paths.observed(), [at(2000), at(3000), at(4000)]);
        paths.remove(&node(2));
        assert_eq!(paths.observed(), [at(3000), at(4000)]);
        paths.forget_observed();
        assert!(paths.observed().is_empty());
    }
}
