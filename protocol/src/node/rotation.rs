//! A new tunnel key while packets flow (`docs/protocol.md` §5.2): kept, told, and only then taken.
//!
//! It is told as soon as as many members are linked as answer probes: in a moment when nobody is, nobody would hear of
//! it. The engine goes on under the key before until the peers have heard of the new one, so that the word also reaches
//! those whose only way is the tunnel itself.

#[cfg(test)]
mod tests;

use super::Node;
use super::errands::Errand;
use crate::identity::Secret;
use crate::io::{CommandId, Output, Refusal, Reply, Write};
use crate::path::PeerPath;
use crate::record::{Candidate, CandidateKind, RecordKind};
use crate::time::Moment;
use crate::wire::Items;

/// How long a new tunnel key waits for the peers that are told of it, milliseconds: their packets are lost meanwhile.
const TOLD_MS: u64 = 750;

/// How long a new key waits for links to those who answer probes, milliseconds: a call takes so long at most.
const LINKED_MS: u64 = 10_000;

/// Linked members that are enough.
const LINKED_MAX: usize = 8;

/// A person's wish for new keys.
#[derive(Debug)]
pub(super) struct Wish {
    command: CommandId,
    transport: bool,
    until_ms: u64,
}

impl Wish {
    pub(super) const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    pub(super) const fn command(&self) -> CommandId {
        self.command
    }
}

impl Node {
    /// Makes new keys for this node: the tunnel key is in force as soon as the connected members know it, the
    /// transport key from the next start on.
    pub(super) fn rotate(
        &mut self,
        command: CommandId,
        transport: bool,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.member_net()?;
        self.errands.wishes.push(Wish {
            command,
            transport,
            until_ms: now.uptime_ms() + LINKED_MS,
        });
        self.rotation_on_time(now);
        Ok(())
    }

    /// Begins what was wished for when everybody who answers can be told, or when that takes too long.
    pub(super) fn rotation_on_time(&mut self, now: Moment) {
        if self.errands.wishes.is_empty() {
            return;
        }
        let linked = self.reaches_who_answers();
        let wishes = std::mem::take(&mut self.errands.wishes).into_iter();
        let due = |wish: &Wish| linked || wish.until_ms <= now.uptime_ms();
        let (due, waiting): (Vec<_>, Vec<_>) = wishes.partition(due);
        self.errands.wishes = waiting;
        for wish in due {
            let command = wish.command;
            if let Err(refusal) = self.begin_rotation(wish, now) {
                self.reply(command, Reply::Refused(refusal));
            }
        }
    }

    /// Whether as many members are linked as answer probes; of very many, enough for gossip to reach the rest.
    fn reaches_who_answers(&self) -> bool {
        let Some(net) = &self.net else { return true };
        let peer = |node| net.paths.peer(node);
        let answering = net
            .engine
            .keys()
            .filter(|node| peer(node).is_some_and(PeerPath::answers));
        self.links.trusted().count() >= answering.count().min(LINKED_MAX)
    }

    fn begin_rotation(&mut self, wish: Wish, now: Moment) -> Result<(), Refusal> {
        let Wish {
            command, transport, ..
        } = wish;
        self.member_net()?;
        let me = self.id;
        let tunnel = Secret::generate(&mut self.rng);
        let transport = transport.then(|| Secret::generate(&mut self.rng));
        self.custody.rotate(transport.as_ref(), &tunnel);
        self.persist(vec![Write::Secrets(self.custody.to_bytes())], true);
        self.coming = Some(tunnel);
        self.publish_node_record(now);
        let net = self.member_net()?;
        let record = net.ledger.records.of(&me, RecordKind::NODE);
        let sealed = record.and_then(|record| net.epochs.seal_record(record.bytes()));
        let items = Items {
            records: sealed.into_iter().collect(),
            ..Items::default()
        };
        let restart = transport.is_some();
        self.push_to_all(Errand::Rotate { command, restart }, &items, TOLD_MS, now);
        Ok(())
    }

    pub(super) fn on_rotated(&mut self, command: CommandId, restart: bool) {
        let reply = match &self.disk_failure {
            // The next start knows nothing of the key; it says so, and peers go back.
            Some(reason) => Reply::Refused(Refusal::Disk(reason.clone())),
            None => Reply::Rotated { restart },
        };
        self.reply(command, reply);
    }

    /// Takes the key that the peers were told of, unless they are being told of a newer one.
    pub(super) fn take_coming_key(&mut self, now: Moment) {
        if self.errands.rotates() {
            return;
        }
        let Some(key) = self.coming.take() else {
            return;
        };
        // Who is to go goes now: from here on all that the engine has is set again.
        self.program(now);
        self.keys.tunnel = key;
        self.out.push_back(Output::TunnelKey);
        let Some(net) = &mut self.net else { return };
        let engine = std::mem::take(&mut net.engine);
        net.wireguard.clear();
        let mut ways = Vec::new();
        for node in engine.keys() {
            let way = net.paths.peer(node).and_then(|peer| peer.active());
            let at = way.and_then(|(path, ..)| path.remote());
            ways.extend(at.map(|at| (*node, at)));
            net.paths.remove(node);
        }
        engine.keys().for_each(|node| self.end_probes(node));
        self.program(now);
        let Some(net) = &mut self.net else { return };
        // Both ends look for each other anew, first where they were a moment ago.
        for (node, address) in ways {
            let kind = CandidateKind::Observed;
            net.paths.learn(&node, &[Candidate { kind, address }], now);
        }
    }
}
