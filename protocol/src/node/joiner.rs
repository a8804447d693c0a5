//! The newcomer's end of a join: find a member, check that it is the code's network, claim, catch up
//! (`docs/protocol.md` §6.3).

mod admission;
mod hints;

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;

use self::hints::Hints;
use super::start::Joining;
use super::{Node, Pending};
use crate::body::Body;
use crate::id::TransportKey;
use crate::invite::{InviteCode, InviteKeys, channel_hash};
use crate::io::{CommandId, InviteRefusal, JoinStep, Joined, Refusal, Reply, Standing};
use crate::join::{ProofError, Proven, check_proof, knock, refusal_is_good};
use crate::link::{CallError, LinkOutput, Service};
use crate::name::NodeName;
use crate::op::Op;
use crate::record::ControlAddress;
use crate::time::{Moment, Timestamp};
use crate::wire::{JoinAnswer, JoinRequest, Knock};

/// Machines of this LAN that are asked.
const ASKED_MAX: usize = 32;
/// Waits between two knocks at one machine; the last repeats.
const KNOCK_MS: [u64; 5] = [1000, 2000, 4000, 8000, 15_000];
/// Between two calls to a hint that does not answer.
const HINT_MS: u64 = 4000;
/// How far this machine's clock may be off before a person is asked to set it: a day.
const CLOCK_OFF_MS: u64 = 24 * 3600 * 1000;
/// How long catching up with a witness may take before another is tried.
const CATCH_UP_MS: u64 = 15_000;
/// How long another member may still answer after all who did refused.
const SECOND_OPINION_MS: u64 = 1500;

/// A join on its way.
#[derive(Debug)]
pub(super) struct Joiner {
    code: InviteKeys,
    hints: Hints,
    name: NodeName,
    deadline_ms: Option<u64>,
    watchers: BTreeSet<CommandId>,
    steps: Vec<JoinStep>,
    attempts: BTreeMap<TransportKey, Attempt>,
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
    pub(super) fn new(joining: &Joining, code: InviteKeys, now: Moment) -> Self {
        Self {
            code,
            hints: Hints::new(joining.hints.clone()),
            name: joining.name.clone(),
            deadline_ms: Some(now.uptime_ms().saturating_add(joining.timeout_ms)),
            watchers: BTreeSet::new(),
            steps: Vec::new(),
            attempts: BTreeMap::new(),
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
        let mut asked: Vec<_> = std::iter::once("this LAN".to_owned())
            .chain(self.hints.places())
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
            (None, Some(grant)) => {
                let grant = net.authority().op(&grant)?.body().grant();
                grant.and_then(|grant| grant.claim.as_deref())
            }
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

    pub(super) fn joiner_on_found(&mut self, peer: TransportKey, addresses: Vec<ControlAddress>) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        let full = joiner.lan_asked.len() >= ASKED_MAX && !joiner.lan_asked.contains(&peer);
        if self.net.is_some() || full || joiner.attempts.contains_key(&peer) {
            return;
        }
        joiner.lan_asked.insert(peer);
        if !self.links.is_calling(&peer) {
            self.call(Some(peer), addresses);
        }
    }

    /// Calls those of this LAN again that are not connected: the announcement comes only once.
    fn call_lan_again(&mut self) {
        for (peer, addresses) in self.links.found_addresses() {
            self.joiner_on_found(peer, addresses);
        }
    }

    /// Whether a join goes on with this peer.
    pub(super) fn joiner_needs(&self, peer: &TransportKey) -> bool {
        let joiner = self.joiner.as_ref();
        joiner.is_some_and(|joiner| {
            let attempt = joiner.attempts.get(peer);
            attempt.is_some_and(|attempt| !attempt.useless) || joiner.hints.is_relay(peer)
        })
    }

    pub(super) fn joiner_on_up(
        &mut self,
        peer: TransportKey,
        (remote, by): (ControlAddress, Option<TransportKey>),
        now: Moment,
    ) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        if by.is_none() && joiner.hints.reached(peer, remote) {
            self.dial_hints();
            return;
        }
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
        joiner.hints.lost(peer);
        if joiner
            .redeeming
            .as_ref()
            .is_some_and(|(redeeming, _)| redeeming == peer)
        {
            joiner.redeeming = None;
            self.drop_catch_up();
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
                self.call_lan_again();
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
            Err(_) => {
                // A LAN has machines of other networks; at an address from the code there should be a member.
                if joiner.hints.leads_to(&attempt.remote) || !attempt.lan {
                    joiner.unproven = Some(attempt.remote.address.to_string());
                }
            }
        }
    }

    fn on_refusal(
        &mut self,
        peer: &TransportKey,
        reason: InviteRefusal,
        time: Timestamp,
        now: Moment,
    ) {
        // Only what several members may judge in different ways is asked again at the same one.
        let elsewhere = matches!(
            reason,
            InviteRefusal::WitnessClock | InviteRefusal::NotWitness
        );
        let refusal = clock_refusal(now.wall, time).unwrap_or(Refusal::Invite(reason));
        self.note_refusal(peer, refusal, elsewhere, now);
    }

    /// Remembers why a member refused. One member's word does not end the join while another may think otherwise.
    fn note_refusal(&mut self, peer: &TransportKey, refusal: Refusal, again: bool, now: Moment) {
        let Some(joiner) = &mut self.joiner else {
            return;
        };
        if let Some(attempt) = joiner.attempts.get_mut(peer) {
            attempt.next_ms = now.uptime_ms() + KNOCK_MS[1];
            attempt.useless = !again;
        }
        if matches!(refusal, Refusal::Invite(InviteRefusal::Declined { .. })) {
            // Nothing to wait for any more.
            joiner.waiting = None;
            joiner.deadline_ms.get_or_insert(u64::MAX);
        }
        joiner.refused = Some(refusal);
        if joiner.waiting.is_none() && joiner.attempts.values().all(|attempt| attempt.useless) {
            let soon = now.uptime_ms() + SECOND_OPINION_MS;
            joiner.deadline_ms = joiner.deadline_ms.map(|at| at.min(soon));
        }
    }
}

fn clock_refusal(ours: Timestamp, theirs: Timestamp) -> Option<Refusal> {
    let off = ours.since_ms(theirs).max(theirs.since_ms(ours));
    (off > CLOCK_OFF_MS).then_some(Refusal::Clock { ours, theirs })
}
