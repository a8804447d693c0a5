//! What the peer's probes say.

use std::net::SocketAddr;

use rand_core::Rng;

use super::{Flight, Means, PathEvent, PeerPath, nonce};
use crate::peering::{Path, Socket};
use crate::probe::Probe;
use crate::time::Moment;

/// PINGs remembered, so that one that somebody kept and sends again is not answered.
const RECENT_MAX: usize = 64;
/// Least time between two probes that answer a peer's probe.
const REFLEX_MS: u64 = 40;
/// How long an answer spares a path that reflex.
const ANSWERED_MS: u64 = 5000;
/// PINGs closer than this are those of a path by which packets flow.
const LIVELY_MS: u64 = 6000;
/// How long an answer on the path in use is proof enough when the peer is heard elsewhere.
const FRESH_MS: u64 = 700;

/// The newest PINGs of a peer.
#[derive(Debug, Default)]
pub(super) struct Recent {
    txids: Vec<[u8; 8]>,
    next: usize,
}

impl Recent {
    /// Gives whether a PING is new, and remembers it.
    fn is_new(&mut self, txid: &[u8; 12]) -> bool {
        let mut short = [0; 8];
        short.copy_from_slice(&txid[..8]);
        // Those of one spray differ in their last four bytes.
        short.iter_mut().zip(&txid[8..]).for_each(|(a, b)| *a ^= b);
        if self.txids.contains(&short) {
            return false;
        }
        if self.txids.len() < RECENT_MAX {
            self.txids.push(short);
        } else {
            self.txids[self.next] = short;
        }
        self.next = (self.next + 1) % RECENT_MAX;
        true
    }
}

impl PeerPath {
    /// Opens a datagram that carried this peer's tag.
    pub fn datagram<R: Rng>(
        &mut self,
        path: Path,
        bytes: &[u8],
        means: &mut Means,
        now: Moment,
        rng: &mut R,
    ) {
        let Ok(probe) = self.keys.open(bytes) else {
            return;
        };
        match probe {
            Probe::Ping { txid, .. } => {
                let known = self.effort.as_deref_mut();
                if known.is_some_and(|effort| !effort.recent.is_new(&txid)) {
                    return;
                }
                self.heard_ms = Some(now.uptime_ms());
                self.note_ping(now);
                let observed = path.remote();
                let bytes = self.keys.seal(&Probe::Pong { txid, observed }, nonce(rng));
                self.events.push_back(PathEvent::Send(path, bytes));
                self.heard_at(path, means, now, rng);
                self.postpone(&path, means, now);
            }
            Probe::Pong { txid, observed } => self.pong(txid, observed, path, means, now, rng),
            Probe::Call(call) => self.on_call(&call, path, means, now, rng),
            Probe::CallAck(call) => self.on_call_ack(&call, path, means, now, rng),
        }
    }

    /// A peer that asks so often has packets for this node, or a person who waits.
    fn note_ping(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let last = self.pinged_ms.replace(at);
        if last.is_some_and(|ms| ms + LIVELY_MS > at) && self.is_wanted(now) {
            self.events.push_back(PathEvent::Wanted);
        }
    }

    /// The engine heard the peer at a path that is not its own.
    pub fn moved<R: Rng>(&mut self, path: Path, means: &Means, now: Moment, rng: &mut R) {
        self.heard_ms = Some(now.uptime_ms());
        if let Some(effort) = &mut self.effort {
            effort.elsewhere_ms = Some(now.uptime_ms());
        }
        self.heard_at(path, means, now, rng);
    }

    /// The peer itself was heard at a path: a candidate at once.
    pub(super) fn heard_at<R: Rng>(&mut self, path: Path, means: &Means, now: Moment, rng: &mut R) {
        if path.remote().is_some_and(|remote| !means.allows(&remote)) {
            return;
        }
        self.failures = 0;
        self.add(path, None, now);
        if let Some(known) = self.candidates.get_mut(&path) {
            known.heard_ms = Some(now.uptime_ms());
        }
        self.reflex(path, now, rng);
    }

