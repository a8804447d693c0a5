//! How much a relay carried in this calendar month (UTC), both ways together and over restarts.
//!
//! The UDP half knows the calendar and goes on from what was written down; what circuits brought is added to it.

use std::fs;
use std::path::Path;

use meshnode_protocol::relay::exchange::Volume;

/// What circuits brought in this month, since the start.
#[derive(Debug, Default)]
pub(super) struct Month {
    number: u32,
    circuits: u64,
    /// What circuits had brought since the start at the last look.
    seen: u64,
}

/// What was written down.
pub(super) fn load(dir: &Path) -> Volume {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    let read = || {
        let (month, bytes) = text.trim().split_once(' ')?;
        Some(Volume {
            month: month.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    };
    read().unwrap_or_default()
}

/// Writes down what passed in all; a relay that cannot goes on, and says so.
pub(super) fn save(dir: &Path, all: Volume) {
    let fresh = dir.join("month.new");
    let text = format!("{} {}\n", all.month, all.bytes);
    let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, dir.join(FILE)));
    if let Err(error) = written {
        tracing::warn!(%error, "The volume of the month is not written down");
    }
}

impl Month {
    /// So many bytes came by circuits since the start; the UDP half counted so much in which month.
    pub(super) fn note(&mut self, came: u64, udp: Volume) {
        if udp.month != self.number {
            self.number = udp.month;
            self.circuits = 0;
        }
        self.circuits += came.saturating_sub(self.seen);
        self.seen = came;
    }

    /// What circuits brought.
    pub(super) const fn circuits(&self) -> u64 {
        self.circuits
    }

    /// What passed in all.
    pub(super) const fn all(&self, udp: Volume) -> Volume {
        let bytes = udp.bytes.saturating_add(self.circuits);
        Volume { bytes, ..udp }
    }
}

const FILE: &str = "month";

#[cfg(test)]
mod tests {
    use super::*;

    const fn udp(month: u32, bytes: u64) -> Volume {
        Volume { month, bytes }
    }

    #[test]
    fn both_ways_are_one_volume_and_a_restart_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Volume::default());
        let mut month = Month::default();
        month.note(100, udp(671, 7));
        month.note(250, udp(671, 9));
        assert_eq!(month.all(udp(671, 9)), udp(671, 259));
        save(dir.path(), month.all(udp(671, 9)));
        assert_eq!(load(dir.path()), udp(671, 259));
    }

    #[test]
    fn a_new_month_begins_at_nothing() {
        let mut month = Month::default();
        month.note(250, udp(671, 9));
        month.note(270, udp(672, 0));
        assert_eq!(month.circuits(), 20);
    }

    #[test]
    fn what_is_no_count_is_no_volume() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "671", "671 many\n", "x 7\n", "-1 7"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(load(dir.path()), Volume::default(), "{text}");
        }
    }
}
