//! So many in a second, and no more.

use meshnode_protocol::time::Moment;

/// What is left of a second's allowance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    per_second: u32,
    /// The second of uptime that is counted, and how many were asked for in it.
    second: u64,
    count: u32,
}

impl Allowance {
    /// Nothing is used up yet.
    pub(crate) const fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: 0,
            count: 0,
        }
    }

    /// Whether one more may be had.
    pub(crate) fn one_more(&mut self, now: Moment) -> bool {
        let second = now.uptime_ms() / 1000;
        if self.second != second {
            self.second = second;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::time::Timestamp;

    use super::*;

    #[test]
    fn each_second_has_its_own() {
        let mut allowance = Allowance::new(3);
        let mut had = |uptime_ms: u64| {
            let now = Moment {
                uptime_us: uptime_ms * 1000,
                wall: Timestamp::from_ms(0),
            };
            (0..5).filter(|_| allowance.one_more(now)).count()
        };
        assert_eq!((had(100), had(999), had(1000)), (3, 0, 3));
    }
}
