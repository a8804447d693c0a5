//! The way to one peer: candidates, probes, choice, loss (`docs/protocol.md` §8.4).
//!
//! The story: every candidate is probed in a ladder of growing gaps; whoever answers first carries the packets at once;
//! a better tier takes over at once, a better round trip only when it is clearly better. The path in use is probed for
//! as long as it is used; three silent probes make it suspect and start a new ladder; three more seconds of silence
//! end it. A peer's own probe is a candidate by itself, so the answer goes to wherever it really came from.
//!
//! Nothing here can be made a tool against a third party: an address that never answered gets three ladders,
//! then one every twenty minutes.

mod address;
mod candidate;
mod few;
mod keeping;

use std::collections::VecDeque;
use std::net::SocketAddr;

use rand_core::Rng;

use self::candidate::{BURSTS_MAX, Candidate};
use self::few::Few;
use crate::io::CommandId;
use crate::peering::Path;
use crate::probe::{Probe, ProbeKeys};
use crate::record::CandidateKind;
use crate::time::Moment;

pub use self::address::{is_local, is_probeable, is_public, kind_of};

/// When a new ladder starts after one that found nothing, milliseconds; the last repeats.
const RETRY_MS: [u64; 5] = [1000, 3000, 10_000, 30_000, 60_000];
/// Between two probes on the path in use while packets flow.
const PROBE_BUSY_MS: u64 = 5000;
/// How long packets count as flowing.
const BUSY_MS: u64 = 10_000;
/// How long a path is kept after a change for the round trip's sake.
const HOLD_MS: u64 = 10_000;
/// How long a probe on the path in use may stay unanswered before the next.
const MISS_MS: u64 = 700;
/// Candidates remembered for one peer.
const CANDIDATES_KEPT_MAX: usize = 24;
/// Addresses of one peer that are taken up in an hour.
const STRANGE_PER_HOUR_MAX: usize = 64;
const HOUR_MS: u64 = 3_600_000;
/// Least time between two ladders that a sign of life starts.
const NUDGE_MS: u64 = 60_000;
/// Round trips remembered of one address.
const RTTS_KEPT: usize = 5;
/// Least time between two probes that answer a peer's probe.
const REFLEX_MS: u64 = 40;

/// What the way to a peer wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// Send this datagram.
    Send(Path, Vec<u8>),
    /// Packets travel by this path from now on.
    Active(Option<Path>),
    /// The peer saw us at this address.
    Observed(SocketAddr),
    /// A person's probe was answered.
    Pong {
        /// Whose command.
        command: CommandId,
        /// Which probe.
        seq: u32,
        /// Round trip in microseconds.
        rtt_us: u64,
        /// By which path.
        path: Path,
    },
    /// A person's probe was not answered in time.
    Silence {
        /// Whose command.
        command: CommandId,
        /// Which probe.
        seq: u32,
    },
}

#[derive(Debug)]
struct Active {
    address: SocketAddr,
    since_ms: u64,
    misses: u32,
    suspect_ms: Option<u64>,
}

#[derive(Debug)]
struct Flight {
    address: SocketAddr,
    sent_us: u64,
    command: Option<(CommandId, u32)>,
    on_active: bool,
}

#[derive(Debug)]
struct Waiting {
    command: CommandId,
    seq: u32,
    until_ms: u64,
}

/// The way to one peer.
#[derive(Debug)]
pub struct PeerPath {
    keys: ProbeKeys,
    candidates: Few<SocketAddr, Candidate>,
    active: Option<Active>,
    flights: Few<[u8; 12], Flight>,
    retry_ms: Option<u64>,
    retries: usize,
    probe_ms: Option<u64>,
    busy_ms: Option<u64>,
    heard_ms: Option<u64>,
    nudged_ms: Option<u64>,
    /// The hour, and how many addresses that never answered were learned in it.
    strange: (u64, usize),
    waiting: Vec<Waiting>,
    events: VecDeque<PathEvent>,
}

