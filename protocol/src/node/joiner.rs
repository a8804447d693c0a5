//! The newcomer's end of a join: find a member, check that it is the code's network, claim, catch up
//! (`docs/protocol.md` §6.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use rand_core::Rng;

use super::net::{Net, Phase};
use super::start::Joining;
use super::{Node, Pending};
use crate::body::Body;
use crate::epochs::Epochs;
use crate::id::TransportKey;
use crate::invite::{InviteCode, InviteKeys, channel_hash};
use crate::io::{
    CommandId, InviteRefusal, JoinStep, Joined, Output, Refusal, Reply, Standing, Write,
};
use crate::join::{ProofError, Proven, check_proof, claim, fingerprint, knock, refusal_is_good};
use crate::link::{CallError, DialId, LinkOutput, Service};
use crate::name::NodeName;
use crate::op::Op;
use crate::record::{ControlAddress, Transport};
use crate::seal::EpochKey;
use crate::time::{Moment, Timestamp};
use crate::wire::{Admission, EPOCHS_SENT_MAX, JoinAnswer, JoinRequest, Knock};

/// Machines of this LAN that are asked.
const ASKED_MAX: usize = 32;
/// Waits between two knocks at one machine; the last repeats.
const KNOCK_MS: [u64; 5] = [1000, 2000, 4000, 8000, 15_000];
/// Between two calls to a hint that does not answer.
const HINT_MS: u64 = 4000;
/// Between two questions whether an admin approved.
const APPROVAL_MS: u64 = 5000;
/// How far this machine's clock may be off before a person is asked to set it: a day.
const CLOCK_OFF_MS: u64 = 24 * 3600 * 1000;
/// How long catching up with a witness may take before another is tried.
const CATCH_UP_MS: u64 = 15_000;
/// Between two rounds with a witness while catching up.
const CATCH_UP_RETRY_MS: u64 = 200;

/// A join on its way.
#[derive(Debug)]
pub(super) struct Joiner {
    code: InviteKeys,
    hints: Vec<(String, SocketAddr)>,
    name: NodeName,
    deadline_ms: Option<u64>,
    watchers: BTreeSet<CommandId>,
    steps: Vec<JoinStep>,
    attempts: BTreeMap<TransportKey, Attempt>,
    hint_dials: BTreeMap<DialId, usize>,
    next_hint_ms: u64,
    /// When the witness is asked again for what is still missing.
    pull_ms: Option<u64>,
    lan_asked: BTreeSet<TransportKey>,
    unproven: Option<String>,
    redeeming: Option<(TransportKey, u64)>,
    waiting: Option<String>,
    refused: Option<Refusal>,
    failed: Option<Refusal>,
}

#[derive(Debug)]
struct Attempt {
    remote: ControlAddress,
    lan: bool,
    knock: Option<Knock>,
    proven: Option<Proven>,
    next_ms: u64,
    tries: usize,
    useless: bool,
}

impl Joiner {
    pub(super) fn new(joining: &Joining, now: Moment) -> Self {
        Self {
            code: joining.code.secret().stretch(),
            hints: joining.hints.clone(),
            name: joining.name.clone(),
            deadline_ms: Some(now.uptime_ms().saturating_add(joining.timeout_ms)),
            watchers: BTreeSet::new(),
            steps: Vec::new(),
            attempts: BTreeMap::new(),
            hint_dials: BTreeMap::new(),
            next_hint_ms: now.uptime_ms() + HINT_MS,
            pull_ms: None,
            lan_asked: BTreeSet::new(),
            unproven: None,
            redeeming: None,
            waiting: None,
            refused: None,
            failed: None,
        }
    }