    /// Probes back where the peer itself was heard, if that did not answer lately.
    fn reflex<R: Rng>(&mut self, path: Path, now: Moment, rng: &mut R) {
        if path.remote().is_some() {
            self.doubt(&path, now);
        }
        let Some(known) = self.candidates.get(&path) else {
            return;
        };
        let after = |at: Option<u64>, ms: u64| at.is_none_or(|at| at + ms <= now.uptime_ms());
        // On the path in use one end's probes are enough for both.
        let answered_ms = if self.is_awake() && !self.uses(&path) {
            ANSWERED_MS
        } else {
            super::keeping::LAPSE_MS
        };
        if after(known.probed_ms, REFLEX_MS) && after(known.answered_ms, answered_ms) {
            self.probe(path, None, false, now, rng);
        }
    }

    /// The peer sends from another address than the one in use: it may have moved, so the one in use has to answer.
    fn doubt(&mut self, from: &Path, now: Moment) {
        let at = now.uptime_ms();
        let Some(active) = self.active.as_mut().filter(|active| active.path != *from) else {
            return;
        };
        if active.path.remote().is_none() || self.effort.is_none() {
            return;
        }
        let fresh = active.proven_ms.is_some_and(|ms| ms + FRESH_MS > at);
        let checked = active.misses > 0 || self.probe_ms.is_some_and(|ms| ms <= at + FRESH_MS);
        if !fresh && !checked {
            active.hurried = true;
            self.probe_ms = Some(at);
        }
    }

    fn pong<R: Rng>(
        &mut self,
        txid: [u8; 12],
        observed: Option<SocketAddr>,
        path: Path,
        means: &mut Means,
        now: Moment,
        rng: &mut R,
    ) {
        if self.sprayed(&txid, path, means, now) {
            return;
        }
        let Some(flight) = self.flights.get(&txid) else {
            return;
        };
        let asked = flight.path;
        self.heard_ms = Some(now.uptime_ms());
        if let (Some(address), Path::Direct { socket, remote }) = (observed, path)
            && !matches!(socket, Socket::Extra(_))
        {
            let by = remote;
            self.events.push_back(PathEvent::Observed { address, by });
        }
        if asked != path {
            // From elsewhere than it was asked: a candidate, but it has to answer for itself.
            self.heard_at(path, means, now, rng);
            return;
        }
        let Some(flight) = self.flights.remove(&txid) else {
            return;
        };
        self.answered(path, &flight, means, now, rng);
    }

    fn answered<R: Rng>(
        &mut self,
        path: Path,
        flight: &Flight,
        means: &mut Means,
        now: Moment,
        rng: &mut R,
    ) {
        let at = now.uptime_ms();
        let rtt_us = now.uptime_us.saturating_sub(flight.sent_us);
        self.add(path, None, now);
        let Some(known) = self.candidates.get_mut(&path) else {
            return;
        };
        known.answered(flight.size.is_none().then_some(rtt_us), at);
        if let Some(remote) = path.remote() {
            means.budget.answered(remote, self.keys.tag_in());
        }
        self.failures = 0;
        if let Some((command, seq)) = flight.command {
            self.tell_person(command, seq, rtt_us, path);
        }
        if let Some(size) = flight.size {
            self.size_passed(&path, size, now);
        }
        self.note_answer(&path, now);
        self.note_forgetful_router(&path, means, at);
        if let Some(active) = self.active.as_mut().filter(|active| active.path == path) {
            active.misses = 0;
            active.suspect_ms = None;
            active.hurried = false;
            active.proven_ms = Some(at);
            if path.remote().is_some()
                && let Some(effort) = &mut self.effort
            {
                effort.sought_ms = None;
            }
            let asks = |flight: &Flight| !flight.on_active || flight.command.is_some();
            self.flights.retain(asks);
            self.schedule_probe(means, now);
        }
        if self.better(&path, now) {
            self.activate(path, Some(at), now);
            self.schedule_probe(means, now);
            self.ask_for_persons(now, rng);
        }
    }

    fn tell_person(&mut self, command: crate::io::CommandId, seq: u32, rtt_us: u64, path: Path) {
        let Some(effort) = &mut self.effort else {
            return;
        };
        let before = effort.waiting.len();
        let asked = |waiting: &super::Waiting| (waiting.command, waiting.seq) == (command, seq);
        effort.waiting.retain(|waiting| !asked(waiting));
        if effort.waiting.len() < before {
            self.events.push_back(PathEvent::Pong {
                command,
                seq,
                rtt_us,
                path,
            });
        }
    }
}
