//! What the way to a peer does as time passes: ladders, probes on the path in use, and giving up.

use std::net::SocketAddr;

use rand_core::Rng;

use super::candidate::Candidate;
use super::{
    BUSY_MS, Flight, MISS_MS, PROBE_BUSY_MS, PathEvent, PeerPath, RETRY_MS, Waiting, nonce,
};
use crate::io::CommandId;
use crate::peering::Path;
use crate::probe::Probe;
use crate::time::Moment;

/// Between two probes on the path in use otherwise; below the 30 s after which routers forget a UDP flow.
const PROBE_IDLE_MS: u64 = 25_000;
/// Unanswered probes that make the path suspect.
const MISSES_MAX: u32 = 3;
/// How long a suspect path is kept.
const SUSPECT_MS: u64 = 3000;
/// Probes in flight to one peer.
const IN_FLIGHT_MAX: usize = 256;
/// How long a probe is remembered.
const FLIGHT_MS: u64 = 10_000;

impl PeerPath {
    pub(super) fn schedule_probe(&mut self, now: Moment) {
        let busy = self
            .busy_ms
            .is_some_and(|at| at + BUSY_MS >= now.uptime_ms());
        let gap = if busy { PROBE_BUSY_MS } else { PROBE_IDLE_MS };
        self.probe_ms = Some(now.uptime_ms() + gap);
    }

    pub(super) fn probe<R: Rng>(
        &mut self,
        address: SocketAddr,
        command: Option<(CommandId, u32)>,
        on_active: bool,
        now: Moment,
        rng: &mut R,
    ) {
        if self.flights.len() >= IN_FLIGHT_MAX {
            return;
        }
        let mut txid = [0; 12];
        rng.fill_bytes(&mut txid);
        let bytes = self
            .keys
            .seal(&Probe::Ping { txid, padding: 0 }, nonce(rng));
        self.flights.insert(
            txid,
            Flight {
                address,
                sent_us: now.uptime_us,
                command,
                on_active,
            },
        );
        if let Some(candidate) = self.candidates.get_mut(&address) {
            candidate.probed_ms = Some(now.uptime_ms());
        }
        self.events
            .push_back(PathEvent::Send(Path::to(address), bytes));
    }

    /// Does what is due.
    pub fn timeout<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        self.flights
            .retain(|flight| flight.sent_us / 1000 + FLIGHT_MS > at);
        self.expire_waiting(at);
        if self.retry_ms.is_some_and(|due| due <= at) {
            self.search(now);
        }
        self.climb(now, rng);
        if self.probe_ms.is_some_and(|due| due <= at) {
            self.keep(now, rng);
        }
    }

    pub(super) fn expire_waiting(&mut self, at: u64) {
        let (over, waiting): (Vec<_>, Vec<_>) = self
            .waiting
            .drain(..)
            .partition(|waiting| waiting.until_ms <= at);
        self.waiting = waiting;
        for Waiting { command, seq, .. } in over {
            self.events.push_back(PathEvent::Silence { command, seq });
        }
    }

    /// The due steps of all ladders.
    pub(super) fn climb<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let mut targets = Vec::new();
        for (address, candidate) in self.candidates.iter_mut() {
            if candidate.climb(now.uptime_ms()) {
                targets.push(*address);
            }
        }
        for address in targets {
            self.probe(address, None, false, now, rng);
        }
        let searching = self
            .candidates
            .values()
            .any(|candidate| candidate.ladder.is_some());
        let lost = self.active.is_none() && !self.candidates.is_empty();
        if lost && !searching && self.retry_ms.is_none() {
            let gap = RETRY_MS[self.retries.min(RETRY_MS.len() - 1)];
            self.retries += 1;
            self.retry_ms = Some(now.uptime_ms() + gap);
        }
    }

    /// The due probe on the path in use.
    pub(super) fn keep<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        let Some(active) = &mut self.active else {
            self.probe_ms = None;
            return;
        };
        let address = active.address;
        let unanswered = self
            .flights
            .values()
            .any(|flight| flight.on_active && flight.address == address);
        if unanswered {
            active.misses += 1;
        }
        if active.misses >= MISSES_MAX && active.suspect_ms.is_none() {
            active.suspect_ms = Some(at);
            self.search(now);
        } else if active
            .suspect_ms
            .is_some_and(|since| since + SUSPECT_MS <= at)
        {
            self.active = None;
            self.probe_ms = None;
            self.events.push_back(PathEvent::Active(None));
            self.search(now);
            return;
        }
        self.probe(address, None, true, now, rng);
        self.probe_ms = Some(at + MISS_MS);
    }

    /// When [`Self::timeout`] has something to do, uptime in milliseconds.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let ladder = self.candidates.values().filter_map(Candidate::due_ms).min();
        let waiting = self.waiting.iter().map(|waiting| waiting.until_ms).min();
        [ladder, self.retry_ms, self.probe_ms, waiting]
            .into_iter()
            .flatten()
            .min()
    }
}
