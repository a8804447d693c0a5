//! Tells a standing queue from a burst, and how often it is to lose a packet: CoDel (RFC 8289) on the busy period.
//!
//! The queues before us, the device's and the socket's, do not say how long a packet waited. But a queue that was never
//! found empty for a whole interval is a standing one, and then the sender has to hear of it.

/// How long a queue may be busy before that counts: the time that a burst of some Gbit/s needs to pass.
const INTERVAL_US: u64 = 5_000;

/// More losses in a row bring no shorter pauses: a twentieth of the interval.
const LOST_MAX: u32 = 400;

/// After so long without a loss the next busy period begins as mildly as the first (RFC 8289 §5.6).
const FORGOTTEN_US: u64 = 16 * INTERVAL_US;

/// How long one queue has not been empty.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    since_us: Option<u64>,
    next_us: Option<u64>,
    lost: u32,
    lost_us: u64,
}

impl Standing {
    /// The queue is empty.
    pub(crate) fn empty(&mut self) {
        self.since_us = None;
        self.next_us = None;
        self.lost = self.lost.saturating_sub(1);
    }

    /// Whether one packet of what was just taken from the queue is to be lost, if it has one that can be.
    pub(crate) fn loses(&mut self, now_us: u64, can_lose: bool) -> bool {
        let since = *self.since_us.get_or_insert(now_us);
        let due = self.next_us.unwrap_or(since + INTERVAL_US);
        if now_us < due || !can_lose {
            return false;
        }
        if now_us - self.lost_us > FORGOTTEN_US {
            self.lost = 0;
        }
        self.lost = (self.lost + 1).min(LOST_MAX);
        self.lost_us = now_us;
        // The root of the count, in thousandths.
        let root = (u64::from(self.lost) * 1_000_000).isqrt();
        self.next_us = Some(now_us + INTERVAL_US * 1000 / root);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of a queue that stands for ten intervals.
    fn losses(standing: &mut Standing, from: u64) -> usize {
        let times = (from..from + 10 * INTERVAL_US).step_by(10);
        times.filter(|us| standing.loses(*us, true)).count()
    }

    #[test]
    fn a_burst_loses_nothing_and_a_standing_queue_more_and_more() {
        let mut standing = Standing::default();
        for us in (0..INTERVAL_US).step_by(10) {
            assert!(!standing.loses(us, true));
        }
        standing.empty();
        let first = losses(&mut standing, INTERVAL_US);
        let then = losses(&mut standing, 11 * INTERVAL_US);
        assert!(first >= 9 && then > first, "{first}, {then}");
    }

    #[test]
    fn an_empty_queue_begins_anew() {
        let mut standing = Standing::default();
        assert!(!standing.loses(0, true));
        assert!(standing.loses(INTERVAL_US, true));
        standing.empty();
        assert!(!standing.loses(INTERVAL_US + 1, true));
        assert!(standing.loses(2 * INTERVAL_US + 1, true));
    }

    #[test]
    fn a_rest_makes_the_next_busy_period_as_mild_as_the_first() {
        let mut standing = Standing::default();
        let first = losses(&mut standing, 0);
        losses(&mut standing, 10 * INTERVAL_US);
        standing.empty();
        assert_eq!(losses(&mut standing, 1000 * INTERVAL_US), first);
    }

    #[test]
    fn packets_that_cannot_be_lost_make_it_no_harder_for_others() {
        let mut standing = Standing::default();
        for us in (0..200 * INTERVAL_US).step_by(10) {
            assert!(!standing.loses(us, false));
        }
        assert!(standing.loses(200 * INTERVAL_US, true));
        assert!(!standing.loses(200 * INTERVAL_US + INTERVAL_US - 1, true));
    }
}
