//! How large packets may be on the path in use: padded probes tell (`docs/protocol.md` §8.4).

use rand_core::Rng;

use super::{BUSY_MS, Flight, PathEvent, PeerPath};
use crate::peering::Path;
use crate::probe::PROBE_BYTES_MIN;
use crate::time::Moment;

/// Inner packets that are tried, the largest first, bytes.
const SIZES: [u16; 3] = [1420, 1400, 1340];
/// What WireGuard adds to an inner packet.
const WIREGUARD_BYTES: u16 = 32;
/// Unanswered probes after which a size does not pass.
const TRIES_MAX: u8 = 3;
/// Between two of them.
const TRY_MS: u64 = 500;
/// Between two probes of a size that passes.
const AGAIN_MS: u64 = 5_000;
/// After which a larger size is tried anew.
const ANEW_MS: u64 = 600_000;

/// The probes of sizes on the path in use.
#[derive(Debug, Default)]
pub(super) struct Sizing {
    /// The size that is tried; none after the last.
    step: usize,
    tries: u8,
    next_ms: Option<u64>,
    begun_ms: u64,
}

impl Sizing {
    /// The path in use is another one.
    pub(super) const fn restart(&mut self) {
        self.step = 0;
        self.tries = 0;
        self.next_ms = None;
        self.begun_ms = 0;
    }

    pub(super) const fn due_ms(&self) -> Option<u64> {
        self.next_ms
    }
}

impl PeerPath {
    /// Begins to try sizes when packets flow on a direct path that was proven.
    pub(super) fn plan_sizes(&mut self, now: Moment) {
        let at = now.uptime_ms();
        if !self.is_direct() || !self.answers() {
            return;
        }
        let sizing = &mut self.effort().sizing;
        if sizing.next_ms.is_none() && (sizing.begun_ms == 0 || sizing.begun_ms + ANEW_MS <= at) {
            sizing.step = 0;
            sizing.tries = 0;
            sizing.begun_ms = at;
            sizing.next_ms = Some(at);
        }
    }

    pub(super) fn size_on_time<R: Rng>(&mut self, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        let busy = self.busy_ms.is_some_and(|ms| ms + BUSY_MS >= at);
        let ready = busy && self.is_direct() && self.answers();
        let path = self.active_path().copied();
        let (Some(effort), Some(path)) = (self.effort.as_deref_mut(), path) else {
            return;
        };
        let sizing = &mut effort.sizing;
        if sizing.next_ms.is_none_or(|due| due > at) {
            return;
        }
        if !ready {
            sizing.next_ms = None;
            return;
        }
        let failed = sizing.tries >= TRIES_MAX;
        if failed {
            sizing.step += 1;
            sizing.tries = 0;
        }
        let size = SIZES.get(sizing.step).copied();
        sizing.tries += 1;
        sizing.next_ms = size.map(|_| at + TRY_MS);
        let begins = sizing.step == 0 && sizing.begun_ms == at;
        if failed && !begins {
            self.size_fails(&path);
        }
        if let Some(size) = size {
            let flight = Flight {
                path,
                sent_us: now.uptime_us,
                command: None,
                on_active: false,
                size: Some(size),
            };
            let padding = usize::from(size + WIREGUARD_BYTES) - PROBE_BYTES_MIN;
            self.fly(flight, padding as u16, rng);
        }
    }

    /// What was proven once does not pass any more, or never did.
    fn size_fails(&mut self, path: &Path) {
        if let Some(known) = self.candidates.get_mut(path)
            && known.mtu.take().is_some()
        {
            self.events
                .push_back(PathEvent::Mtu(crate::limits::OVERLAY_MTU));
        }
    }

    /// A padded probe was answered.
    pub(super) fn size_passed(&mut self, path: &Path, size: u16, now: Moment) {
        if !self.uses(path) {
            return;
        }
        let Some(effort) = self.effort.as_deref_mut() else {
            return;
        };
        let sizing = &mut effort.sizing;
        if SIZES.get(sizing.step) != Some(&size) {
            return;
        }
        sizing.tries = 0;
        sizing.next_ms = Some(now.uptime_ms() + AGAIN_MS);
        if let Some(known) = self.candidates.get_mut(path)
            && known.mtu != Some(size)
        {
            known.mtu = Some(size);
            self.events.push_back(PathEvent::Mtu(size));
        }
    }
}
