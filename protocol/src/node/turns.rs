//! Records come from one peer at a time: in a storm all peers have the same ones, and each would send them all
//! (`docs/protocol.md` §7.3). Ops and admits wait for nobody.

#[cfg(test)]
mod tests;

use super::Node;
use super::links::Links;
use crate::id::{Digest, TransportKey};
use crate::pull::{Pull, Turn};
use crate::time::Moment;

/// How long a round keeps the turn: a peer that answers slowly does not hold up the others.
const TURN_MS: u64 = 2000;

impl Links {
    /// Whether a round may go on to the records, or another one compares them now.
    pub(super) fn turn_of_records(&self, now: Moment) -> Turn {
        let since = |pull: &Pull| pull.records_since_ms();
        let mut running = self.peers.values().filter_map(|peer| peer.pull.as_ref());
        if running.any(|pull| since(pull).is_some_and(|since| since + TURN_MS > now.uptime_ms())) {
            Turn::Taken
        } else {
            Turn::Free
        }
    }
}

impl Node {
    /// A peer is owed a round: it comes soon.
    pub(super) fn owe_round(&mut self, peer: &TransportKey, now: Moment) {
        if let Some(entry) = self.links.peers.get_mut(peer) {
            entry.owed = true;
        }
        self.plan_round(now);
    }

    /// Whether a peer with these sets differs in its records alone while another round compares records: then a round
    /// with it can wait.
    pub(super) fn can_wait(&mut self, theirs: &[Digest; 3], now: Moment) -> bool {
        let ours = self.net.as_mut().map(|net| net.ledger.summary().roots);
        ours.is_some_and(|ours| ours[..2] == theirs[..2])
            && self.links.turn_of_records(now) == Turn::Taken
    }
}
