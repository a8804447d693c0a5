//! Looking for a way: who is probed when, how often again, and when a way goes to rest.

use rand_core::Rng;

use super::budget::Cause;
use super::candidate::Candidate;
use super::{BUSY_MS, Effort, Means, PathEvent, PeerPath};
use crate::io::PathKind;
use crate::path::kind_of;
use crate::peering::Path;
use crate::time::Moment;

/// When a new ladder starts after one that found nothing, milliseconds; the last repeats.
const RETRY_MS: [u64; 5] = [1000, 3000, 10_000, 30_000, 60_000];
/// The same while a relay carries the packets of a peer that somebody wants.
const RETRY_RELAYED_MS: [u64; 3] = [10_000, 30_000, 60_000];
/// Least time between two ladders that a sign of life starts.
const NUDGE_MS: u64 = 60_000;
/// So much later is a probe that has no room now.
const CROWDED_MS: u64 = 50;
/// Between two probes on the path in use while packets flow.
const PROBE_BUSY_MS: u64 = 5000;

impl PeerPath {
    /// Looks after the way from now on.
    pub fn wake(&mut self, now: Moment) {
        if !self.is_awake() {
            self.effort();
            self.search(Cause::Search, now);
        }
    }

    /// Sends nothing on its own from now on. What is known stays known; a path in use stays as long as the peer is
    /// heard by it.
    pub fn rest(&mut self) {
        self.effort = None;
        self.flights = super::few::Few::default();
        for candidate in self.candidates.values_mut() {
            candidate.ladder = None;
        }
    }

    /// Probes all candidates from now on that are not being probed already.
    pub(super) fn search(&mut self, cause: Cause, now: Moment) {
        let at = now.uptime_ms();
        for candidate in self.candidates.values_mut() {
            candidate.start_ladder(cause, at);
        }
        let effort = self.effort();
        effort.retry_ms = None;
        effort.searched_ms = Some(at);
        effort.sought_ms.get_or_insert(at);
        effort.attempts.begin(at);
        self.plan_call(now);
    }

    /// Goes on probing all candidates in the search that is going on.
    pub(super) fn search_on(&mut self, now: Moment) {
        for candidate in self.candidates.values_mut() {
            candidate.start_ladder(Cause::Search, now.uptime_ms());
        }
    }

    pub(super) fn start_ladder(&mut self, path: &Path, now: Moment) {
        let at = now.uptime_ms();
        if let Some(known) = self.candidates.get_mut(path) {
            known.start_ladder(Cause::Search, at);
        }
        let effort = self.effort();
        effort.retries = 0;
        if effort.searched_ms.is_none() {
            effort.searched_ms = Some(at);
            effort.sought_ms = Some(at);
            effort.attempts.begin(at);
        }
    }

    /// The peer showed a sign of life elsewhere: it may be probing us in this very moment. At most once a minute.
    pub fn nudge(&mut self, now: Moment) {
        let at = now.uptime_ms();
        if self.active.is_some() || self.nudged_ms.is_some_and(|ms| ms + NUDGE_MS > at) {
            return;
        }
        self.nudged_ms = Some(at);
        self.failures = 0;
        if self.is_awake() {
            self.start_anew(now);
        }
    }

    /// Our own addresses changed: what worked may not work any more.
    pub fn shake(&mut self, now: Moment) {
        self.failures = 0;
        if !self.is_awake() {
            return;
        }
        self.start_anew(now);
        self.effort().calling.again();
        self.plan_call(now);
        if let Some(active) = &mut self.active {
            active.hurried = true;
            self.probe_ms = Some(now.uptime_ms());
        }
    }

    /// Others see this node elsewhere all at once: what its router knew is gone, and the peers know the old place.
    pub fn jolt(&mut self, now: Moment) {
        if !self.is_awake() || !self.is_wanted(now) {
            return;
        }
        self.effort().calling.again();
        self.plan_call(now);
        if let Some(active) = &mut self.active {
            active.hurried = true;
            self.probe_ms = Some(now.uptime_ms());
        }
    }

    fn start_anew(&mut self, now: Moment) {
        for candidate in self.candidates.values_mut() {
            // A ladder that was climbed from the old address, or before the peer was there, proves nothing.
            candidate.ladder = None;
        }
        self.effort().retries = 0;
        self.search(Cause::Life, now);
    }

