//! A new tunnel key while packets flow (`docs/protocol.md` §5.2): kept, told, and only then taken.
//!
//! The engine goes on under the key before until the peers have heard of the new one, so that the word also reaches
//! those whose only way is the tunnel itself.

#[cfg(test)]
mod tests;

use super::Node;
use super::errands::Errand;
use crate::identity::Secret;
use crate::io::{CommandId, Output, Refusal, Reply, Write};
use crate::record::{Candidate, CandidateKind, RecordKind};
use crate::time::Moment;
use crate::wire::Items;

/// How long a new tunnel key waits for the peers that are told of it, milliseconds: their packets are lost meanwhile.
const TOLD_MS: u64 = 750;

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
            ways.extend(way.map(|(path, ..)| (*node, path.remote)));
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
