//! Reconciliation and gossip: how copies become equal (`docs/protocol.md` §7.3, §7.4).

use rand_core::Rng;

use super::net::Phase;
use super::{Node, Pending};
use crate::id::{Digest, NodeId, TransportKey};
use crate::io::{Notice, Write};
use crate::ledger::Change;
use crate::limits::GOSSIP_BYTES_MAX;
use crate::link::{CallError, GossipId, LinkOutput, Service};
use crate::pull::{Asked, Pull, Step};
use crate::quota::Arrival;
use crate::time::Moment;
use crate::wire::{Items, SyncAnswer, SyncRequest};

/// Between two rounds with random members.
const SYNC_EVERY_MS: u64 = 60_000;
/// The same after a round that brought something, plus a random part of the same length.
const SYNC_SOON_MS: u64 = 250;
/// Random members that a round is held with.
const SYNC_PARTNERS: usize = 2;
/// Least time between two rounds with one peer that nobody asked for.
const QUIET_MS: u64 = 1000;
/// A connected peer that said nothing for so long is asked, to learn whether it is still there.
const SILENT_MS: u64 = 180_000;
/// Silent peers that are asked at one time.
const SILENT_ASKED_MAX: usize = 8;
/// How long a peer's sets that brought nothing, although they differ, are not looked into again.
const BARREN_MS: u64 = 20_000;
/// How long after somebody showed a record of this node's own that it never made, it makes a newer one.
const DEFEND_MS: u64 = 10_000;
/// How long a node that lost ops waits for them before it goes on with what settled members have.
const RECOVER_MS: u64 = 600_000;
/// Room that sealing and framing take in a gossip message.
const GOSSIP_FRAME_BYTES: usize = 128;

impl Node {
    /// Starts a round with a peer, unless one is going on.
    pub(super) fn start_pull(&mut self, peer: TransportKey) {
        let (Some(net), Some(entry)) = (&mut self.net, self.links.peers.get_mut(&peer)) else {
            return;
        };
        // A proven device that is unknown here may be one that only its own copy knows of.
        if entry.pull.is_some() || entry.device.is_none() || entry.shunned_ms.is_some() {
            return;
        }
        let asked = if entry.trusted {
            Asked::Member
        } else {
            Asked::Stranger
        };
        let (pull, request) = Pull::start(&mut net.ledger, asked);
        entry.pull = Some(pull);
        self.ask(
            peer,
            Service::Sync,
            request.to_bytes(),
            Pending::Pull { peer },
        );
    }

    /// Starts a round that a hint suggests, at once or as soon as the last is some time ago. Two who cannot agree do
    /// not race for ever: sets that brought nothing suggest nothing.
    fn suggest_pull(&mut self, peer: &TransportKey, theirs: Option<[Digest; 3]>, now: Moment) {
        let at = now.uptime_ms();
        let Some(entry) = self.links.peers.get_mut(peer) else {
            return;
        };
        let barren = entry.barren.filter(|(_, until)| *until > at);
        if barren.is_some_and(|(roots, _)| Some(roots) == theirs) {
            return;
        }
        if theirs.is_some_and(|theirs| self.can_wait(&theirs, now)) {
            return self.owe_round(peer, now);
        }
        let Some(entry) = self.links.peers.get_mut(peer) else {
            return;
        };
        if entry.pull.is_none() && entry.quiet_ms <= at {
            self.start_pull(*peer);
        } else {
            let due = entry.quiet_ms.max(at + QUIET_MS);
            entry.suggested_ms = Some(entry.suggested_ms.map_or(due, |planned| planned.min(due)));
        }
    }

    /// Starts the rounds that were suggested too soon.
    fn start_suggested(&mut self, at: u64) {
        let mut due = Vec::new();
        for (key, peer) in self.links.peers.iter_mut() {
            if peer.suggested_ms.take_if(|due| *due <= at).is_none() {
                continue;
            }
            if peer.pull.is_some() {
                peer.suggested_ms = Some(at + QUIET_MS);
            } else if peer.trusted {
                due.push(*key);
            }
        }
        for peer in due {
            self.start_pull(peer);
        }
    }