    pub(super) fn forget_watcher(&mut self, id: CommandId) {
        self.watchers.remove(&id);
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        if self.failed.is_some() {
            return None;
        }
        let next = match &self.redeeming {
            // Nobody else is asked meanwhile.
            Some((_, until)) => Some(*until),
            None => {
                let useful = self.attempts.values().filter(|a| !a.useless);
                useful.map(|attempt| attempt.next_ms).min()
            }
        };
        [
            self.deadline_ms,
            next,
            self.pull_ms,
            Some(self.next_hint_ms),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn asked(&self) -> Vec<String> {
        let hints = self.hints.iter().map(|(text, _)| text.clone());
        let mut asked: Vec<_> = std::iter::once("this LAN".to_owned())
            .chain(hints)
            .collect();
        asked.dedup();
        asked
    }
}

impl Node {
    /// Follows the join: steps so far at once, the end when it comes.
    pub(super) fn watch_join(&mut self, id: CommandId) -> Result<(), Refusal> {
        let Some(joiner) = &mut self.joiner else {
            return self.tell_joined(id);
        };
        if let Some(refusal) = &joiner.failed {
            return Err(refusal.clone());
        }
        joiner.watchers.insert(id);
        let steps = joiner.steps.clone();
        for step in steps {
            self.reply(id, Reply::Joining(step));
        }
        Ok(())
    }

    /// Whether this node's join failed: nothing follows any more, it can only be started anew.
    #[must_use]
    pub fn join_is_over(&self) -> bool {
        let failed = |joiner: &Joiner| joiner.failed.is_some();
        self.joiner.as_ref().is_some_and(failed)
    }

    /// Whether a code is of an invite of this very network.
    #[must_use]
    pub fn knows_code(&self, code: &InviteCode) -> bool {
        let Some(net) = &self.net else { return false };
        let key = code.secret().stretch().public();
        net.view.invites().keys().any(|id| {
            matches!(net.authority().op(id).map(Op::body), Some(Body::Invite(i)) if i.terms.key == key)
        })
    }

    fn tell_joined(&mut self, id: CommandId) -> Result<(), Refusal> {
        let joined = self.joined_reply().ok_or(Refusal::NotReady)?;
        self.reply(id, Reply::Joined(Box::new(joined)));
        Ok(())
    }

    fn joined_reply(&self) -> Option<Joined> {
        let net = self.net.as_ref().filter(|net| net.is_open())?;
        let member = net.view.members().get(&self.id)?;
        let claim = match (member.admit, member.authority) {
            (Some(admit), _) => Some(&net.authority().admit(&admit)?.terms().claim),
            (None, Some(grant)) => match net.authority().op(&grant)?.body() {
                Body::Grant(grant) => grant.claim.as_deref(),
                Body::Genesis(_) | Body::Invite(_) | Body::Noop | Body::Opaque => None,
            },
            (None, None) => None,
        };
        Some(Joined {
            network: net.authority().genesis().name.clone(),
            name: member.name.clone(),
            wished: (member.name != member.wished).then(|| member.wished.clone()),
            interface: net.interface.clone()?,
            witness: claim.map_or(self.id, |claim| claim.terms.witness),
            settled: member.standing == Standing::Settled,
        })
    }

    fn join_step(&mut self, step: JoinStep) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        joiner.steps.push(step.clone());
        for id in joiner.watchers.clone() {
            self.reply(id, Reply::Joining(step.clone()));
        }
    }

    fn join_failed(&mut self, refusal: Refusal) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        joiner.failed = Some(refusal.clone());
        for id in std::mem::take(&mut joiner.watchers) {
            self.reply(id, Reply::Refused(refusal.clone()));
        }
    }

    /// Calls every hint: by TCP at its port, by QUIC at the port above.
    pub(super) fn dial_hints(&mut self) {
        let Some(joiner) = &self.joiner else { return };
        let hints = joiner.hints.clone();
        for (at, (_, address)) in hints.iter().enumerate() {
            let pending = self.joiner.as_ref().is_some_and(|joiner| {
                let mut attempts = joiner.attempts.values();
                joiner.hint_dials.values().any(|hint| *hint == at)
                    || attempts.any(|attempt| leads_to(*address, &attempt.remote))
            });
            if pending {
                continue;
            }
            let dial = self.call(None, hint_addresses(*address));
            if let Some(joiner) = &mut self.joiner {
                joiner.hint_dials.insert(dial, at);
            }
        }
    }

    pub(super) fn joiner_on_dial_failed(&mut self, dial: DialId) {
        if let Some(joiner) = &mut self.joiner {
            joiner.hint_dials.remove(&dial);
        }
    }

