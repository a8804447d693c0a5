//! Tells a standing queue from a burst, and how often it is to lose a packet: CoDel (RFC 8289) on the busy period.
//!
//! The queues before us, the device's and the socket's, do not say how long a packet waited. But a queue that was never
//! found empty for a whole interval is a standing one, and then the sender has to hear of it.

/// How long a queue may be busy before that counts: the time that a burst of some Gbit/s needs to pass.
const INTERVAL_US: u64 = 5_000;

/// More losses in a row bring no shorter pauses: a twentieth of the interval.
const LOST_MAX: u32 = 400;

/// How long one queue has not been empty.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    since_us: Option<u64>,
    next_us: Option<u64>,
    lost: u32,
}

impl Standing {
    /// The queue is empty.
    pub(crate) fn empty(&mut self) {
        self.since_us = None;
        self.next_us = None;
        self.lost = self.lost.saturating_sub(1);
    }

    /// Whether one packet of what was just taken from the queue is to be lost.
    pub(crate) fn loses(&mut self, now_us: u64) -> bool {
        let since = *self.since_us.get_or_insert(now_us);
        let due = self.next_us.unwrap_or(since + INTERVAL_US);
        if now_us < due {
            return false;
        }
        self.lost = (self.lost + 1).min(LOST_MAX);
        // The root of the count, in thousandths.
        let root = (u64::from(self.lost) * 1_000_000).isqrt();
        self.next_us = Some(now_us + INTERVAL_US * 1000 / root);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_loses_nothing_and_a_standing_queue_more_and_more() {
        let mut standing = Standing::default();
        for us in (0..INTERVAL_US).step_by(10) {
            assert!(!standing.loses(us));
        }
        standing.empty();
        let losses = |standing: &mut Standing, from: u64| {
            let times = (from..from + 10 * INTERVAL_US).step_by(10);
            times.filter(|us| standing.loses(*us)).count()
        };
        let first = losses(&mut standing, INTERVAL_US);
        let then = losses(&mut standing, 11 * INTERVAL_US);
        assert!(first >= 9 && then > first, "{first}, {then}");
    }

    #[test]
    fn an_empty_queue_begins_anew() {
        let mut standing = Standing::default();
        assert!(!standing.loses(0));
        assert!(standing.loses(INTERVAL_US));
        standing.empty();
        assert!(!standing.loses(INTERVAL_US + 1));
        assert!(standing.loses(2 * INTERVAL_US + 1));
    }
}
