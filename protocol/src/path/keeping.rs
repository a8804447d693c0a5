//! What the way to a peer does as time passes: probes on the path in use, suspicion, and giving up.

use rand_core::Rng;

use super::budget::Cause;
use super::{Active, BUSY_MS, Flight, Means, PathEvent, PeerPath, Waiting, nonce};
use crate::io::CommandId;
use crate::peering::Path;
use crate::probe::Probe;
use crate::time::Moment;

/// Between two probes on the path in use while packets flow.
const PROBE_BUSY_MS: u64 = 5000;
/// How long a probe on the path in use may stay unanswered before the next; longer on a slow path.
const MISS_MS: u64 = 700;
/// The same when packets go and none come.
const HURRIED_MISS_MS: u64 = 200;
/// Packets that go while none come make a path doubtful after four round trips, or after a whole second as the engine
/// counts: that is between one second and two.
const SILENCE_MS: u64 = 900;
/// How long the peer counts as heard elsewhere.
const ELSEWHERE_MS: u64 = 1500;
/// Unanswered probes that make the path suspect.
const MISSES_MAX: u32 = 3;
/// How long a suspect path is kept.
const SUSPECT_MS: u64 = 3000;
/// So much later than the peer's own does a probe keep an idle path: one of the two ends is enough.
const POLITE_MS: u64 = 2000;
/// How long a dormant way keeps its path without a word of the peer: two of its probes may be lost.
pub(super) const LAPSE_MS: u64 = 65_000;
/// Between two probes on the relay's path that stands by while a direct one carries packets.
const BACKUP_MS: u64 = 25_000;
/// How long after its loss a path that answers again was only forgotten by a router.
const FORGOTTEN_MS: u64 = 5000;
/// Probes in flight to one peer.
const IN_FLIGHT_MAX: usize = 256;
/// How long a probe is remembered.
const FLIGHT_MS: u64 = 10_000;

impl Active {
    /// How long a probe may stay unanswered before it counts as missed.
    fn gap_ms(&self, patience_ms: u64) -> u64 {
        let gap = if self.hurried {
            HURRIED_MISS_MS
        } else {
            MISS_MS
        };
        gap.max(patience_ms)
    }
}

impl PeerPath {
    /// A person's probe is on its way: the path is looked at when it should have been answered.
    pub(super) fn expect_answer(&mut self, now: Moment) {
        let patience_ms = self.slowest_ms() * 5 / 4;
        if let Some(active) = &self.active {
            let soon = now.uptime_ms() + active.gap_ms(patience_ms);
            self.probe_ms = Some(self.probe_ms.map_or(soon, |due| due.min(soon)));
        }
    }

    fn is_busy(&self, at: u64) -> bool {
        self.busy_ms.is_some_and(|ms| ms + BUSY_MS >= at)
    }

    pub(super) fn schedule_probe(&mut self, means: &Means, now: Moment) {
        let at = now.uptime_ms();
        let gap = match (self.is_awake(), self.is_busy(at)) {
            (true, true) => PROBE_BUSY_MS,
            (true, false) => means.keepalive.gap_ms(),
            (false, _) => LAPSE_MS,
        };
        self.probe_ms = Some(at + gap);
    }

    /// The peer keeps an idle path alive by its own probes: this end need not.
    pub(super) fn postpone(&mut self, path: &Path, means: &Means, now: Moment) {
        let at = now.uptime_ms();
        let Some(active) = self.active.as_ref().filter(|active| active.path == *path) else {
            return;
        };
        if active.misses == 0 && active.proven_ms.is_some() && !self.is_busy(at) {
            let gap = if self.is_awake() {
                means.keepalive.gap_ms() + POLITE_MS
            } else {
                LAPSE_MS
            };
            self.probe_ms = Some(at + gap);
        }
    }

    pub(super) fn probe<R: Rng>(
        &mut self,
        path: Path,
        command: Option<(CommandId, u32)>,
        on_active: bool,
        now: Moment,
        rng: &mut R,
    ) {
        let flight = Flight {
            path,
            sent_us: now.uptime_us,
            command,
            on_active,
            size: None,
        };
        self.fly(flight, 0, rng);
    }

    pub(super) fn fly<R: Rng>(&mut self, flight: Flight, padding: u16, rng: &mut R) {
        if self.flights.len() >= IN_FLIGHT_MAX {
            return;
        }
        let mut txid = [0; 12];
        rng.fill_bytes(&mut txid);
        let (path, at) = (flight.path, flight.sent_us / 1000);
        let bytes = self.keys.seal(&Probe::Ping { txid, padding }, nonce(rng));
        self.flights.insert(txid, flight);
        if let Some(known) = self.candidates.get_mut(&path) {
            known.probed_ms = Some(at);
        }
        self.events.push_back(PathEvent::Send(path, bytes));
    }

    /// Does what is due.
    pub fn timeout<R: Rng>(&mut self, means: &mut Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        self.flights
            .retain(|flight| flight.sent_us / 1000 + FLIGHT_MS > at);
        self.expire_waiting(at);
        self.retry_on_time(now);
        self.climb(means, now, rng);
        self.call_on_time(means, now, rng);
        self.punch_on_time(means, now, rng);
        self.size_on_time(now, rng);
        if self.probe_ms.is_some_and(|due| due <= at) {
            self.keep(now, rng);
        }
    }

    fn expire_waiting(&mut self, at: u64) {
        let Some(effort) = self.effort.as_mut().filter(|e| !e.waiting.is_empty()) else {
            return;
        };
        let (over, waiting): (Vec<_>, Vec<_>) = effort
            .waiting
            .drain(..)
            .partition(|waiting| waiting.until_ms <= at);
        effort.waiting = waiting;
        for Waiting { command, seq, .. } in over {
            self.events.push_back(PathEvent::Silence { command, seq });
        }
    }