    pub(super) fn joiner_on_found(&mut self, peer: TransportKey, addresses: Vec<ControlAddress>) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        let full = joiner.lan_asked.len() >= ASKED_MAX;
        if self.net.is_some() || full || !joiner.lan_asked.insert(peer) {
            return;
        }
        self.call(Some(peer), addresses);
    }

    pub(super) fn joiner_on_up(&mut self, peer: TransportKey, remote: ControlAddress, now: Moment) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        joiner.hint_dials.retain(|_, at| {
            joiner
                .hints
                .get(*at)
                .is_none_or(|(_, address)| !leads_to(*address, &remote))
        });
        let lan = joiner.lan_asked.contains(&peer);
        joiner.attempts.entry(peer).or_insert(Attempt {
            remote,
            lan,
            knock: None,
            proven: None,
            next_ms: now.uptime_ms(),
            tries: 0,
            useless: false,
        });
    }

    pub(super) fn joiner_on_down(&mut self, peer: &TransportKey) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        joiner.attempts.remove(peer);
        joiner.lan_asked.remove(peer);
        if joiner
            .redeeming
            .as_ref()
            .is_some_and(|(redeeming, _)| redeeming == peer)
        {
            joiner.redeeming = None;
            self.drop_catch_up();
        }
    }

    /// A witness that led nowhere: forget what it gave.
    fn drop_catch_up(&mut self) {
        if self
            .net
            .as_ref()
            .is_some_and(|net| matches!(net.phase, Phase::CatchingUp { .. }))
        {
            self.net = None;
            for peer in self.links.peers.values_mut() {
                peer.pull = None;
                peer.trusted = false;
                peer.device = None;
            }
        }
    }

    pub(super) fn joiner_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let Some(joiner) = self
            .joiner
            .as_mut()
            .filter(|joiner| joiner.failed.is_none())
        else {
            return;
        };
        if let Some((peer, _)) = joiner.redeeming.filter(|(_, until)| *until <= at) {
            joiner.redeeming = None;
            if let Some(attempt) = joiner.attempts.get_mut(&peer) {
                attempt.useless = true;
            }
            self.drop_catch_up();
            self.link(LinkOutput::HangUp { peer });
            return;
        }
        if joiner.deadline_ms.take_if(|due| *due <= at).is_some() {
            self.give_up();
            return;
        }
        if joiner.pull_ms.take_if(|due| *due <= at).is_some()
            && let Some((peer, _)) = joiner.redeeming
        {
            self.start_pull(peer);
        }
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        if joiner.next_hint_ms <= at {
            joiner.next_hint_ms = at + HINT_MS;
            if self.net.is_none() {
                self.dial_hints();
            }
        }
        self.knock_where_due(at);
    }

    fn give_up(&mut self) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        if let Some(fingerprint) = &joiner.waiting {
            // Only the person goes: the claim is stored at a member, and an admin may approve it any day.
            let refusal = Refusal::StillWaiting(fingerprint.clone());
            for id in std::mem::take(&mut joiner.watchers) {
                self.reply(id, Reply::Refused(refusal.clone()));
            }
            return;
        }
        let refusal = if let Some(refusal) = &joiner.refused {
            refusal.clone()
        } else if let Some(address) = &joiner.unproven {
            Refusal::NotTheNetwork(address.clone())
        } else {
            Refusal::NobodyAnswered(joiner.asked())
        };
        self.join_failed(refusal);
    }

    fn knock_where_due(&mut self, at: u64) {
        let own = TransportKey::new(self.keys.transport.public());
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        if joiner.redeeming.is_some() {
            return;
        }
        let mut questions = Vec::new();
        for (peer, attempt) in &mut joiner.attempts {
            if attempt.useless || attempt.next_ms > at {
                continue;
            }
            attempt.next_ms = at + KNOCK_MS[attempt.tries.min(KNOCK_MS.len() - 1)];
            attempt.tries += 1;
            let mut nonce = [0; 32];
            self.rng.fill_bytes(&mut nonce);
            let knock = knock(&joiner.code, &channel_hash(&own, peer), nonce);
            attempt.knock = Some(knock.clone());
            questions.push((*peer, nonce, JoinRequest::Knock(knock)));
        }
        for (peer, nonce, request) in questions {
            self.ask(
                peer,
                Service::Join,
                request.to_bytes(),
                Pending::Knock { peer, nonce },
            );
        }
    }

    pub(super) fn joiner_on_proof(
        &mut self,
        peer: TransportKey,
        nonce: [u8; 32],
        result: Result<Vec<u8>, CallError>,
        now: Moment,
    ) {
        let own = TransportKey::new(self.keys.transport.public());
        let channel = channel_hash(&own, &peer);
        let Some(joiner) = self.joiner.as_mut().filter(|j| j.redeeming.is_none()) else {
            return;
        };
        let Some(attempt) = joiner.attempts.get_mut(&peer) else {
            return;
        };
        let Some(knock) = attempt.knock.clone().filter(|knock| knock.nonce == nonce) else {
            return;
        };
        let answer = result.ok().and_then(|bytes| JoinAnswer::parse(&bytes).ok());
        let verdict = match answer {
            Some(JoinAnswer::Proof(proof)) => check_proof(&joiner.code, &channel, &knock, &proof),
            Some(JoinAnswer::Refused { reason, time, mac })
                if refusal_is_good(&joiner.code, &channel, &knock, (&reason, time, &mac)) =>
            {
                self.on_refusal(&peer, reason, time, now);
                return;
            }
            // Silence: another network's machine, or one that has not heard of the invite yet.
            Some(_) | None => Err(ProofError::Mac),
        };
        match verdict {
            Ok(proven) => self.redeem(peer, proven, now),
            Err(_) if !attempt.lan => {
                joiner.unproven = Some(attempt.remote.address.to_string());
            }
            Err(_) => {}
        }
    }

    fn on_refusal(
        &mut self,
        peer: &TransportKey,
        reason: InviteRefusal,
        time: Timestamp,
        now: Moment,
    ) {
        if let Some(refusal) = clock_refusal(now.wall, time) {
            self.join_failed(refusal);
            return;
        }
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        let elsewhere = matches!(
            reason,
            InviteRefusal::WitnessClock | InviteRefusal::NotWitness
        );
        let refusal = Refusal::Invite(reason);
        if elsewhere {
            if let Some(attempt) = joiner.attempts.get_mut(peer) {
                attempt.next_ms = now.uptime_ms() + KNOCK_MS[1];
            }
            joiner.refused = Some(refusal);
        } else {
            self.join_failed(refusal);
        }
    }

    /// m3: the member proved to be of the code's network; claim.
    fn redeem(&mut self, peer: TransportKey, proven: Proven, now: Moment) {
        if let Some(refusal) = clock_refusal(now.wall, proven.time) {
            self.join_failed(refusal);
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

    pub(super) fn joiner_on_admission(
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
    fn catch_up(&mut self, peer: TransportKey, proven: &Proven, admission: Admission, now: Moment) {
        let mut goal = admission.heads;
        goal.push(proven.invite.id());
        let mut epochs = Epochs::default();
        for (number, key) in admission.epochs.iter().take(EPOCHS_SENT_MAX) {
            let key = EpochKey::from_bytes(key);
            let Body::Genesis(genesis) = proven.genesis.body() else {
                return;
            };
            if *number == 0 && key.commitment() != genesis.epoch_commitment {
                continue;
            }
            epochs.insert(*number, key);
        }
        let phase = Phase::CatchingUp {
            witness: proven.witness,
            goal,
        };
        self.custody.genesis = proven.genesis.bytes().to_vec();
        self.custody.epochs = epochs.danger_keys();
        self.net = Some(Net::new(
            proven.genesis.clone(),
            proven.realm.clone(),
            epochs,
            phase,
            now,
        ));
        self.proven(peer, proven.witness, now);
    }

    /// The first full round with the witness is through: is this the network that it said to be?
    pub(super) fn joiner_caught_up(&mut self, now: Moment) {
        self.refresh(now);
        let Some(net) = &mut self.net else { return };
        let Phase::CatchingUp { witness, .. } = &net.phase else {
            return;
        };
        let sound = net.goal_is_met()
            && net.epochs.topic().is_some()
            && net.view.settled_witness(witness)
            && net.view.live(&self.id).is_some();
        if !sound {
            // Not yet, or a member that shows a stale world: another round, until the time for it is over.
            self.retry_catch_up(now);
            return;
        }
        net.phase = Phase::Open;
        net.synced = true;
        self.custody.joined = true;
        let mut writes = net.ledger.all_writes();
        writes.push(Write::Secrets(self.custody.to_bytes()));
        self.persist(writes, true);
        let watchers = self
            .joiner
            .take()
            .map(|joiner| joiner.watchers)
            .unwrap_or_default();
        self.judge_links();
        self.greet_all();
        self.open(now);
        if let Some(joined) = self.joined_reply() {
            for id in watchers {
                self.out
                    .push_back(Output::Reply(id, Reply::Joined(Box::new(joined.clone()))));
            }
        }
    }

    /// Plans another round with the witness.
    pub(super) fn retry_catch_up(&mut self, now: Moment) {
        if let Some(joiner) = &mut self.joiner {
            joiner.pull_ms = Some(now.uptime_ms() + CATCH_UP_RETRY_MS);
        }
    }
}

fn clock_refusal(ours: Timestamp, theirs: Timestamp) -> Option<Refusal> {
    let off = ours.since_ms(theirs).max(theirs.since_ms(ours));
    (off > CLOCK_OFF_MS).then_some(Refusal::Clock { ours, theirs })
}

fn hint_addresses(address: SocketAddr) -> Vec<ControlAddress> {
    let quic = address
        .port()
        .checked_add(1)
        .map(|port| SocketAddr::new(address.ip(), port));
    let tcp = ControlAddress {
        transport: Transport::Tcp,
        address,
    };
    let quic = quic.map(|address| ControlAddress {
        transport: Transport::Quic,
        address,
    });
    std::iter::once(tcp).chain(quic).collect()
}

fn leads_to(hint: SocketAddr, remote: &ControlAddress) -> bool {
    hint_addresses(hint).contains(remote)
}

fn witness_name(proven: &Proven) -> Option<NodeName> {
    match proven.genesis.body() {
        Body::Genesis(genesis) if genesis.founder == proven.witness => {
            Some(genesis.founder_name.clone())
        }
        Body::Genesis(_) | Body::Grant(_) | Body::Invite(_) | Body::Noop | Body::Opaque => None,
    }
}
