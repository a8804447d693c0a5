//! Calls: the two ends tell each other where they are, so that both probe at the same time (`docs/protocol.md` §8.3).

use rand_core::Rng;

use super::budget::Cause;
use super::{Means, PathEvent, PeerPath, nonce};
use crate::peering::Path;
use crate::probe::{Call, Probe};
use crate::record::{CandidateKind, Nat};
use crate::time::Moment;

/// When a CALL is sent and sent again, milliseconds after the first.
const LADDER_MS: [u64; 4] = [0, 250, 850, 1650];
/// Least time between two CALLs.
const CALL_MS: u64 = 2000;
/// Least time between two answers to one CALL.
const ACK_MS: u64 = 200;
/// Relays by which a CALL goes.
const RELAYS_MAX: usize = 2;

/// The call to a peer that is going on.
#[derive(Debug, Default)]
pub(super) struct Calling {
    /// The one that is out.
    call: Option<([u8; 12], u64)>,
    /// Its start and the next step.
    due: Option<(u64, usize)>,
    called_ms: Option<u64>,
    /// Whether it says that this end's half of a run begins.
    run: bool,
    /// Whether the peer told that the seq was too small.
    retold: bool,
    answered_ms: Option<u64>,
}

impl Calling {
    /// The next CALL may go at once.
    pub(super) const fn again(&mut self) {
        self.called_ms = None;
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        let (start, step) = self.due?;
        Some(start + LADDER_MS[step])
    }

    const fn begin(&mut self, at: u64) {
        self.call = None;
        self.due = Some((at, 0));
        self.called_ms = Some(at);
    }
}

impl PeerPath {
    /// Calls the peer, if there is a way by which it may hear that.
    pub(super) fn plan_call(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let heard = self
            .candidates
            .iter()
            .any(|(path, _)| path.remote().is_none());
        if !heard && self.active.is_none() {
            return;
        }
        let effort = self.effort();
        if effort.calling.called_ms.is_none_or(|ms| ms + CALL_MS <= at) {
            effort.calling.retold = false;
            effort.calling.run = false;
            effort.calling.begin(at);
        }
    }

    /// Calls the peer anew, if a way is looked for: what the last CALL told is not true any more, and the own router
    /// maps like this.
    pub fn call_again(&mut self, nat: Nat, now: Moment) {
        self.learn_own_router(nat, now);
        if self.is_awake() && self.is_wanted(now) && !self.is_direct() {
            self.effort().calling.again();
            self.plan_call(now);
        }
    }

    /// Calls the peer to begin its half of a run.
    pub(super) fn call_to_run(&mut self, now: Moment) {
        let calling = &mut self.effort().calling;
        calling.run = true;
        calling.begin(now.uptime_ms());
    }

    pub(super) fn call_on_time<R: Rng>(&mut self, means: &Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        let Some(effort) = self.effort.as_deref_mut() else {
            return;
        };
        if effort.calling.due_ms().is_none_or(|due| due > at) {
            return;
        }
        let calling = &mut effort.calling;
        if calling.call.is_none() {
            let mut txid = [0; 12];
            rng.fill_bytes(&mut txid);
            let seq = now.wall.ms().max(self.call_seqs.0.saturating_add(1));
            self.call_seqs.0 = seq;
            calling.call = Some((txid, seq));
        }
        let step =
            |(start, step): (u64, usize)| (step + 1 < LADDER_MS.len()).then(|| (start, step + 1));
        calling.due = calling.due.and_then(step);
        let Some((txid, seq)) = calling.call else {
            return;
        };
        let call = Probe::Call(self.call(txid, seq, means));
        for path in self.call_paths() {
            let bytes = self.keys.seal(&call, nonce(rng));
            self.events.push_back(PathEvent::Send(path, bytes));
        }
        self.note_call(at);
    }

    fn call(&self, txid: [u8; 12], seq: u64, means: &Means) -> Call {
        let effort = self.effort.as_deref();
        Call {
            txid,
            seq,
            nat: means.nat,
            plan: means.plan,
            run: effort.is_some_and(|effort| effort.calling.run),
            candidates: means.candidates.clone(),
        }
    }

    /// By the path in use, and by the best relays.
    fn call_paths(&self) -> Vec<Path> {
        let mut relays: Vec<_> = self
            .candidates
            .iter()
            .filter(|(path, _)| path.remote().is_none())
            .map(|(path, known)| (known.failed_ms, super::kind_of(path), *path))
            .collect();
        relays.sort_unstable();
        let relays = relays.into_iter().take(RELAYS_MAX);
        let mut paths: Vec<_> = relays.map(|(_, _, path)| path).collect();
        if let Some(path) = self.active_path().filter(|path| !paths.contains(path)) {
            paths.push(*path);
        }
        paths
    }

    pub(super) fn on_call<R: Rng>(
        &mut self,
        call: &Call,
        path: Path,
        means: &Means,
        now: Moment,
        rng: &mut R,
    ) {
        let at = now.uptime_ms();
        self.heard_ms = Some(at);
        let is_new = call.seq > self.call_seqs.1;
        if is_new {
            self.call_seqs.1 = call.seq;
            self.used_ms = Some(at);
            self.effort().calling.called_ms = Some(at);
            self.heard_at(path, means, now, rng);
            self.take_in(call, means, now);
            if !self.is_direct() {
                self.search_because_called(now);
            }
        }
        let calling = &mut self.effort().calling;
        if !is_new && calling.answered_ms.is_some_and(|ms| ms + ACK_MS > at) {
            return;
        }
        calling.answered_ms = Some(at);
        let ack = self.call(call.txid, self.call_seqs.1, means);
        let bytes = self.keys.seal(&Probe::CallAck(ack), nonce(rng));
        self.events.push_back(PathEvent::Send(path, bytes));
    }

    fn search_because_called(&mut self, now: Moment) {
        for candidate in self.candidates.values_mut() {
            candidate.ladder = None;
        }
        let effort = self.effort();
        effort.retries = 0;
        effort.calling.due = None;
        self.search(Cause::Life, now);
        self.lean_on_relay(now);
    }

    pub(super) fn on_call_ack<R: Rng>(
        &mut self,
        call: &Call,
        path: Path,
        means: &Means,
        now: Moment,
        rng: &mut R,
    ) {
        let at = now.uptime_ms();
        let Some(effort) = self.effort.as_deref_mut() else {
            return;
        };
        let Some((_, seq)) = effort.calling.call.filter(|(txid, _)| *txid == call.txid) else {
            return;
        };
        effort.calling.call = None;
        effort.calling.due = None;
        if call.seq > seq && !effort.calling.retold {
            // This end's clock is behind what it was once: the peer has heard larger ones.
            effort.calling.retold = true;
            effort.calling.begin(at);
            self.call_seqs.0 = self.call_seqs.0.max(call.seq);
        }
        self.heard_ms = Some(at);
        self.heard_at(path, means, now, rng);
        self.take_in(call, means, now);
    }

    /// Takes what the peer says of itself.
    fn take_in(&mut self, call: &Call, means: &Means, now: Moment) {
        self.learn(&call.candidates, means, now);
        let outside = |kind| {
            let all = call.candidates.iter().filter(move |c| c.kind == kind);
            all.map(|c| c.address)
                .find(|address| address.is_ipv4() && !super::is_local(address))
        };
        let kinds = [
            CandidateKind::Observed,
            CandidateKind::Mapped,
            CandidateKind::Host,
        ];
        let target = kinds.into_iter().find_map(outside);
        let target = target.filter(|address| means.allows(address));
        self.learn_router(call, target, means, now);
    }
}
