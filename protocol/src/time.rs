//! Time as the core sees it: numbers that the caller brings. No clock is read in this crate.

use serde::{Deserialize, Serialize};

/// Wall time: milliseconds since 1970-01-01 UTC. Advisory everywhere: no right depends on it but an expiry.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Later by `ms` milliseconds; stops at the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The moment of an input: a monotonic count for deadlines and the wall clock for dates
/// (`docs/decisions/0002-two-clocks.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since some start; counts sleep; never steps back. Deadlines are told in it.
    pub uptime_us: u64,
    /// What the machine's clock says; may be wrong and may jump.
    pub wall: Timestamp,
}

impl Moment {
    /// The uptime in whole milliseconds.
    #[must_use]
    pub const fn uptime_ms(self) -> u64 {
        self.uptime_us / 1000
    }
}