    /// Somebody wants the peer now.
    pub(super) fn want(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let was_wanted = self.is_wanted(now);
        let was_idle = self.used_ms.is_none_or(|ms| ms + BUSY_MS < at);
        let was_awake = self.is_awake();
        self.used_ms = Some(at);
        self.effort();
        if !was_wanted {
            self.events.push_back(PathEvent::Wanted);
        }
        if !self.is_direct() {
            if was_idle || !was_awake {
                self.effort().retries = 0;
                self.search(Cause::Search, now);
            }
            self.lean_on_relay(now);
        }
        if !was_awake && self.active.is_some() {
            // It was kept by the peer's probes alone.
            self.probe_ms = Some(at);
        } else if was_idle {
            let soon = at + PROBE_BUSY_MS;
            self.probe_ms = self.probe_ms.map(|at| at.min(soon));
        }
    }

    pub(super) fn searches(&self) -> bool {
        self.candidates.values().any(|known| known.ladder.is_some())
    }

    /// The due steps of all ladders.
    pub(super) fn climb<R: Rng>(&mut self, means: &mut Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        let wanted = self.is_wanted(now);
        let tag = self.keys.tag_in();
        let mut targets = Vec::new();
        for (path, candidate) in self.candidates.iter_mut() {
            let Some(ladder) = candidate.step(at) else {
                continue;
            };
            if let Some(remote) = path.remote().filter(|_| !candidate.is_known(at)) {
                if !means.budget.take_probe(wanted, at) {
                    candidate.delay(CROWDED_MS);
                    continue;
                }
                if ladder.is_new() && !means.budget.take_burst(remote, tag, ladder.cause, at) {
                    candidate.ladder = None;
                    continue;
                }
            }
            candidate.climb(wanted);
            targets.push(*path);
        }
        for path in targets {
            self.probe(path, None, false, now, rng);
        }
        self.plan_retry(now);
    }

    /// After a search that found nothing, or no better than a relay, comes another.
    fn plan_retry(&mut self, now: Moment) {
        if self.searches() || self.candidates.is_empty() || self.is_direct() {
            return;
        }
        let relayed = self.answers();
        if relayed && !self.is_wanted(now) {
            return;
        }
        let Some(effort) = &mut self.effort else {
            return;
        };
        if effort.retry_ms.is_some() {
            return;
        }
        let gaps: &[u64] = if relayed {
            &RETRY_RELAYED_MS
        } else {
            &RETRY_MS
        };
        let gap = gaps[effort.retries.min(gaps.len() - 1)];
        effort.retries += 1;
        effort.retry_ms = Some(now.uptime_ms() + gap);
        if !relayed {
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// The next step of a search, uptime in milliseconds.
    pub(super) fn search_due_ms(&self) -> Option<u64> {
        let ladder = self.candidates.values().filter_map(Candidate::due_ms).min();
        let effort = self.effort.as_deref();
        let retry = effort.and_then(|effort| effort.retry_ms);
        ladder.into_iter().chain(retry).min()
    }

    /// What is not yet direct and waits for its next search.
    pub(super) fn retry_on_time(&mut self, now: Moment) {
        let due = |effort: &Effort| effort.retry_ms.is_some_and(|due| due <= now.uptime_ms());
        if self.effort.as_deref().is_some_and(due) {
            self.search(Cause::Search, now);
        }
    }

    /// The best path by a relay that did not fail lately.
    pub(super) fn best_relay(&self, at: u64) -> Option<Path> {
        const FAILED_MS: u64 = 10_000;
        let relayed = self.candidates.iter().filter(|(path, known)| {
            let failed = known.failed_ms.is_some_and(|ms| ms + FAILED_MS > at);
            path.remote().is_none() && !failed
        });
        let place = |path: &Path, known: &Candidate| {
            let kind: PathKind = kind_of(path);
            let fresh = known.answered_ms.is_some_and(|ms| ms + 60_000 > at);
            (kind, !fresh, known.rtt_us().unwrap_or(u64::MAX))
        };
        let best = relayed.min_by_key(|(path, known)| place(path, known));
        best.map(|(path, _)| *path)
    }
}
