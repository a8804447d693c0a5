//! Locators: where a device is, sealed, in a DHT that learns nothing (`docs/protocol.md` §7.9).
//!
//! Place and seal follow from the epoch key, the device and the day. Whoever keeps a locator sees 32 bytes that look
//! random and a value of one size; two locators have nothing in common, be they of one device on two days or of two
//! devices of one network. This room does not know the DHT, nor when a locator is put or asked for.

use std::fmt;

use zeroize::Zeroizing;

use crate::id::NodeId;
use crate::limits::LOCATOR_BYTES;
use crate::link::LocatorKey;
use crate::seal::{EpochKey, SEAL_OVERHEAD_BYTES, Sealer};
use crate::time::Timestamp;

const PLAIN_BYTES: usize = LOCATOR_BYTES - SEAL_OVERHEAD_BYTES;
const LENGTH_BYTES: usize = 2;
const DAY_MS: u64 = 86_400_000;

/// The locator of one device in one epoch on one day.
#[derive(Clone)]
pub struct Locator {
    key: LocatorKey,
    sealer: Sealer,
}

impl Locator {
    /// Derives the locator that every member with the epoch key derives.
    #[must_use]
    pub fn new(epoch: &EpochKey, device: &NodeId, day: u32) -> Self {
        let epoch = epoch.danger_bytes();
        let base = Zeroizing::new(blake3::derive_key("meshnode locator 1", epoch.as_ref()));
        let mut hasher = blake3::Hasher::new_keyed(&base);
        hasher.update(device.as_bytes());
        hasher.update(&day.to_le_bytes());
        let secret = Zeroizing::new(*hasher.finalize().as_bytes());
        let key = blake3::derive_key("meshnode locator key 1", secret.as_ref());
        Self {
            key: LocatorKey(key),
            sealer: Sealer::for_locator(&secret),
        }
    }

    /// The place in the DHT.
    #[must_use]
    pub const fn key(&self) -> LocatorKey {
        self.key
    }

    /// Seals the bytes of an Endpoints record; always [`LOCATOR_BYTES`] long. `None` when the record has no room.
    #[must_use]
    pub fn seal(&self, record: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(record.len()).ok()?;
        let mut plain = Vec::with_capacity(PLAIN_BYTES);
        plain.extend_from_slice(&length.to_le_bytes());
        plain.extend_from_slice(record);
        if plain.len() > PLAIN_BYTES {
            return None;
        }
        plain.resize(PLAIN_BYTES, 0);
        Some(self.sealer.seal(&plain))
    }

    /// Opens what a DHT node gave. `None` for anything that no member sealed for this place; the record inside is
    /// still to be checked like any other.
    #[must_use]
    pub fn open(&self, value: &[u8]) -> Option<Vec<u8>> {
        if value.len() != LOCATOR_BYTES {
            return None;
        }
        let plain = self.sealer.open(value).ok()?;
        let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>()?;
        let (record, padding) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        padding
            .iter()
            .all(|byte| *byte == 0)
            .then(|| record.to_vec())
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locator(..)")
    }
}

