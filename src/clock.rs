//! The only room where a clock is read.

use std::time::{SystemTime, UNIX_EPOCH};

use meshnode_protocol::time::{Moment, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Both clocks of the machine: one for deadlines, one for dates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(());

impl Clock {
    /// A reader of the machine's clocks.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    /// What the clocks say: microseconds since boot, sleep included, and the wall clock.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment {
            uptime_us: uptime_us(),
            wall: wall(),
        }
    }
}

/// Microseconds since boot; counts sleep, never steps back.
fn uptime_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME since 2.6");
    let seconds = u64::try_from(time.tv_sec()).expect("no machine booted before it was on");
    let nanoseconds = u64::try_from(time.tv_nsec()).expect("nanoseconds are 0..1e9");
    seconds * 1_000_000 + nanoseconds / 1000
}

/// What the machine's wall clock says; 1970 when it stands before that.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one room that reads clocks"
)]
fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_never_steps_back_and_the_wall_clock_is_in_this_century() {
        let clock = Clock::new();
        let first = clock.now();
        let second = clock.now();
        assert!(second.uptime_us >= first.uptime_us);
        assert!(first.uptime_us > 0);
        assert!(first.wall.ms() > 946_684_800_000);
    }
}