impl PeerPath {
    /// The way to a peer of which nothing is known but its probe keys.
    #[must_use]
    pub fn new(keys: ProbeKeys) -> Self {
        Self {
            keys,
            candidates: Few::default(),
            active: None,
            flights: Few::default(),
            retry_ms: None,
            retries: 0,
            probe_ms: None,
            busy_ms: None,
            heard_ms: None,
            nudged_ms: None,
            strange: (0, 0),
            waiting: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// The tag that the peer's probes carry.
    #[must_use]
    pub fn tag_in(&self) -> [u8; 8] {
        self.keys.tag_in()
    }

    /// Learns where the peer says it is. New addresses are probed at once.
    pub fn learn(&mut self, candidates: &[crate::record::Candidate], now: Moment) {
        for candidate in candidates.iter().filter(|c| is_probeable(&c.address)) {
            if self.add(candidate.address, Some(candidate.kind), now) {
                self.retries = 0;
                if let Some(known) = self.candidates.get_mut(&candidate.address) {
                    known.start_ladder(now.uptime_ms());
                }
            }
        }
    }

    fn add(&mut self, address: SocketAddr, source: Option<CandidateKind>, now: Moment) -> bool {
        if let Some(known) = self.candidates.get_mut(&address) {
            known.source = known.source.or(source);
            return false;
        }
        let hour = now.uptime_ms() / HOUR_MS;
        if self.strange.0 != hour {
            self.strange = (hour, 0);
        }
        if self.strange.1 >= STRANGE_PER_HOUR_MAX {
            return false;
        }
        if self.candidates.len() >= CANDIDATES_KEPT_MAX && !self.forget_one() {
            return false;
        }
        self.strange.1 += 1;
        let candidate = Candidate {
            source,
            answered_ms: None,
            probed_ms: None,
            rtts_us: Vec::new(),
            ladder: None,
            bursts: BURSTS_MAX,
            refill_ms: now.uptime_ms(),
        };
        self.candidates.insert(address, candidate);
        true
    }

    /// Forgets the candidate that answered longest ago; never the one in use.
    fn forget_one(&mut self) -> bool {
        let active = self.active.as_ref().map(|active| active.address);
        let oldest = self
            .candidates
            .iter()
            .filter(|(address, _)| Some(**address) != active)
            .min_by_key(|(_, candidate)| candidate.answered_ms)
            .map(|(address, _)| *address);
        oldest.is_some_and(|address| self.candidates.remove(&address).is_some())
    }

    /// Probes all candidates from now on that are not being probed already.
    pub fn search(&mut self, now: Moment) {
        for candidate in self.candidates.values_mut() {
            candidate.start_ladder(now.uptime_ms());
        }
        // With every budget spent no ladder starts: then this is the next time to look.
        let last = RETRY_MS[RETRY_MS.len() - 1];
        let searching = self
            .candidates
            .values()
            .any(|candidate| candidate.ladder.is_some());
        self.retry_ms = (self.active.is_none() && !searching && !self.candidates.is_empty())
            .then_some(now.uptime_ms() + last);
    }

    /// The peer showed a sign of life elsewhere: it may be probing us in this very moment. At most once a minute.
    pub fn nudge(&mut self, now: Moment) {
        let rested = self
            .nudged_ms
            .is_none_or(|at| at + NUDGE_MS <= now.uptime_ms());
        if self.active.is_none() && rested {
            self.nudged_ms = Some(now.uptime_ms());
            self.shake(now);
        }
    }

    /// Our own addresses changed: what worked may not work any more.
    pub fn shake(&mut self, now: Moment) {
        for candidate in self.candidates.values_mut() {
            candidate.bursts = candidate.bursts.max(1);
            // A ladder that was climbed from the old address proves nothing.
            candidate.ladder = None;
        }
        self.retries = 0;
        self.search(now);
        if self.active.is_some() {
            self.probe_ms = Some(now.uptime_ms());
        }
    }

    /// Packets of a person's programs flow, or want to.
    pub fn traffic(&mut self, now: Moment) {
        let was_idle = self.busy_ms.is_none_or(|at| at + BUSY_MS < now.uptime_ms());
        self.busy_ms = Some(now.uptime_ms());
        if self.active.is_none() && was_idle {
            self.search(now);
        } else if was_idle {
            let soon = now.uptime_ms() + PROBE_BUSY_MS;
            self.probe_ms = self.probe_ms.map(|at| at.min(soon));
        }
    }

    /// The engine heard the peer at an address that is not its path.
    pub fn moved<R: Rng>(&mut self, path: Path, now: Moment, rng: &mut R) {
        self.heard_ms = Some(now.uptime_ms());
        if let Some(remote) = path.remote().filter(is_probeable) {
            self.add(remote, None, now);
            self.reflex(remote, now, rng);
        }
    }

    /// A probe of a person; answered by [`PathEvent::Pong`] or [`PathEvent::Silence`].
    pub fn ping<R: Rng>(
        &mut self,
        command: CommandId,
        seq: u32,
        timeout_ms: u64,
        now: Moment,
        rng: &mut R,
    ) {
        let until_ms = now.uptime_ms().saturating_add(timeout_ms);
        self.waiting.push(Waiting {
            command,
            seq,
            until_ms,
        });
        match self.active.as_ref().map(|active| active.address) {
            Some(address) => self.probe(address, Some((command, seq)), true, now, rng),
            None => self.search(now),
        }
    }

    /// Forgets the probes of a person who went away.
    pub fn forget(&mut self, command: CommandId) {
        self.waiting.retain(|waiting| waiting.command != command);
    }

    /// Opens a datagram that carried this peer's tag.
    pub fn datagram<R: Rng>(&mut self, path: Path, bytes: &[u8], now: Moment, rng: &mut R) {
        let (Ok(probe), Some(remote)) = (self.keys.open(bytes), path.remote()) else {
            return;
        };
        self.heard_ms = Some(now.uptime_ms());
        match probe {
            Probe::Ping { txid, .. } => {
                let pong = Probe::Pong {
                    txid,
                    observed: remote,
                };
                let bytes = self.keys.seal(&pong, nonce(rng));
                self.events.push_back(PathEvent::Send(path, bytes));
                if is_probeable(&remote) {
                    self.add(remote, None, now);
                    self.reflex(remote, now, rng);
                }
            }
            Probe::Pong { txid, observed } => self.pong(txid, observed, (path, remote), now, rng),
        }
    }

    /// Probes back an address that the peer itself was heard at, if it did not answer lately.
    fn reflex<R: Rng>(&mut self, address: SocketAddr, now: Moment, rng: &mut R) {
        self.doubt(address, now);
        let Some(candidate) = self.candidates.get(&address) else {
            return;
        };
        let after = |at: Option<u64>, ms: u64| at.is_none_or(|at| at + ms <= now.uptime_ms());
        if after(candidate.probed_ms, REFLEX_MS) && after(candidate.answered_ms, PROBE_BUSY_MS) {
            self.probe(address, None, false, now, rng);
        }
    }

    /// The peer sends from another address than the one in use: it may have moved, so the one in use has to answer.
    fn doubt(&mut self, from: SocketAddr, now: Moment) {
        let Some(active) = self.active.as_ref().filter(|active| active.address != from) else {
            return;
        };
        let answered_ms = self
            .candidates
            .get(&active.address)
            .and_then(|c| c.answered_ms);
        let fresh = answered_ms.is_some_and(|at| at + MISS_MS > now.uptime_ms());
        let checked = active.misses > 0
            || self
                .probe_ms
                .is_some_and(|at| at <= now.uptime_ms() + MISS_MS);
        if !fresh && !checked {
            self.probe_ms = Some(now.uptime_ms());
        }
    }

    fn pong<R: Rng>(
        &mut self,
        txid: [u8; 12],
        observed: SocketAddr,
        (path, remote): (Path, SocketAddr),
        now: Moment,
        rng: &mut R,
    ) {
        let Some(flight) = self.flights.remove(&txid) else {
            return;
        };
        let rtt_us = now.uptime_us.saturating_sub(flight.sent_us);
        self.events.push_back(PathEvent::Observed(observed));
        self.add(remote, None, now);
        let Some(candidate) = self.candidates.get_mut(&remote) else {
            return;
        };
        candidate.answered_ms = Some(now.uptime_ms());
        candidate.bursts = BURSTS_MAX;
        candidate.rtts_us.truncate(RTTS_KEPT - 1);
        candidate.rtts_us.insert(0, rtt_us);
        if let Some((command, seq)) = flight.command {
            let before = self.waiting.len();
            self.waiting
                .retain(|waiting| (waiting.command, waiting.seq) != (command, seq));
            if self.waiting.len() < before {
                self.events.push_back(PathEvent::Pong {
                    command,
                    seq,
                    rtt_us,
                    path,
                });
            }
        }
        if let Some(active) = self
            .active
            .as_mut()
            .filter(|active| active.address == remote)
        {
            active.misses = 0;
            active.suspect_ms = None;
            self.flights
                .retain(|flight| !flight.on_active || flight.command.is_some());
            self.schedule_probe(now);
        }
        if self.better(remote, now) {
            self.activate(remote, now, rng);
        }
    }

    /// Whether an address that just answered is to carry the packets instead of the one that does.
    fn better(&self, address: SocketAddr, now: Moment) -> bool {
        let Some(active) = &self.active else {
            return true;
        };
        if active.address == address {
            return false;
        }
        if active.suspect_ms.is_some() {
            return true;
        }
        let kind = |address| kind_of(&Path::to(address));
        let (ours, theirs) = (kind(active.address), kind(address));
        if ours != theirs {
            return theirs < ours;
        }
        let held = now.uptime_ms() < active.since_ms + HOLD_MS;
        let (Some(current), Some(new)) = (self.rtt_us(&active.address), self.rtt_us(&address))
        else {
            return false;
        };
        let samples = self
            .candidates
            .get(&address)
            .map_or(0, |candidate| candidate.rtts_us.len());
        !held && samples >= 3 && new + (current / 5).max(10_000) < current
    }

    fn rtt_us(&self, address: &SocketAddr) -> Option<u64> {
        self.candidates.get(address)?.rtts_us.iter().min().copied()
    }

    fn activate<R: Rng>(&mut self, address: SocketAddr, now: Moment, rng: &mut R) {
        self.active = Some(Active {
            address,
            since_ms: now.uptime_ms(),
            misses: 0,
            suspect_ms: None,
        });
        self.retry_ms = None;
        self.retries = 0;
        self.schedule_probe(now);
        self.events
            .push_back(PathEvent::Active(Some(Path::to(address))));
        let waiting: Vec<_> = self.waiting.iter().map(|w| (w.command, w.seq)).collect();
        for command in waiting {
            self.probe(address, Some(command), true, now, rng);
        }
    }

    /// The next event, in order.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        self.events.pop_front()
    }

    /// The path in use, its source, smallest recent round trip, and since when.
    #[must_use]
    pub fn active(&self) -> Option<(Path, Option<CandidateKind>, Option<u64>, u64)> {
        let active = self.active.as_ref()?;
        let source = self
            .candidates
            .get(&active.address)
            .and_then(|candidate| candidate.source);
        Some((
            Path::to(active.address),
            source,
            self.rtt_us(&active.address),
            active.since_ms,
        ))
    }

    /// When the peer's last authentic packet came, uptime in milliseconds.
    #[must_use]
    pub const fn heard_ms(&self) -> Option<u64> {
        self.heard_ms
    }

    /// Whether there is a path in use, and it answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.suspect_ms.is_none())
    }

    /// Whether the path in use stopped answering.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.suspect_ms.is_some())
    }
}

fn nonce<R: Rng>(rng: &mut R) -> [u8; 24] {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    nonce
}
