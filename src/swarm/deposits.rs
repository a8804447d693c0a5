//! What strangers put at this node in the DHT: one size, for a while, so many in all and from one source.
//!
//! A place belongs to the first that puts there until that is too old: a DHT node that saw a place must not be able to
//! put junk there at other nodes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter::Empty;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use meshnode_protocol::limits::LOCATOR_BYTES;

use super::guard::Source;

/// How long a value is kept at most; who wants it longer puts it again.
pub(super) const DEPOSIT_TIME: Duration = Duration::from_secs(2 * 3600);
/// Values from everybody: 8 MiB.
const DEPOSITS_MAX: usize = 8192;
/// Values from one source: a household in a few networks, on two days.
const PER_SOURCE_MAX: usize = 64;
/// Bytes of a place.
const PLACE_BYTES: usize = 32;

/// Why a value is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it does not have the one size")]
    Size,
    #[error("the place is another's")]
    Taken,
    #[error("too many from one source")]
    Crowd,
    #[error("too many")]
    Full,
}

/// The values that are kept.
#[derive(Default)]
pub(super) struct Deposits {
    held: BTreeMap<Vec<u8>, Deposit>,
    by_source: BTreeMap<Source, usize>,
}

struct Deposit {
    record: Record,
    putter: PeerId,
    source: Source,
    until: Instant,
}

impl Deposits {
    /// Keeps a value that a peer put.
    pub(super) fn keep(
        &mut self,
        record: Record,
        putter: PeerId,
        source: Source,
        now: Instant,
    ) -> std::result::Result<(), Unfit> {
        let place = record.key.to_vec();
        if place.len() != PLACE_BYTES || record.value.len() != LOCATOR_BYTES {
            return Err(Unfit::Size);
        }
        let own = match self.held.get(&place).filter(|held| held.until > now) {
            Some(held) if held.putter != putter => return Err(Unfit::Taken),
            Some(_) => true,
            None => false,
        };
        if own {
            self.forget(&place);
        }
        if self.by_source.get(&source).copied().unwrap_or(0) >= PER_SOURCE_MAX {
            return Err(Unfit::Crowd);
        }
        if self.held.len() >= DEPOSITS_MAX {
            return Err(Unfit::Full);
        }
        let longest = now + DEPOSIT_TIME;
        let until = record.expires.map_or(longest, |wish| wish.min(longest));
        self.forget(&place);
        *self.by_source.entry(source).or_default() += 1;
        let deposit = Deposit {
            // Who asks for it is not told who put it.
            record: Record {
                publisher: None,
                expires: Some(until),
                ..record
            },
            putter,
            source,
            until,
        };
        self.held.insert(place, deposit);
        Ok(())
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let old = self.held.iter().filter(|(_, held)| held.until <= now);
        let old: Vec<_> = old.map(|(place, _)| place.clone()).collect();
        for place in old {
            self.forget(&place);
        }
    }

    fn forget(&mut self, place: &[u8]) {
        let Some(held) = self.held.remove(place) else {
            return;
        };
        if let Some(count) = self.by_source.get_mut(&held.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&held.source);
            }
        }
    }
}

