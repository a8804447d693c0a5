//! What is remembered of each pair for the operator: since when, how fast, how often slowed.

use std::collections::BTreeMap;

use meshnode_protocol::peering::Mailbox;
use meshnode_protocol::relay::exchange::PairReport;

use super::report::Pair;

/// The pairs that there are.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    known: BTreeMap<(Mailbox, Mailbox), Known>,
    /// When pairs were slowed lately, by the pair: one that ended was slowed all the same.
    slowed_s: BTreeMap<(Mailbox, Mailbox), u64>,
}

#[derive(Debug)]
struct Known {
    since_s: u64,
    /// Bytes and second of the last look, and the rate at it.
    bytes: u64,
    looked_s: u64,
    rate_bps: u64,
    report: PairReport,
}

impl Pairs {
    /// Takes a look, `now_s` seconds after any beginning.
    pub(super) fn note(&mut self, reports: &[PairReport], now_s: u64) {
        let mut known = BTreeMap::new();
        for report in reports {
            let bytes = report.bytes.0.saturating_add(report.bytes.1);
            let before = self.known.remove(&report.ends);
            // One that moved less than before is a new one of the same ends.
            let before = before.filter(|before| bytes >= before.bytes);
            let has_room = self.slowed_s.len() < SLOWED_MAX;
            if report.limited && (has_room || self.slowed_s.contains_key(&report.ends)) {
                self.slowed_s.insert(report.ends, now_s);
            }
            let (since_s, rate_bps) = before.map_or((now_s, 0), |before| {
                let span = now_s.saturating_sub(before.looked_s).max(1);
                (before.since_s, (bytes - before.bytes) * 8 / span)
            });
            let now = Known {
                since_s,
                bytes,
                looked_s: now_s,
                rate_bps,
                report: *report,
            };
            known.insert(report.ends, now);
        }
        self.known = known;
        self.slowed_s.retain(|_, at| *at + HOUR_S > now_s);
    }

    /// How many were slowed within the last hour.
    pub(super) fn slowed(&self) -> usize {
        self.slowed_s.len()
    }

    /// All, the fastest first.
    pub(super) fn report(&self, now_s: u64) -> Vec<Pair> {
        let mut pairs: Vec<_> = self.known.values().map(|known| known.pair(now_s)).collect();
        pairs.sort_by(|a, b| (b.rate_bps, &a.id).cmp(&(a.rate_bps, &b.id)));
        pairs
    }
}

impl Known {
    fn pair(&self, now_s: u64) -> Pair {
        let (low, high) = self.report.ends;
        Pair {
            id: id(low, high),
            since_s: now_s.saturating_sub(self.since_s),
            rate_bps: self.rate_bps,
            rx_bytes: self.report.bytes.0,
            tx_bytes: self.report.bytes.1,
            limited: self.report.limited,
        }
    }
}

/// A short name of two mailboxes: the same at every look, and nothing that could be used elsewhere.
fn id(low: Mailbox, high: Mailbox) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("meshnode relay pair 1");
    hasher.update(&low.0.to_le_bytes());
    hasher.update(&high.0.to_le_bytes());
    let text = hasher.finalize().to_hex();
    format!("p-{}", text[..ID_SYMBOLS].to_ascii_uppercase())
}

const HOUR_S: u64 = 3600;
/// Slowed pairs that are counted at most.
const SLOWED_MAX: usize = 16_384;
/// Few are alike among five hundred.
const ID_SYMBOLS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(ends: (u64, u64), bytes: (u64, u64), limited: bool) -> PairReport {
        PairReport {
            ends: (Mailbox(ends.0), Mailbox(ends.1)),
            bytes,
            limited,
        }
    }

    #[test]
    fn a_pair_has_the_rate_of_the_last_look_and_the_fastest_is_first() {
        let mut pairs = Pairs::default();
        pairs.note(&[moved((300, 400), (0, 0), false)], 100);
        let second = [
            moved((300, 400), (1_000, 250), false),
            moved((300, 500), (9, 9), true),
        ];
        pairs.note(&second, 110);
        pairs.note(&[moved((300, 400), (2_000, 500), false), second[1]], 120);
        let seen = pairs.report(130);
        assert_eq!((seen[0].rate_bps, seen[0].since_s), (1_000, 30));
        assert_eq!((seen[0].rx_bytes, seen[0].tx_bytes), (2_000, 500));
        assert_eq!((seen[1].rate_bps, seen[1].since_s), (0, 20));
        assert!(seen[1].limited && seen[0].id != seen[1].id);
        assert_eq!(pairs.slowed(), 1);
    }

    #[test]
    fn a_pair_that_ended_is_forgotten_and_its_slowing_after_an_hour() {
        let mut pairs = Pairs::default();
        pairs.note(&[moved((300, 400), (5, 5), true)], 10);
        pairs.note(&[], 20);
        assert_eq!((pairs.report(20).len(), pairs.slowed()), (0, 1));
        pairs.note(&[], 10 + HOUR_S);
        assert_eq!(pairs.slowed(), 0);
    }

    #[test]
    fn a_pair_that_began_anew_is_not_older_than_its_bytes() {
        let mut pairs = Pairs::default();
        pairs.note(&[moved((300, 400), (500, 500), false)], 10);
        pairs.note(&[moved((300, 400), (1, 1), false)], 20);
        assert_eq!(pairs.report(25)[0].since_s, 5);
    }
}
