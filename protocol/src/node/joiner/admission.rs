//! The second half of a join: claim, be let in, and learn everything before anything is opened.

use super::{CATCH_UP_MS, KNOCK_MS, clock_refusal};
use crate::body::Body;
use crate::epochs::Epochs;
use crate::id::TransportKey;
use crate::invite::{channel_hash, locator};
use crate::io::{JoinStep, Output, Reply, Write};
use crate::join::{Proven, claim, fingerprint, refusal_is_good};
use crate::ledger::Ledger;
use crate::link::{CallError, LinkOutput, Service};
use crate::name::NodeName;
use crate::node::net::{Net, Phase};
use crate::node::{Node, Pending};
use crate::seal::EpochKey;
use crate::time::Moment;
use crate::wire::{Admission, EPOCHS_SENT_MAX, JoinAnswer, JoinRequest};

/// Between two questions whether an admin approved.
const APPROVAL_MS: u64 = 5000;
/// Between two rounds with a witness while catching up.
const CATCH_UP_RETRY_MS: u64 = 200;

impl Node {
    /// A witness that led nowhere: forget what it gave.
    pub(in crate::node) fn drop_catch_up(&mut self) {
        if self
            .net
            .as_ref()
            .is_some_and(|net| matches!(net.phase, Phase::CatchingUp { .. }))
        {
            self.net = None;
            let mut distrusted = Vec::new();
            for (key, peer) in self.links.peers.iter_mut() {
                if peer.trusted {
                    distrusted.push(*key);
                }
                peer.pull = None;
                peer.trusted = false;
                peer.device = None;
            }
            for peer in distrusted {
                self.link(LinkOutput::Distrust { peer });
            }
        }
    }

    /// m3: the member proved to be of the code's network; claim.
    pub(in crate::node) fn redeem(&mut self, peer: TransportKey, proven: Proven, now: Moment) {
        if let Some(refusal) = clock_refusal(now.wall, proven.time) {
            self.note_refusal(&peer, refusal, false, now);
            return;
        }
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        let Some(attempt) = joiner.attempts.get_mut(&peer) else {
            return;
        };
        let step = JoinStep::Found {
            name: witness_name(&proven),
            remote: attempt.remote,
            lan: attempt.lan,
        };
        let claim = claim(&proven, &joiner.code, &self.keys, joiner.name.clone());
        attempt.proven = Some(proven);
        joiner.redeeming = Some((peer, now.uptime_ms() + CATCH_UP_MS));
        self.custody.code = locator(&joiner.code.rendezvous);
        // The keys come to the disk before anybody else counts on them.
        self.persist(vec![Write::Secrets(self.custody.to_bytes())], true);
        let first = self
            .joiner
            .as_ref()
            .is_some_and(|joiner| joiner.steps.is_empty());
        if first {
            self.join_step(step);
        }
        let request = JoinRequest::Redeem(Box::new(claim)).to_bytes();
        self.ask(peer, Service::Join, request, Pending::Redeem { peer });
    }

    pub(in crate::node) fn joiner_on_admission(
        &mut self,
        peer: TransportKey,
        result: Result<Vec<u8>, CallError>,
        now: Moment,
    ) {
        let own = TransportKey::new(self.keys.transport.public());
        let channel = channel_hash(&own, &peer);
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        let Some(attempt) = joiner.attempts.get_mut(&peer) else {
            return;
        };
        let (Some(proven), Some(knock)) = (attempt.proven.take(), attempt.knock.clone()) else {
            return;
        };
        match result.ok().and_then(|bytes| JoinAnswer::parse(&bytes).ok()) {
            Some(JoinAnswer::Admitted(admission)) => self.catch_up(peer, &proven, *admission, now),
            Some(JoinAnswer::Pending) => {
                // Of its own key, never of the member's word: it is what an admin compares.
                let fingerprint = fingerprint(&self.id);
                joiner.redeeming = None;
                attempt.next_ms = now.uptime_ms() + APPROVAL_MS;
                attempt.tries = 0;
                if joiner.waiting.is_none() {
                    joiner.waiting = Some(fingerprint.clone());
                    self.join_step(JoinStep::Waiting { fingerprint });
                }
            }
            Some(JoinAnswer::Refused { reason, time, mac })
                if refusal_is_good(&joiner.code, &channel, &knock, (&reason, time, &mac)) =>
            {
                joiner.redeeming = None;
                self.on_refusal(&peer, reason, time, now);
            }
            Some(_) | None => {
                joiner.redeeming = None;
                attempt.next_ms = now.uptime_ms() + KNOCK_MS[0];
            }
        }
    }