    pub(super) fn on_pulled(
        &mut self,
        peer: &TransportKey,
        result: Result<Vec<u8>, CallError>,
        now: Moment,
    ) {
        let Some(mut pull) = self
            .links
            .peers
            .get_mut(peer)
            .and_then(|entry| entry.pull.take())
        else {
            return;
        };
        let arrival = self.arrival(peer, now);
        pull.learn_turn(self.links.turn_of_records(now));
        let Some(net) = &mut self.net else { return };
        let bytes = result.as_ref().map_or(0, Vec::len) as u64;
        let answer = result.ok().and_then(|bytes| SyncAnswer::parse(&bytes).ok());
        let Some(answer) = answer else {
            self.quieten(peer, QUIET_MS, now);
            self.retry_catch_up(now);
            return;
        };
        let (change, step) = pull.answer(answer, &mut net.ledger, &net.epochs, &arrival);
        let brought = !change.is_empty();
        if brought {
            self.catch_up_goes_on(now);
            self.owe_rounds(peer, now);
        }
        let everything = self.net.as_ref().map_or(0, |net| net.ledger.bytes());
        if self.links.wastes(peer, bytes, brought, everything, now) {
            self.absorb(change, false, now);
            self.notice(Notice::Refused("a peer whose answers bring nothing"));
            return;
        }
        self.absorb(change, false, now);
        match step {
            Step::Ask(request) => {
                if let Some(entry) = self.links.peers.get_mut(peer) {
                    entry.pull = Some(pull);
                }
                self.ask(
                    *peer,
                    Service::Sync,
                    request.to_bytes(),
                    Pending::Pull { peer: *peer },
                );
            }
            Step::Done => {
                let until = now.uptime_ms() + BARREN_MS;
                if let Some(entry) = self.links.peers.get_mut(peer) {
                    entry.barren = pull.barren().map(|roots| (roots, until));
                }
                self.quieten(peer, QUIET_MS, now);
                self.on_round_done(peer, pull.theirs(), now);
                if pull.gave_way() {
                    self.owe_round(peer, now);
                }
            }
            Step::Nonsense => {
                self.notice(Notice::Refused(
                    "an answer of the reconciler that fits no question",
                ));
                self.link(LinkOutput::HangUp { peer: *peer });
            }
        }
    }

    /// By whom and when something comes.
    pub(super) fn arrival(&self, peer: &TransportKey, now: Moment) -> Arrival {
        let phase = self.net.as_ref().map(|net| &net.phase);
        Arrival {
            giver: self.links.peers.get(peer).and_then(|peer| peer.device),
            at_ms: now.uptime_ms(),
            first: matches!(
                phase,
                Some(Phase::CatchingUp { .. } | Phase::Recovering { .. })
            ),
        }
    }

    /// What came by a round was missed by gossip, so everybody linked may have missed it too: each is owed a round.
    /// With a few at random somebody would be left out, and wait for the minute's round.
    fn owe_rounds(&mut self, giver: &TransportKey, now: Moment) {
        for (key, peer) in self.links.peers.iter_mut() {
            peer.owed |= peer.trusted && key != giver;
        }
        self.plan_round(now);
    }

    /// Rounds with some of those that are owed one follow soon.
    pub(super) fn plan_round(&mut self, now: Moment) {
        let jitter = u64::from(self.rng.next_u32()) % SYNC_SOON_MS;
        if let Some(net) = &mut self.net {
            let soon = now.uptime_ms() + SYNC_SOON_MS + jitter;
            net.timers.sync_ms = net.timers.sync_ms.min(soon);
        }
    }

    fn quieten(&mut self, peer: &TransportKey, ms: u64, now: Moment) {
        if let Some(entry) = self.links.peers.get_mut(peer) {
            entry.quiet_ms = now.uptime_ms() + ms;
            entry.heard_ms = now.uptime_ms();
        }
    }

    /// A round came to its end: nothing that this peer could give is missing.
    fn on_round_done(&mut self, peer: &TransportKey, theirs: Option<[Digest; 3]>, now: Moment) {
        let ours = self.net.as_mut().map(|net| net.ledger.summary().roots);
        if let (Some(entry), Some(ours)) = (self.links.peers.get_mut(peer), ours) {
            // It may lack what is here: only equal sets say that it has heard everything.
            entry.in_sync = theirs.is_some_and(|theirs| theirs[..2] == ours[..2]);
            entry.owed = false;
        }
        self.errands.news = true;
        let device = self.links.peers.get(peer).and_then(|entry| entry.device);
        let Some(net) = &mut self.net else { return };
        match net.phase {
            Phase::Open => {
                net.rounds += 1;
                if !net.synced {
                    net.synced = true;
                    net.timers.settle_ms = Some(now.uptime_ms());
                    self.follow_epoch(now);
                }
                self.plan_chores(now);
            }
            Phase::CatchingUp { .. } => self.joiner_caught_up(now),
            Phase::Recovering { .. } => self.recovered_with(device, now),
        }
    }

