//! What this node does for others within bounds, and what it tells a person when somebody knows none
//! (`docs/protocol.md` §12.1).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::Node;
use super::net::Net;
use crate::id::{NodeId, TransportKey};
use crate::io::{Notice, Warning};
use crate::limits::SERVED_BYTES_PER_MINUTE;
use crate::name::NodeName;
use crate::op::Author;
use crate::time::Moment;

const MINUTE_MS: u64 = 60_000;

/// What each device may still be served, in bytes, and as of when.
#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<NodeId, (u64, u64)>);

impl Served {
    /// Whether a device is served so many bytes more. At first it may have everything twice; then so much a minute, up
    /// to what the keys of everything take.
    fn serves(&mut self, device: NodeId, bytes: u64, everything: u64, at_ms: u64) -> bool {
        let first = SERVED_BYTES_PER_MINUTE.max(everything.saturating_mul(2));
        let (room, as_of) = self.0.entry(device).or_insert((first, at_ms));
        let back = at_ms
            .saturating_sub(*as_of)
            .saturating_mul(SERVED_BYTES_PER_MINUTE)
            / MINUTE_MS;
        if back > 0 {
            let full = SERVED_BYTES_PER_MINUTE.max(everything / 4).max(*room);
            *room = room.saturating_add(back).min(full);
            *as_of = at_ms;
        }
        let serves = *room >= bytes;
        if serves {
            *room -= bytes;
        }
        serves
    }
}

impl Node {
    /// Whether a peer is served an answer of so many bytes.
    pub(super) fn serves_so_much(
        &mut self,
        peer: &TransportKey,
        bytes: usize,
        now: Moment,
    ) -> bool {
        let device = self.links.peers.get(peer).and_then(|peer| peer.device);
        let (Some(device), Some(net)) = (device, &self.net) else {
            return false;
        };
        let everything = net.ledger.bytes();
        let at_ms = now.uptime_ms();
        self.served.serves(device, bytes as u64, everything, at_ms)
    }

    /// Tells of authors that say more than any honest one does.
    pub(super) fn tell_floods(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let floods = net.ledger.quota.take_floods(now.uptime_ms());
        for (author, ops) in floods {
            let name = self.net.as_ref().and_then(|net| net.flooder(&author));
            self.notice(Notice::Flood(name, ops));
        }
    }
}

impl Net {
    /// The warnings of the same.
    pub(super) fn floods(&self, now: Moment) -> impl Iterator<Item = Warning> {
        let floods = self.ledger.quota.floods(now.uptime_ms());
        floods.map(|(author, ops)| Warning::Flood {
            node: self.flooder(&author),
            ops,
        })
    }

    fn flooder(&self, author: &Author) -> Option<NodeName> {
        match author {
            Author::Root => None,
            Author::Device(device) => self.name_of(device),
        }
    }
}