    /// Packets that go while none come make the path in use doubtful.
    pub(super) fn watch_silence(&mut self, rx_bytes: u64, tx_bytes: u64, now: Moment) {
        let at = now.uptime_ms();
        let effort = self.effort.as_deref();
        let elsewhere_ms = effort.and_then(|effort| effort.elsewhere_ms);
        let elsewhere = elsewhere_ms.is_some_and(|ms| ms + ELSEWHERE_MS > at);
        let slowest_ms = self.slowest_ms();
        let Some(active) = &mut self.active else {
            return;
        };
        if rx_bytes > 0 && !elsewhere {
            active.proven_ms = Some(at);
            active.suspect_ms = None;
            if active.hurried {
                active.hurried = false;
                active.misses = 0;
            }
        } else if tx_bytes > 0 && !active.hurried && active.suspect_ms.is_none() {
            let proven_ms = active.proven_ms.unwrap_or(active.since_ms);
            if proven_ms + SILENCE_MS.max(4 * slowest_ms) <= at {
                active.hurried = true;
                self.probe_ms = Some(at);
            }
        }
    }

    fn slowest_ms(&self) -> u64 {
        let path = self.active_path();
        let known = path.and_then(|path| self.candidates.get(path));
        known.map_or(0, super::Candidate::slowest_ms)
    }

    /// The due probe on the path in use.
    fn keep<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        if !self.is_awake() {
            self.lapse(now);
            return;
        }
        let patience_ms = self.slowest_ms() * 5 / 4;
        let waits = self.is_asked();
        let Some(active) = &mut self.active else {
            self.probe_ms = None;
            return;
        };
        let path = active.path;
        let gap = active.gap_ms(patience_ms);
        // What was asked before the last answer may be lost for itself, and what was asked just now is on its way.
        let unproven = |ms: u64| active.proven_ms.is_none_or(|proven| proven <= ms);
        let missed = |flight: &Flight| {
            let sent_ms = flight.sent_us / 1000;
            let ours = flight.on_active && flight.path == path;
            ours && sent_ms + gap <= at && unproven(sent_ms)
        };
        if self.flights.values().any(missed) {
            active.misses += 1;
            // Somebody waits.
            active.hurried |= waits;
        } else {
            active.idle_ms = active.proven_ms.map_or(0, |ms| at.saturating_sub(ms));
        }
        if active.misses >= MISSES_MAX && active.suspect_ms.is_none() {
            active.suspect_ms = Some(at);
            let idle_ms = active.idle_ms;
            if let Some(effort) = &mut self.effort {
                effort.lost = Some((path, idle_ms, at));
            }
            self.events.push_back(PathEvent::Suspect);
            self.search(Cause::Search, now);
            self.lean_on_relay(now);
            if !self.uses(&path) {
                self.ask_for_persons(now, rng);
                self.probe(path, None, false, now, rng);
                return;
            }
        } else if active
            .suspect_ms
            .is_some_and(|since| since + SUSPECT_MS <= at)
        {
            self.lose(now);
            return;
        }
        let Some(active) = &self.active else { return };
        let gap = active.gap_ms(patience_ms);
        self.probe(path, None, true, now, rng);
        self.probe_ms = Some(at + gap);
        self.stand_by(at, now, rng);
    }

    /// A dormant way has its path as long as the peer is heard by it.
    fn lapse(&mut self, now: Moment) {
        let heard_ms = self
            .active_path()
            .and_then(|path| self.candidates.get(path))
            .and_then(|known| known.heard_ms);
        match heard_ms.filter(|ms| ms + LAPSE_MS > now.uptime_ms()) {
            Some(ms) => self.probe_ms = Some(ms + LAPSE_MS),
            None => self.lose(now),
        }
    }

    /// Asks the relay that would carry the packets if the direct path were lost.
    fn stand_by<R: Rng>(&mut self, at: u64, now: Moment, rng: &mut R) {
        if !self.is_busy(at) || !self.is_direct() {
            return;
        }
        let Some(relay) = self.best_relay(at) else {
            return;
        };
        let probed_ms = self.candidates.get(&relay).and_then(|k| k.probed_ms);
        if probed_ms.is_none_or(|ms| ms + BACKUP_MS <= at) {
            self.probe(relay, None, false, now, rng);
        }
    }

    /// A path answers new probes shortly after it was lost when idle: a router had forgotten it.
    pub(super) fn note_forgetful_router(&mut self, path: &Path, means: &mut Means, at: u64) {
        let Some(effort) = &mut self.effort else {
            return;
        };
        let Some((lost, idle_ms, lost_ms)) = effort.lost else {
            return;
        };
        let ip = |path: &Path| path.remote().map(|remote| remote.ip());
        if ip(&lost).is_some() && ip(&lost) == ip(path) {
            effort.lost = None;
            if lost_ms + FORGOTTEN_MS > at {
                means.keepalive.forgotten(idle_ms, at);
            }
        }
    }

    /// When [`Self::timeout`] has something to do, uptime in milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let effort = self.effort.as_deref();
        let waiting = effort.iter().flat_map(|effort| &effort.waiting);
        let waiting = waiting.map(|waiting| waiting.until_ms).min();
        [
            self.search_due_ms(),
            self.probe_ms,
            waiting,
            effort.and_then(|effort| effort.calling.due_ms()),
            self.punch_due_ms(),
            effort.and_then(|effort| effort.sizing.due_ms()),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
