//! How much passes: buckets of bytes, the volume of a month, and what passed lately.

use crate::time::{Moment, Timestamp};

/// How long a burst may last at the full rate, nanoseconds.
const BURST_NS: u64 = 250_000_000;
/// A burst may have so many bytes in any case: two trains.
const BURST_BYTES: u64 = 128 * 1024;
const SECOND_NS: u64 = 1_000_000_000;
/// The rate that is told is of the last whole window of this length.
const WINDOW_MS: u64 = 10_000;
/// The last day of the year 9999: what a clock says beyond is as good.
const DAYS_MAX: u64 = 2_932_896;
/// Leap days before 1970.
const LEAPS_BEFORE_1970: u64 = 477;

/// A rate that is kept by one number: when the bucket will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    full_ns: u64,
}

impl Bucket {
    /// What the bucket becomes when it gives so much at a rate a second; `None` if it has not so much.
    pub(super) fn give(self, bytes: u64, rate: u64, now: Moment) -> Option<Self> {
        let burst = BURST_NS.max(time_of(BURST_BYTES, rate));
        self.give_within(time_of(bytes, rate), burst, now)
    }

    /// The same for events: one, of at most `rate` a second and in one burst.
    pub(super) fn give_one(self, rate: u64, now: Moment) -> Option<Self> {
        self.give_within(time_of(1, rate), SECOND_NS, now)
    }

    fn give_within(self, cost_ns: u64, burst_ns: u64, now: Moment) -> Option<Self> {
        let now_ns = now.uptime_us.saturating_mul(1000);
        let full_ns = self.full_ns.max(now_ns).saturating_add(cost_ns);
        (full_ns - now_ns <= burst_ns).then_some(Self { full_ns })
    }

    pub(super) const fn is_full(self, now: Moment) -> bool {
        self.full_ns <= now.uptime_us.saturating_mul(1000)
    }
}

const fn time_of(amount: u64, rate: u64) -> u64 {
    let rate = if rate == 0 { 1 } else { rate };
    amount.saturating_mul(SECOND_NS) / rate
}

/// What passed in a calendar month (UTC), to be kept over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Months since January 1970.
    pub month: u32,
    /// Bytes.
    pub bytes: u64,
}

/// Counts the volume; knows where the month ends, so that a datagram costs two comparisons.
#[derive(Debug, Default)]
pub(super) struct Month {
    volume: Volume,
    begins: Timestamp,
    ends: Timestamp,
}

impl Month {
    pub(super) fn resume(&mut self, volume: Volume) {
        self.volume = volume;
        (self.begins, self.ends) = bounds(volume.month);
    }

    /// The volume of the month that the wall clock says.
    pub(super) fn volume(&mut self, now: Moment) -> Volume {
        if now.wall < self.begins || now.wall >= self.ends {
            let month = month_of(now.wall);
            self.resume(Volume { month, bytes: 0 });
        }
        self.volume
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.volume.bytes = self.volume.bytes.saturating_add(bytes);
    }
}

/// Months since January 1970, by the Gregorian calendar.
fn month_of(time: Timestamp) -> u32 {
    let days = (time.ms() / 86_400_000).min(DAYS_MAX);
    // No month is longer than 31 days, so this one is not beyond, and few steps before.
    let mut month = u32::try_from(days / 31).expect("below the year 10000");
    while first_day(month + 1) <= days {
        month += 1;
    }
    month
}

/// The day, since 1970, on which a month begins.
fn first_day(month: u32) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let year = 1970 + u64::from(month / 12);
    let index = usize::try_from(month % 12).expect("below twelve");
    // February is behind January and February themselves.
    let past = if index < 2 { year - 1 } else { year };
    let leaps = past / 4 - past / 100 + past / 400;
    365 * (year - 1970) + leaps - LEAPS_BEFORE_1970 + BEFORE[index]
}

fn bounds(month: u32) -> (Timestamp, Timestamp) {
    let ms = |month| Timestamp::from_ms(first_day(month).saturating_mul(86_400_000));
    (ms(month), ms(month.saturating_add(1)))
}

/// What passed in the last whole window.
#[derive(Debug, Default)]
pub(super) struct Meter {
    window: u64,
    bytes: u64,
    before: u64,
}

impl Meter {
    pub(super) fn add(&mut self, bytes: u64, now: Moment) {
        self.turn(now);
        self.bytes += bytes;
    }

    /// Bits a second.
    pub(super) fn rate(&mut self, now: Moment) -> u64 {
        self.turn(now);
        self.before * 8 / (WINDOW_MS / 1000)
    }

    fn turn(&mut self, now: Moment) {
        let window = now.uptime_ms() / WINDOW_MS;
        if window != self.window {
            let follows = window == self.window + 1;
            self.before = if follows { self.bytes } else { 0 };
            (self.bytes, self.window) = (0, window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment {
            uptime_us: ms * 1000,
            wall: Timestamp::from_ms(ms),
        }
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        // Days from 1970 to the first of: March 2000, March 2024, January 2026, March 2100.
        for (month, day) in [
            (0, 0),
            (362, 11_017),
            (650, 19_783),
            (672, 20_454),
            (1562, 47_541),
        ] {
            assert_eq!(first_day(month), day);
            assert_eq!(month_of(Timestamp::from_ms(day * 86_400_000)), month);
            if let Some(eve) = (day * 86_400_000).checked_sub(1) {
                assert_eq!(month_of(Timestamp::from_ms(eve)), month - 1);
            }
        }
    }

    #[test]
    fn a_month_counts_from_nothing() {
        let mut month = Month::default();
        let april = |day: u64| at(first_day(675) * 86_400_000 + day * 86_400_000);
        month.resume(Volume {
            month: 675,
            bytes: 7,
        });
        month.add(3);
        assert_eq!(month.volume(april(29)).bytes, 10);
        let may = Volume {
            month: 676,
            bytes: 0,
        };
        assert_eq!(month.volume(april(30)), may);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = 1_000_000;
        let mut bucket = Bucket::default();
        let mut given = 0;
        while let Some(next) = bucket.give(1000, rate, at(5000)) {
            bucket = next;
            given += 1000;
        }
        assert_eq!(given, 250_000);
        for ms in 5001..6001 {
            let next = bucket.give(1000, rate, at(ms));
            bucket = next.expect("a thousand bytes came back");
            assert!(bucket.give(1000, rate, at(ms)).is_none());
        }
        assert!(!bucket.is_full(at(6249)) && bucket.is_full(at(6250)));
    }

    #[test]
    fn the_rate_is_of_the_last_whole_window() {
        let mut meter = Meter::default();
        meter.add(10_000, at(1));
        assert_eq!(meter.rate(at(9999)), 0);
        assert_eq!(meter.rate(at(10_000)), 8000);
        assert_eq!(meter.rate(at(20_000)), 0);
    }
}
