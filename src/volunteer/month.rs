//! How much a relay carried in this calendar month (UTC), over restarts.

use std::fs;
use std::path::Path;

use meshnode_protocol::time::Timestamp;

use crate::units;

/// The count of one month.
#[derive(Debug)]
pub(super) struct Month {
    /// As `2026-11`.
    name: String,
    /// Bytes of the month.
    bytes: u64,
    /// What had come since the start at the last look.
    seen: u64,
}

impl Month {
    /// What was written down of the month that `now` is in.
    pub(super) fn load(dir: &Path, now: Timestamp) -> Self {
        let name = name(now);
        let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
        let bytes = text
            .split_once(' ')
            .filter(|(month, _)| *month == name)
            .and_then(|(_, bytes)| bytes.trim().parse().ok());
        Self {
            name,
            bytes: bytes.unwrap_or(0),
            seen: 0,
        }
    }

    /// So many bytes came since the start.
    pub(super) fn note(&mut self, came: u64, now: Timestamp) {
        let name = name(now);
        if name != self.name {
            self.name = name;
            self.bytes = 0;
        }
        self.bytes += came.saturating_sub(self.seen);
        self.seen = came;
    }

    /// Bytes of the month.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes it down; a relay that cannot goes on, and says so.
    pub(super) fn save(&self, dir: &Path) {
        let fresh = dir.join("month.new");
        let text = format!("{} {}\n", self.name, self.bytes);
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, dir.join(FILE)));
        if let Err(error) = written {
            tracing::warn!(%error, "The volume of the month is not written down");
        }
    }
}

fn name(time: Timestamp) -> String {
    units::date(time).chars().take("2026-11".len()).collect()
}

const FILE: &str = "month";

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: Timestamp = Timestamp::from_ms(1_795_284_240_000);
    const DECEMBER: Timestamp = Timestamp::from_ms(1_795_284_240_000 + 20 * 86_400_000);

    #[test]
    fn a_month_goes_on_after_a_restart_and_the_next_one_begins_at_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut month = Month::load(dir.path(), NOVEMBER);
        month.note(100, NOVEMBER);
        month.note(250, NOVEMBER);
        month.save(dir.path());
        let mut again = Month::load(dir.path(), NOVEMBER);
        assert_eq!(again.bytes(), 250);
        again.note(50, NOVEMBER);
        assert_eq!(again.bytes(), 300);
        again.note(70, DECEMBER);
        assert_eq!(again.bytes(), 20);
        assert_eq!(Month::load(dir.path(), DECEMBER).bytes(), 0);
    }

    #[test]
    fn what_is_no_count_is_no_month() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "2026-11", "2026-11 many\n", "x 7\n"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(Month::load(dir.path(), NOVEMBER).bytes(), 0, "{text}");
        }
    }
}