    /// m4: fetch everything that must be known, from this very member, before anything is opened.
    pub(in crate::node) fn catch_up(
        &mut self,
        peer: TransportKey,
        proven: &Proven,
        admission: Admission,
        now: Moment,
    ) {
        let mut goal = admission.heads;
        goal.push(proven.invite.id());
        let mut epochs = Epochs::default();
        // The ops that commit to these keys come next: until then they open, and nothing is sealed under them.
        for (number, key) in admission.epochs.iter().take(EPOCHS_SENT_MAX) {
            epochs.insert(*number, EpochKey::from_bytes(key));
        }
        let phase = Phase::CatchingUp {
            witness: proven.witness,
            goal,
        };
        self.custody.genesis = proven.genesis.bytes().to_vec();
        let ledger = Ledger::new(proven.genesis.clone(), proven.realm.clone());
        self.net = Some(Net::new(ledger, epochs, phase, now));
        self.proven(peer, proven.witness, now);
    }

    /// The first full round with the witness is through: is this the network that it said to be?
    pub(in crate::node) fn joiner_caught_up(&mut self, now: Moment) {
        self.refresh(now);
        let Some(net) = &mut self.net else { return };
        let Phase::CatchingUp { witness, .. } = &net.phase else {
            return;
        };
        let policy = net.view.policy();
        let epoch = net.view.epoch().commitment;
        let sound = net.goal_is_met()
            && net.epochs.holds(&epoch)
            && policy.missing.is_empty()
            && net.view.settled_witness(witness)
            && net.view.live(&self.id).is_some();
        if !sound {
            // Not yet, or a member that shows a stale world: another round, until the time for it is over.
            self.retry_catch_up(now);
            return;
        }
        net.phase = Phase::Open;
        net.synced = true;
        net.epochs.drop_foreign(&net.ledger.authority);
        net.epochs.follow(&epoch, now.uptime_ms());
        self.custody.epochs = net.epochs.danger_keys();
        self.custody.joined = true;
        let mut writes = net.ledger.all_writes();
        let heard = net.heard.iter();
        writes.extend(heard.map(|(id, at)| Write::Heard(*id, *at)));
        writes.push(Write::Heads(net.authority().heads()));
        writes.push(Write::Secrets(self.custody.to_bytes()));
        self.persist(writes, true);
        let watchers = self
            .joiner
            .take()
            .map(|joiner| joiner.watchers)
            .unwrap_or_default();
        self.judge_links(now);
        self.greet_all();
        self.open(now);
        if let Some(joined) = self.joined_reply() {
            for id in watchers {
                self.out
                    .push_back(Output::Reply(id, Reply::Joined(Box::new(joined.clone()))));
            }
        }
    }

    /// The witness gave something new: it gets its time again.
    pub(in crate::node) fn catch_up_goes_on(&mut self, now: Moment) {
        let redeeming = self
            .joiner
            .as_mut()
            .and_then(|joiner| joiner.redeeming.as_mut());
        if let Some((_, until)) = redeeming {
            *until = now.uptime_ms() + CATCH_UP_MS;
        }
    }

    /// Plans another round with the witness.
    pub(in crate::node) fn retry_catch_up(&mut self, now: Moment) {
        if let Some(joiner) = &mut self.joiner {
            joiner.pull_ms = Some(now.uptime_ms() + CATCH_UP_RETRY_MS);
        }
    }
}

fn witness_name(proven: &Proven) -> Option<NodeName> {
    let Body::Genesis(genesis) = proven.genesis.body() else {
        return None;
    };
    (genesis.founder == proven.witness).then(|| genesis.founder_name.clone())
}