    /// A round of a node that lost ops: over when a settled member gave them back, or, as some were perhaps known to
    /// nobody else, when settled members have had nothing more for long.
    fn recovered_with(&mut self, device: Option<NodeId>, now: Moment) {
        self.refresh(now);
        let Some(net) = &mut self.net else { return };
        let waited = now.uptime_ms().saturating_sub(net.opened_ms) >= RECOVER_MS;
        let settled = device.is_some_and(|device| net.view.settled_witness(&device));
        let named = net.view.members().contains_key(&self.id);
        if settled && named && (net.goal_is_met() || waited) {
            net.phase = Phase::Open;
            net.dirty = true;
            net.synced = true;
            self.notice(Notice::Recovered);
            self.open(now);
        }
    }

    pub(super) fn on_sync_request(
        &mut self,
        peer: &TransportKey,
        bytes: &[u8],
        now: Moment,
    ) -> Option<Vec<u8>> {
        if !self.links.peers.get(peer)?.trusted {
            return None;
        }
        let request = SyncRequest::parse(bytes).ok()?;
        if let SyncRequest::Epoch(commitment) = &request {
            return Some(self.serve_key(peer, commitment)?.to_bytes());
        }
        let net = self.net.as_mut()?;
        let mut differs = None;
        if let SyncRequest::Summary(theirs) = &request {
            let ours = net.ledger.summary();
            differs = (ours.roots != theirs.roots).then_some(theirs.roots);
            if let Some(entry) = self.links.peers.get_mut(peer) {
                entry.in_sync = ours.roots[..2] == theirs.roots[..2];
                entry.owed &= ours.roots != theirs.roots;
            }
            self.errands.news = true;
        }
        let net = self.net.as_mut()?;
        let answer = net.ledger.answer(&request, &net.epochs)?.to_bytes();
        if !self.serves_so_much(peer, answer.len(), now) {
            return None;
        }
        let arrival = self.arrival(peer, now);
        let net = self.net.as_mut()?;
        if let SyncRequest::Push(items) = &request {
            let change = net.ledger.take(items, &net.epochs, &arrival);
            let held = change.held || change.turned_away > 0;
            self.absorb(change, true, now);
            if held {
                // Not heard yet: what it rests on is fetched first.
                self.start_pull(*peer);
                return None;
            }
        }
        if differs.is_some() {
            self.suggest_pull(peer, differs, now);
        }
        Some(answer)
    }

    pub(super) fn on_gossip(
        &mut self,
        from: TransportKey,
        message: GossipId,
        bytes: &[u8],
        now: Moment,
    ) {
        let trusted = self.links.peers.get(&from).is_some_and(|peer| peer.trusted);
        let Some(net) = self.net.as_mut().filter(|_| trusted) else {
            self.link(LinkOutput::Verdict {
                message,
                good: false,
            });
            return;
        };
        let opened = net.epochs.open_gossip(bytes).ok();
        let items = opened.and_then(|plain| Items::parse(&plain).ok());
        self.link(LinkOutput::Verdict {
            message,
            good: items.is_some(),
        });
        let arrival = self.arrival(&from, now);
        let (Some(items), Some(net)) = (items, &mut self.net) else {
            return;
        };
        let change = net.ledger.take(&items, &net.epochs, &arrival);
        self.links.heard(&from, now);
        let (held, lost) = (change.held, change.refused + change.sealed > 0);
        self.absorb(change, false, now);
        if held || lost {
            self.suggest_pull(&from, None, now);
        }
    }

    /// Keeps what is new and marks what follows from it.
    pub(super) fn absorb(&mut self, change: Change, urgent: bool, now: Moment) {
        if change.is_empty() {
            return;
        }
        self.tell_floods(now);
        let Some(net) = &mut self.net else { return };
        net.dirty |= change.authority || change.left;
        self.errands.news |= !change.devices.is_empty();
        let me = self.id;
        for device in &change.devices {
            if net.keys_stand(device, &me) {
                net.learn_where(device, now);
            } else {
                net.moved = true;
            }
        }
        if change.devices.contains(&self.id) {
            // Not at once: a clone with the same keys would answer at the speed of the network.
            net.timers
                .defend_ms
                .get_or_insert(now.uptime_ms() + DEFEND_MS);
        }
        for device in &change.devices {
            net.paths.with(device, |way| way.nudge(now));
        }
        self.note_keys(&change.devices, now);
        self.relays_heard(&change.devices, now);
        let heard = self.note_heard(&change.writes, now);
        if self
            .net
            .as_ref()
            .is_some_and(|net| !matches!(net.phase, Phase::CatchingUp { .. }))
        {
            self.persist([change.writes, heard].concat(), urgent);
        }
        if change.authority {
            for peer in self.links.peers.values_mut() {
                peer.in_sync = false;
            }
        }
    }

