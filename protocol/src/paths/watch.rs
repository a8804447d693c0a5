//! Which ways are awake: all that somebody wants, and of the others as many as cost little.

use std::collections::{BTreeMap, BTreeSet};

use super::Paths;
use crate::id::NodeId;
use crate::path::PeerPath;
use crate::time::Moment;

/// Ways that are looked after although nobody wants them.
const KEPT_MAX: usize = 32;
/// Between two choices of them.
const CHOOSE_MS: u64 = 10_000;

/// The place of a way among those that nobody wants; the smallest are kept.
type Place = (u8, bool, bool, [u8; 8]);

impl Paths {
    /// Whether it is time to choose who is kept awake.
    #[must_use]
    pub fn is_choice_due(&self, now: Moment) -> bool {
        self.choose_ms.is_some_and(|due| due <= now.uptime_ms())
    }

    /// Chooses who is kept awake although nobody wants them: first those that did not fail, of them those that are
    /// favoured (linked, or this node's relays), then those that answer, then at random, and always the same.
    pub fn choose(&mut self, favoured: &BTreeSet<NodeId>, now: Moment) {
        self.choose_ms = (self.peers.len() > KEPT_MAX).then(|| now.uptime_ms() + CHOOSE_MS);
        let idle = |peer: &PeerPath| !peer.is_wanted(now) && !peer.is_asked();
        let place = |node: &NodeId, peer: &PeerPath| -> Place {
            let favoured = favoured.contains(node);
            (peer.failures(), !favoured, !peer.answers(), peer.tag_in())
        };
        let peers = self.peers.iter().filter(|(_, peer)| idle(peer));
        let mut places: Vec<_> = peers.map(|(node, p)| (place(node, p), *node)).collect();
        let kept = places.len().min(KEPT_MAX);
        if kept > 0 && kept < places.len() {
            places.select_nth_unstable(kept - 1);
        }
        for (number, (_, node)) in places.into_iter().enumerate() {
            let awake = self.peers.get(&node).is_some_and(PeerPath::is_awake);
            match (number < kept, awake) {
                (true, false) => self.with(&node, |peer| peer.wake(now)),
                (false, true) => self.with(&node, PeerPath::rest),
                (true, true) | (false, false) => {}
            }
        }
    }

    /// A new way: awake as long as there are few.
    pub(super) fn place(&mut self, peer: &mut PeerPath, now: Moment) {
        if self.peers.len() < KEPT_MAX {
            peer.wake(now);
        } else if self.choose_ms.is_none() {
            self.choose_ms = Some(now.uptime_ms());
        }
    }

    /// The peers that somebody wants, and whether a path without relay carries their packets.
    pub fn wanted(&self, now: Moment) -> impl Iterator<Item = (&NodeId, bool)> {
        let wanted = self
            .peers
            .iter()
            .filter(move |(_, peer)| peer.is_wanted(now));
        wanted.map(|(node, peer)| (node, peer.is_direct()))
    }
}

/// When each has something to do, in order.
#[derive(Debug, Default)]
pub(super) struct Due {
    order: BTreeSet<(u64, NodeId)>,
    of: BTreeMap<NodeId, u64>,
}

impl Due {
    /// Keeps in mind when somebody has something to do next.
    pub(super) fn plan(&mut self, node: NodeId, next: Option<u64>) {
        let planned = match next {
            Some(at) => self.of.insert(node, at),
            None => self.of.remove(&node),
        };
        if planned != next {
            self.order.extend(next.map(|at| (at, node)));
            if let Some(at) = planned {
                self.order.remove(&(at, node));
            }
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn until(&self, at: u64) -> Vec<NodeId> {
        let due = self.order.iter().take_while(|(due, _)| *due <= at);
        due.map(|(_, node)| *node).collect()
    }
}
