//! One address where a peer might be: its ladder of probes, and the budget that keeps it from being a weapon.

use crate::record::CandidateKind;

/// When the probes of a ladder leave, milliseconds after its start.
const LADDER_MS: [u64; 8] = [0, 50, 100, 150, 250, 450, 850, 1650];
/// Ladders that an address which never answered gets at first.
pub(super) const BURSTS_MAX: u8 = 3;
/// After which one more is allowed.
const BURST_REFILL_MS: u64 = 20 * 60 * 1000;

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) source: Option<CandidateKind>,
    pub(super) answered_ms: Option<u64>,
    pub(super) probed_ms: Option<u64>,
    /// The newest round trips, the newest first.
    pub(super) rtts_us: Vec<u64>,
    pub(super) ladder: Option<(u64, usize)>,
    pub(super) bursts: u8,
    pub(super) refill_ms: u64,
}

impl Candidate {
    pub(super) fn start_ladder(&mut self, at: u64) {
        if self.ladder.is_none() && self.take_burst(at) {
            self.ladder = Some((at, 0));
        }
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        let (start, step) = self.ladder?;
        Some(
            start
                + LADDER_MS
                    .get(step)
                    .copied()
                    .unwrap_or(LADDER_MS[LADDER_MS.len() - 1]),
        )
    }

    /// Takes the due step; gives whether to probe.
    pub(super) fn climb(&mut self, at: u64) -> bool {
        let Some((start, step)) = self
            .ladder
            .filter(|_| self.due_ms().is_some_and(|due| due <= at))
        else {
            return false;
        };
        if step == LADDER_MS.len() || self.answered_ms.is_some_and(|answered| answered >= start) {
            self.ladder = None;
            return false;
        }
        self.ladder = Some((start, step + 1));
        true
    }

    /// Takes one ladder from the budget; free for an address that answered in the last day.
    pub(super) fn take_burst(&mut self, at: u64) -> bool {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        if self
            .answered_ms
            .is_some_and(|answered| answered + DAY_MS > at)
        {
            return true;
        }
        if self.bursts < BURSTS_MAX && at >= self.refill_ms + BURST_REFILL_MS {
            self.bursts += 1;
            self.refill_ms = at;
        }
        if self.bursts == 0 {
            return false;
        }
        self.bursts -= 1;
        true
    }
}