    /// Takes one record that came outside of a round.
    pub(super) fn take_record(&mut self, bytes: &[u8]) {
        let Some(net) = &mut self.net else { return };
        let mut change = Change::default();
        net.ledger.insert_record(bytes, &mut change);
        if !change.is_empty() {
            let me = self.id;
            net.moved |= change.devices.iter().any(|device| *device != me);
            net.moved |= !net.keys_stand(&me, &me);
            net.dirty |= change.left;
            if !matches!(net.phase, Phase::CatchingUp { .. }) {
                self.persist(change.writes, false);
            }
        }
    }

    /// Tells everybody of new items of this node's own making: by gossip, in as many messages as they need.
    pub(super) fn spread(&mut self, items: &Items) {
        let Some(net) = &self.net else { return };
        let mut messages = Vec::new();
        let mut batch = Items::default();
        let mut room = GOSSIP_BYTES_MAX - GOSSIP_FRAME_BYTES;
        let tagged = (items.ops.iter().map(|op| (0, op)))
            .chain(items.admits.iter().map(|admit| (1, admit)))
            .chain(items.records.iter().map(|record| (2, record)));
        for (list, bytes) in tagged {
            if room < bytes.len() + 8 {
                messages.push(std::mem::take(&mut batch));
                room = GOSSIP_BYTES_MAX - GOSSIP_FRAME_BYTES;
            }
            // An item too long for any message travels by rounds alone.
            if room < bytes.len() + 8 {
                continue;
            }
            room -= bytes.len() + 8;
            match list {
                0 => batch.ops.push(bytes.clone()),
                1 => batch.admits.push(bytes.clone()),
                _ => batch.records.push(bytes.clone()),
            }
        }
        messages.push(batch);
        let sealed: Vec<_> = messages
            .iter()
            .filter(|items| !items.is_empty())
            .filter_map(|items| net.epochs.seal_gossip(&items.to_bytes()))
            .collect();
        for message in sealed {
            self.link(LinkOutput::Publish(message));
        }
    }

    pub(super) fn exchange_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        if self.links.is_due(at) {
            self.start_suggested(at);
        }
        let Some(net) = self.net.as_mut().filter(|net| net.timers.sync_ms <= at) else {
            return;
        };
        let jitter = u64::from(self.rng.next_u32()) % (SYNC_EVERY_MS / 4);
        net.timers.sync_ms = at + SYNC_EVERY_MS - SYNC_EVERY_MS / 8 + jitter;
        self.hold_rounds(now);
        let silent = self
            .links
            .trusted()
            .filter(|(_, peer)| peer.heard_ms + SILENT_MS <= at);
        let silent: Vec<_> = silent.map(|(key, _)| *key).take(SILENT_ASKED_MAX).collect();
        for peer in silent {
            self.start_pull(peer);
        }
        let alone = self
            .net
            .as_ref()
            .is_some_and(|net| net.view.members().len() <= 1);
        if let (true, Some(net)) = (alone, &mut self.net) {
            net.synced = true;
        }
    }

    /// Rounds with some that are owed one, for as long as there are any; else with anybody.
    fn hold_rounds(&mut self, now: Moment) {
        let trusted = || self.links.trusted();
        let owed = trusted().filter(|(_, peer)| peer.owed && peer.pull.is_none());
        let mut peers: Vec<_> = owed.map(|(key, _)| *key).collect();
        let more = peers.len() > SYNC_PARTNERS;
        if peers.is_empty() {
            peers = trusted().map(|(key, _)| *key).collect();
        }
        for _ in 0..SYNC_PARTNERS.min(peers.len()) {
            let chosen = self.rng.next_u32() as usize % peers.len();
            let peer = peers.swap_remove(chosen);
            self.start_pull(peer);
        }
        if more {
            self.plan_round(now);
        }
    }

    /// Writes the heads file when the authority changed.
    pub(super) fn note_heads(&mut self) {
        let Some(net) = self.net.as_mut().filter(|net| net.is_open()) else {
            return;
        };
        let heads = net.authority().heads();
        if heads != net.heads_written {
            net.heads_written.clone_from(&heads);
            self.persist(vec![Write::Heads(heads)], true);
        }
    }
}