impl RecordStore for Deposits {
    type RecordsIter<'a> = Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let held = self.held.get(key.as_ref())?;
        Some(Cow::Borrowed(&held.record))
    }

    /// Nothing is kept without [`Self::keep`].
    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, key: &RecordKey) {
        self.forget(key.as_ref());
    }

    /// Nothing is published again by itself.
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    /// There are no provider records.
    fn add_provider(&mut self, _: ProviderRecord) -> Result<()> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(place: u32, bytes: usize) -> Record {
        let mut key = vec![0; PLACE_BYTES];
        key[..4].copy_from_slice(&place.to_le_bytes());
        Record::new(key, vec![7; bytes])
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn source(last: u32) -> Source {
        Source::new(std::net::Ipv4Addr::from_bits(0xC000_0200 + last).into())
    }

    #[test]
    fn a_value_of_the_one_size_is_kept_and_no_other() {
        let (mut deposits, now) = (Deposits::default(), now());
        let putter = PeerId::random();
        let mut keep = |record| deposits.keep(record, putter, source(1), now);
        for bytes in [0, LOCATOR_BYTES - 1, LOCATOR_BYTES + 1, 65_536] {
            assert_eq!(keep(record(1, bytes)), Err(Unfit::Size));
        }
        let long = Record::new(vec![0; PLACE_BYTES + 1], vec![7; LOCATOR_BYTES]);
        assert_eq!(keep(long), Err(Unfit::Size));
        assert_eq!(keep(record(1, LOCATOR_BYTES)), Ok(()));
        assert!(deposits.get(&record(1, 0).key).is_some());
        assert!(deposits.get(&record(2, 0).key).is_none());
    }

    #[test]
    fn nobody_is_told_who_put_a_value() {
        let (mut deposits, now) = (Deposits::default(), now());
        let putter = PeerId::random();
        let signed = Record {
            publisher: Some(putter),
            ..record(1, LOCATOR_BYTES)
        };
        assert_eq!(deposits.keep(signed, putter, source(1), now), Ok(()));
        let held = deposits.get(&record(1, 0).key).unwrap();
        assert_eq!(held.publisher, None);
    }

    #[test]
    fn one_source_has_so_many_and_no_more_whatever_its_keys() {
        let (mut deposits, now) = (Deposits::default(), now());
        let mut keep = |place, from| {
            let record = record(place, LOCATOR_BYTES);
            deposits.keep(record, PeerId::random(), source(from), now)
        };
        for place in 0..u32::try_from(PER_SOURCE_MAX).unwrap() {
            assert_eq!(keep(place, 1), Ok(()));
        }
        assert_eq!(keep(9999, 1), Err(Unfit::Crowd));
        assert_eq!(keep(9999, 2), Ok(()));
    }

    #[test]
    fn all_sources_together_have_so_many_and_no_more() {
        let (mut deposits, now) = (Deposits::default(), now());
        let putter = PeerId::random();
        let most = u32::try_from(DEPOSITS_MAX).unwrap();
        for place in 0..most {
            let from = source(place / 64);
            assert_eq!(
                deposits.keep(record(place, LOCATOR_BYTES), putter, from, now),
                Ok(())
            );
        }
        let late = |deposits: &mut Deposits, now| {
            deposits.keep(record(most, LOCATOR_BYTES), putter, source(999), now)
        };
        assert_eq!(late(&mut deposits, now), Err(Unfit::Full));
        let later = now + DEPOSIT_TIME;
        deposits.expire(later);
        assert_eq!(late(&mut deposits, later), Ok(()));
        assert_eq!((deposits.held.len(), deposits.by_source.len()), (1, 1));
    }

    #[test]
    fn a_place_is_the_first_putters_until_its_value_is_too_old() {
        let (mut deposits, now) = (Deposits::default(), now());
        let [first, second] = [PeerId::random(), PeerId::random()];
        let mut keep =
            |putter, now| deposits.keep(record(1, LOCATOR_BYTES), putter, source(1), now);
        assert_eq!(keep(first, now), Ok(()));
        assert_eq!(keep(second, now), Err(Unfit::Taken));
        let later = now + DEPOSIT_TIME / 2;
        assert_eq!(keep(first, later), Ok(()));
        assert_eq!(keep(second, now + DEPOSIT_TIME), Err(Unfit::Taken));
        assert_eq!(keep(second, later + DEPOSIT_TIME), Ok(()));
        assert_eq!(deposits.by_source.get(&source(1)), Some(&1));
    }

    #[test]
    fn nobody_has_a_value_kept_longer_than_two_hours() {
        let (mut deposits, now) = (Deposits::default(), now());
        let forever = Record {
            expires: Some(now + 100 * DEPOSIT_TIME),
            ..record(1, LOCATOR_BYTES)
        };
        assert_eq!(
            deposits.keep(forever, PeerId::random(), source(1), now),
            Ok(())
        );
        let held = deposits.get(&record(1, 0).key).unwrap();
        assert_eq!(held.expires, Some(now + DEPOSIT_TIME));
    }
}