/// The day of a date: days since 1970, UTC.
#[must_use]
pub fn day_of(date: Timestamp) -> u32 {
    u32::try_from(date.ms() / DAY_MS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::Secret;

    const RECORD: &[u8] = b"where the device is";

    #[test]
    fn place_and_value_are_the_known_ones() {
        let locator = locator(7, 1, 20_000);
        assert_eq!(
            hex(&locator.key().0),
            "d3330474ff86efb824ba40121caf25d9c6b3079689c076b5e91963b5a98b8289"
        );
        let value = locator.seal(RECORD).unwrap();
        assert_eq!(
            blake3::hash(&value).to_hex().as_str(),
            "1f01e2352205186b512755a54bc7432d06de91839821d18f8ebf8b7fc36395c0"
        );
    }

    #[test]
    fn epoch_device_and_day_each_give_another_place_and_a_value_with_nothing_in_common() {
        let all = [
            locator(7, 1, 20_000),
            locator(8, 1, 20_000),
            locator(7, 2, 20_000),
            locator(7, 1, 20_001),
        ];
        for (one, other) in pairs(&all) {
            assert_ne!(one.key(), other.key());
            let values = [one, other].map(|locator| locator.seal(RECORD).unwrap());
            assert_eq!(common_run(&values[0], &values[1], 4), None);
            assert_eq!(one.open(&values[1]), None);
        }
    }

    #[test]
    fn a_value_has_one_size_and_shows_nothing_of_record_device_or_place() {
        let device = device(1);
        let locator = Locator::new(&EpochKey::from_bytes(&[7; 32]), &device, 20_000);
        let value = locator.seal(device.as_bytes()).unwrap();
        assert_eq!(value.len(), LOCATOR_BYTES);
        assert_eq!(
            locator.seal(b"").map(|value| value.len()),
            Some(LOCATOR_BYTES)
        );
        for shown in [device.as_bytes(), &locator.key().0] {
            assert_eq!(common_run(&value, shown, 4), None);
        }
        assert_eq!(common_run(&locator.key().0, device.as_bytes(), 4), None);
    }

    #[test]
    fn the_longest_record_has_room_and_a_longer_one_is_not_put() {
        let locator = locator(7, 1, 20_000);
        let longest = vec![9; PLAIN_BYTES - LENGTH_BYTES];
        let value = locator.seal(&longest).unwrap();
        assert_eq!(value.len(), LOCATOR_BYTES);
        assert_eq!(locator.open(&value), Some(longest));
        assert_eq!(locator.seal(&vec![9; PLAIN_BYTES - LENGTH_BYTES + 1]), None);
    }

    #[test]
    fn every_flipped_byte_and_every_other_length_is_refused() {
        let locator = locator(7, 1, 20_000);
        let value = locator.seal(RECORD).unwrap();
        for at in 0..value.len() {
            let mut bad = value.clone();
            bad[at] ^= 1;
            assert_eq!(locator.open(&bad), None, "byte {at}");
        }
        assert_eq!(locator.open(&value[1..]), None);
        assert_eq!(locator.open(&[&value[..], &[0]].concat()), None);
    }

    #[test]
    fn a_length_beyond_the_value_and_padding_that_is_not_zero_are_refused() {
        let locator = locator(7, 1, 20_000);
        let mut plain = vec![0; PLAIN_BYTES];
        plain[..2].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(locator.open(&locator.sealer.seal(&plain)), None);
        plain[..2].copy_from_slice(&3u16.to_le_bytes());
        plain[PLAIN_BYTES - 1] = 1;
        assert_eq!(locator.open(&locator.sealer.seal(&plain)), None);
    }

    #[test]
    fn a_day_ends_at_midnight() {
        assert_eq!(day_of(Timestamp::from_ms(DAY_MS - 1)), 0);
        assert_eq!(day_of(Timestamp::from_ms(DAY_MS)), 1);
        assert_eq!(day_of(Timestamp::from_ms(u64::MAX)), u32::MAX);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(record in prop::collection::vec(any::<u8>(), 0..900), day: u32) {
            let locator = locator(7, 1, day);
            let value = locator.seal(&record).unwrap();
            prop_assert_eq!(locator.open(&value), Some(record));
        }

        #[test]
        fn strange_values_never_open(value in prop::collection::vec(any::<u8>(), LOCATOR_BYTES)) {
            prop_assert_eq!(locator(7, 1, 0).open(&value), None);
        }
    }

    fn device(seed: u8) -> NodeId {
        NodeId::new(Secret::from_seed(&[seed; 32]).public())
    }

    fn locator(epoch: u8, seed: u8, day: u32) -> Locator {
        Locator::new(&EpochKey::from_bytes(&[epoch; 32]), &device(seed), day)
    }

    fn pairs(all: &[Locator]) -> impl Iterator<Item = (&Locator, &Locator)> {
        let ordered = move |one: usize| (0..all.len()).map(move |other| (one, other));
        (0..all.len())
            .flat_map(ordered)
            .filter(|(one, other)| one != other)
            .map(|(one, other)| (&all[one], &all[other]))
    }

    /// A run of `bytes` bytes that both have.
    fn common_run(one: &[u8], other: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let runs: std::collections::BTreeSet<_> = one.windows(bytes).collect();
        let common = other.windows(bytes).find(|run| runs.contains(run));
        common.map(<[u8]>::to_vec)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
