//! One path by which a peer might be reached: its ladder of probes, and how it answered.

use super::budget::Cause;
use crate::record::CandidateKind;

/// When the probes of a ladder leave, milliseconds after its start.
const LADDER_MS: [u64; 8] = [0, 50, 100, 150, 250, 450, 850, 1650];
/// How long an address that answered once is probed without an account.
const KNOWN_MS: u64 = 24 * 3600 * 1000;
/// Round trips remembered.
const RTTS_KEPT: usize = 5;

#[derive(Debug, Clone, Copy)]
pub(super) struct Ladder {
    start_ms: u64,
    step: usize,
    pub(super) cause: Cause,
}

#[derive(Debug, Default)]
pub(super) struct Candidate {
    pub(super) source: Option<CandidateKind>,
    pub(super) answered_ms: Option<u64>,
    pub(super) probed_ms: Option<u64>,
    /// When the peer itself was last heard by it, authentic.
    pub(super) heard_ms: Option<u64>,
    /// Of a relay's: when it carried packets unproven, and nothing came back.
    pub(super) failed_ms: Option<u64>,
    /// The newest round trips, the newest first.
    pub(super) rtts_us: Vec<u32>,
    pub(super) ladder: Option<Ladder>,
    /// Bytes of an inner packet that were proven to pass.
    pub(super) mtu: Option<u16>,
}

impl Candidate {
    pub(super) fn start_ladder(&mut self, cause: Cause, at: u64) {
        match &mut self.ladder {
            None => {
                self.ladder = Some(Ladder {
                    start_ms: at,
                    step: 0,
                    cause,
                });
            }
            Some(ladder) => ladder.cause = ladder.cause.max(cause),
        }
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        let ladder = self.ladder?;
        let after = LADDER_MS.get(ladder.step).copied();
        Some(ladder.start_ms + after.unwrap_or(LADDER_MS[LADDER_MS.len() - 1]))
    }

    /// The ladder, if a step of it is due. One that is through, or was answered, ends.
    pub(super) fn step(&mut self, at: u64) -> Option<Ladder> {
        let ladder = self.ladder?;
        if self.due_ms()? > at {
            return None;
        }
        let answered = self.answered_ms.is_some_and(|ms| ms >= ladder.start_ms);
        if ladder.step >= LADDER_MS.len() || answered {
            self.ladder = None;
        }
        self.ladder
    }

    /// Counts the step that is due as taken. For a peer that nobody wants, two of three are left out.
    pub(super) fn climb(&mut self, wanted: bool) {
        if let Some(ladder) = &mut self.ladder {
            ladder.step += if wanted { 1 } else { 3 };
        }
    }

    /// Does everything that is left of the ladder so much later.
    pub(super) fn delay(&mut self, ms: u64) {
        if let Some(ladder) = &mut self.ladder {
            ladder.start_ms += ms;
        }
    }

    /// Whether it answered in the last day, so that it is no stranger's address.
    pub(super) fn is_known(&self, at: u64) -> bool {
        self.answered_ms.is_some_and(|ms| ms + KNOWN_MS > at)
    }

    pub(super) fn answered(&mut self, rtt_us: Option<u64>, at: u64) {
        self.answered_ms = Some(at);
        self.heard_ms = Some(at);
        self.failed_ms = None;
        if let Some(rtt_us) = rtt_us {
            self.rtts_us.truncate(RTTS_KEPT - 1);
            let rtt_us = u32::try_from(rtt_us).unwrap_or(u32::MAX);
            self.rtts_us.insert(0, rtt_us);
        }
    }

    /// The smallest recent round trip.
    pub(super) fn rtt_us(&self) -> Option<u64> {
        self.rtts_us.iter().min().copied().map(u64::from)
    }

    /// The largest recent round trip: how long an answer may take.
    pub(super) fn slowest_ms(&self) -> u64 {
        let slowest = self.rtts_us.iter().max().copied();
        slowest.map_or(0, |us| u64::from(us / 1000))
    }
}

impl Ladder {
    pub(super) const fn is_new(&self) -> bool {
        self.step == 0
    }
}
