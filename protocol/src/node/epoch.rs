//! The epoch in force: its key is fetched from whoever is live, served to whoever is live, and changed when somebody
//! who is out may hold it (`docs/protocol.md` §7.6).

use rand_core::Rng;

use super::net::{Net, Phase};
use super::{Node, Pending};
use crate::body::Caps;
use crate::id::{Digest, TransportKey};
use crate::io::{Notice, Write};
use crate::link::{CallError, LinkOutput, Service};
use crate::seal::EpochKey;
use crate::time::Moment;
use crate::wire::{EpochSecret, SyncAnswer, SyncRequest};

/// Between two questions for a key.
const ASK_EVERY_MS: u64 = 2000;
/// Members that are asked for it at a time.
const ASKED_MAX: usize = 3;
/// How long nobody has the key of an epoch before an admin starts another.
pub(super) const NOBODY_MS: u64 = 600_000;
/// The least an admin waits before it starts an epoch, so that one of several does.
pub(super) const REKEY_WAIT_MS: u64 = 1000;
/// The random part of that.
pub(super) const REKEY_SPREAD_MS: u64 = 29_000;

impl Node {
    /// Seals under the epoch in force, or sees to it that its key comes.
    pub(super) fn follow_epoch(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let Some(net) = &mut self.net else { return };
        let epoch = net.view.epoch();
        let switched = net.is_open() && net.epochs.follow(&epoch.commitment, at);
        if net.out || net.epochs.holds(&epoch.commitment) {
            net.keyless_ms = None;
            net.timers.epoch_ms = None;
        } else {
            net.keyless_ms.get_or_insert(at);
            net.timers.epoch_ms.get_or_insert(at);
        }
        if switched {
            if let Some(topic) = net.epochs.topic() {
                self.link(LinkOutput::Topic(topic));
            }
            self.keep_epochs();
            self.notice(Notice::Epoch(epoch.number));
            self.plan_seen(now);
        }
        self.plan_rekey(now);
    }

    /// The keys come to the disk before anybody counts on them.
    pub(super) fn keep_epochs(&mut self) {
        let Some(net) = &self.net else { return };
        self.custody.epochs = net.epochs.danger_keys();
        if matches!(net.phase, Phase::Open | Phase::Recovering { .. }) {
            self.persist(vec![Write::Secrets(self.custody.to_bytes())], true);
        }
    }

    fn ask_for_key(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let commitment = net.view.epoch().commitment;
        net.timers.epoch_ms = Some(now.uptime_ms() + ASK_EVERY_MS);
        let mut peers: Vec<_> = self.links.trusted().map(|(key, _)| *key).collect();
        for _ in 0..ASKED_MAX.min(peers.len()) {
            let chosen = self.rng.next_u32() as usize % peers.len();
            let peer = peers.swap_remove(chosen);
            let bytes = SyncRequest::Epoch(commitment).to_bytes();
            self.ask(
                peer,
                Service::Sync,
                bytes,
                Pending::Epoch { peer, commitment },
            );
        }
    }

    pub(super) fn on_epoch_answer(
        &mut self,
        peer: TransportKey,
        commitment: Digest,
        result: Result<Vec<u8>, CallError>,
        now: Moment,
    ) {
        let answer = result.ok().and_then(|bytes| SyncAnswer::parse(&bytes).ok());
        let Some(SyncAnswer::Epoch(Some(secret))) = answer else {
            return;
        };
        let key = EpochKey::from_bytes(&secret.0);
        let Some(net) = &mut self.net else { return };
        let epoch = net.view.epoch();
        // Another epoch may be in force by now: then this key is of no use.
        let wanted = epoch.commitment == commitment && !net.epochs.holds(&commitment);
        if !wanted {
            return;
        }
        if key.commitment() != commitment {
            self.notice(Notice::Refused(
                "an epoch key that is not what was committed to",
            ));
            return;
        }
        net.epochs.insert(epoch.number, key);
        self.keep_epochs();
        self.follow_epoch(now);
        // What could not be read is asked for again.
        for entry in self.links.peers.values_mut() {
            entry.barren = None;
        }
        self.start_pull(peer);
        self.plan_round(now);
    }

    /// The key with a commitment, for a live member.
    pub(super) fn serve_key(&self, peer: &TransportKey, commitment: &Digest) -> Option<SyncAnswer> {
        let device = self.links.peers.get(peer)?.device?;
        let net = self.net.as_ref().filter(|net| net.is_open() && !net.out)?;
        net.view.live(&device)?;
        let key = net.epochs.key(commitment);
        let secret = key.map(|key| EpochSecret(*key.danger_bytes()));
        Some(SyncAnswer::Epoch(secret))
    }

    /// An admin plans to start another epoch when somebody who is out may hold the key, or nobody has it.
    fn plan_rekey(&mut self, now: Moment) {
        let me = self.id;
        let at = now.uptime_ms();
        let Some(net) = &mut self.net else { return };
        let due = match (net.view.epoch().dirty, net.keyless_ms) {
            (true, _) => Some(at),
            (false, Some(since)) => Some(since + NOBODY_MS),
            (false, None) => None,
        };
        let Some(due) = due.filter(|_| net.may_administer(&me)) else {
            net.timers.rekey_ms = None;
            return;
        };
        if net.timers.rekey_ms.is_none() {
            let spread = u64::from(self.rng.next_u32()) % REKEY_SPREAD_MS;
            net.timers.rekey_ms = Some(due + REKEY_WAIT_MS + spread);
        }
    }

    fn rekey(&mut self, now: Moment) {
        let me = self.id;
        let Some(net) = &self.net else { return };
        let nobody = |since: u64| since + NOBODY_MS <= now.uptime_ms();
        let needed = net.view.epoch().dirty || net.keyless_ms.is_some_and(nobody);
        if !needed || !net.may_administer(&me) {
            return;
        }
        // A refusal is this node's own state; the next change tries again.
        let _started = self.start_epoch(now);
    }

    pub(super) fn epochs_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let Some(net) = &mut self.net else { return };
        let due = |timer: &mut Option<u64>| timer.take_if(|due| *due <= at).is_some();
        let (ask, rekey) = (due(&mut net.timers.epoch_ms), due(&mut net.timers.rekey_ms));
        if net.epochs.expire(at) {
            self.keep_epochs();
        }
        if ask {
            self.ask_for_key(now);
        }
        if rekey {
            self.rekey(now);
        }
    }
}

impl Net {
    /// Whether a device acts for the network by itself, as far as this node knows: a live admin for members, in sync.
    pub(super) fn may_administer(&self, device: &crate::id::NodeId) -> bool {
        let may = |member: &crate::view::ViewMember| {
            member.level.is_admin() && member.caps.contains(Caps::MEMBERS)
        };
        self.is_open()
            && self.synced
            && self.view.outdated().is_none()
            && self.view.live(device).is_some_and(may)
    }
}
