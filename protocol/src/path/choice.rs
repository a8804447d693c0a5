//! Which path carries the packets.

use rand_core::Rng;

use super::means::extra_of;
use super::{Active, PathEvent, PeerPath, kind_of};
use crate::peering::Path;
use crate::time::Moment;

/// How long a path is kept after a change for the round trip's sake.
const HOLD_MS: u64 = 10_000;
/// Answers that a path has given before it is preferred for its round trip.
const SAMPLES_MIN: usize = 3;
/// A round trip that is less by no more than this is not better, microseconds; or by no more than a fifth.
const BETTER_US: u64 = 10_000;
/// What IPv6 may take longer.
const IPV6_US: u64 = 3000;

impl PeerPath {
    /// Whether a path that just answered is to carry the packets instead of the one that does.
    pub(super) fn better(&self, path: &Path, now: Moment) -> bool {
        let Some(active) = &self.active else {
            return true;
        };
        if active.path == *path {
            return false;
        }
        if active.suspect_ms.is_some() || active.proven_ms.is_none() {
            return true;
        }
        let (ours, theirs) = (kind_of(&active.path), kind_of(path));
        if ours != theirs {
            return theirs < ours;
        }
        let held = now.uptime_ms() < active.since_ms + HOLD_MS;
        let (Some(current), Some(new)) = (self.cost_us(&active.path), self.cost_us(path)) else {
            return false;
        };
        let known = self.candidates.get(path);
        let samples = known.map_or(0, |known| known.rtts_us.len());
        !held && samples >= SAMPLES_MIN && new + (current / 5).max(BETTER_US) < current
    }

    fn cost_us(&self, path: &Path) -> Option<u64> {
        let rtt_us = self.candidates.get(path)?.rtt_us()?;
        let bonus = match path.remote() {
            Some(remote) if remote.is_ipv6() => IPV6_US,
            Some(_) | None => 0,
        };
        Some(rtt_us.saturating_sub(bonus))
    }

    /// Packets travel by this path from now on; proven or not.
    pub(super) fn activate(&mut self, path: Path, proven_ms: Option<u64>, now: Moment) {
        let at = now.uptime_ms();
        self.active = Some(Active {
            path,
            since_ms: at,
            proven_ms,
            misses: 0,
            suspect_ms: None,
            hurried: false,
            idle_ms: 0,
        });
        self.flights
            .values_mut()
            .for_each(|flight| flight.on_active = false);
        self.probe_ms = Some(at);
        self.events.push_back(PathEvent::Active(Some(path)));
        let direct = path.remote().is_some();
        if let Some(effort) = &mut self.effort {
            effort.retries = 0;
            effort.sizing.restart();
            if direct {
                effort.sought_ms = None;
                effort.retry_ms = None;
            }
        }
        if let Some(mtu) = self.mtu() {
            self.events.push_back(PathEvent::Mtu(mtu));
        }
    }

    /// Sends packets by a relay, if there is one, while the path in use is in doubt or there is none.
    pub(super) fn lean_on_relay(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let doubtful = |active: &Active| active.suspect_ms.is_some();
        if !self.active.as_ref().is_none_or(doubtful) {
            return;
        }
        if let Some(active) = self.active.as_ref().filter(|a| a.path.remote().is_none()) {
            let path = active.path;
            if let Some(known) = self.candidates.get_mut(&path) {
                known.failed_ms = Some(at);
            }
        }
        if let Some(relay) = self.best_relay(at).filter(|path| !self.uses(path)) {
            self.activate(relay, None, now);
        }
    }

    /// The path in use is over.
    pub(super) fn lose(&mut self, now: Moment) {
        if let Some(active) = self.active.take()
            && let Some(known) = self.candidates.get_mut(&active.path)
            && active.path.remote().is_none()
        {
            known.failed_ms = Some(now.uptime_ms());
        }
        self.probe_ms = None;
        self.close_extras();
        if self.is_wanted(now) {
            self.lean_on_relay(now);
        }
        if self.active.is_none() {
            self.events.push_back(PathEvent::Active(None));
        }
        if self.is_awake() {
            self.search(super::budget::Cause::Search, now);
        }
    }

    /// Forgets the paths of extra sockets that are not in use: they are closed.
    pub(super) fn close_extras(&mut self) {
        let runs = self.effort.as_deref().is_some_and(|e| e.punching.runs());
        let extras = self.candidates.iter().map(|(path, _)| *path);
        let closed: Vec<_> = extras
            .filter(|path| extra_of(path).is_some() && !runs && !self.uses(path))
            .collect();
        for path in closed {
            self.candidates.remove(&path);
        }
    }

    /// Sends what persons asked for by the path that is in use now.
    pub(super) fn ask_for_persons<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let Some(path) = self.active.as_ref().map(|active| active.path) else {
            return;
        };
        let waiting = self.effort.iter().flat_map(|effort| &effort.waiting);
        let waiting: Vec<_> = waiting.map(|w| (w.command, w.seq)).collect();
        for command in waiting {
            self.probe(path, Some(command), true, now, rng);
        }
    }
}
