//! The shared keys of the network, one an epoch, and what is sealed under them (`docs/protocol.md` §7.6).
//!
//! Keys are known by their commitments: two admins that cannot hear each other may start one epoch each of one number.

use crate::authority::Authority;
use crate::body::Body;
use crate::id::{Digest, NodeId};
use crate::locator::Locator;
use crate::seal::{EpochKey, Purpose, SealError, Sealer, gossip_topic};

/// How long messages under a key are opened after another took its place: a day.
pub const EPOCH_OVERLAP_MS: u64 = 24 * 3600 * 1000;

/// The epoch keys that this node holds.
#[derive(Debug, Default)]
pub struct Epochs {
    /// By number, then commitment.
    keys: Vec<Epoch>,
    /// Under which key this node seals: its commitment.
    current: Option<Digest>,
}

#[derive(Debug)]
struct Epoch {
    number: u32,
    commitment: Digest,
    key: EpochKey,
    gossip: Sealer,
    record: Sealer,
    /// When it is erased, uptime in milliseconds.
    until_ms: Option<u64>,
}

impl Epochs {
    /// Adds a key. One that is there stays. The first is sealed under until [`Self::follow`] says otherwise.
    pub fn insert(&mut self, number: u32, key: EpochKey) {
        let commitment = key.commitment();
        if self.holds(&commitment) {
            return;
        }
        self.keys.push(Epoch {
            number,
            commitment,
            gossip: Sealer::new(&key, Purpose::Gossip),
            record: Sealer::new(&key, Purpose::Record),
            key,
            until_ms: None,
        });
        self.keys
            .sort_by_key(|epoch| (epoch.number, epoch.commitment));
        self.current.get_or_insert(commitment);
    }

    /// Whether the key with a commitment is here.
    #[must_use]
    pub fn holds(&self, commitment: &Digest) -> bool {
        self.keys
            .iter()
            .any(|epoch| epoch.commitment == *commitment)
    }

    /// The key with a commitment, for a member that is owed it.
    #[must_use]
    pub fn key(&self, commitment: &Digest) -> Option<&EpochKey> {
        let mut keys = self.keys.iter();
        let epoch = keys.find(|epoch| epoch.commitment == *commitment)?;
        Some(&epoch.key)
    }

    /// Seals under the key with this commitment from now on, if it is here; all others are opened for a day more.
    /// Gives whether something changed.
    pub fn follow(&mut self, winner: &Digest, at_ms: u64) -> bool {
        let switched = self.holds(winner) && self.current != Some(*winner);
        if switched {
            self.current = Some(*winner);
        }
        for epoch in &mut self.keys {
            let used = Some(epoch.commitment) == self.current || epoch.commitment == *winner;
            if used {
                epoch.until_ms = None;
            } else {
                epoch.until_ms.get_or_insert(at_ms + EPOCH_OVERLAP_MS);
            }
        }
        switched
    }

    /// Erases the keys whose time is over. Gives whether any was.
    pub fn expire(&mut self, at_ms: u64) -> bool {
        let before = self.keys.len();
        self.keys
            .retain(|epoch| epoch.until_ms.is_none_or(|until| until > at_ms));
        self.keys.len() < before
    }

    /// When the next key is to be erased.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.keys.iter().filter_map(|epoch| epoch.until_ms).min()
    }

    /// Drops the keys to which no stored op commits. Gives whether any was.
    pub fn drop_foreign(&mut self, authority: &Authority) -> bool {
        let rekeys = authority
            .entries()
            .iter()
            .filter_map(|entry| match entry.op.body() {
                Body::Genesis(genesis) => Some((0, genesis.epoch_commitment)),
                Body::Rekey(rekey) => Some((rekey.epoch, rekey.commitment)),
                Body::Grant(_)
                | Body::Invite(_)
                | Body::Revoke(_)
                | Body::InviteClose(_)
                | Body::Policy(_)
                | Body::PolicyBase(_)
                | Body::Noop
                | Body::Opaque => None,
            });
        let known: std::collections::BTreeSet<_> = rekeys.collect();
        let before = self.keys.len();
        self.keys
            .retain(|epoch| known.contains(&(epoch.number, epoch.commitment)));
        if self.current.is_some_and(|current| !self.holds(&current)) {
            self.current = self.keys.last().map(|epoch| epoch.commitment);
        }
        self.keys.len() < before
    }

    fn current(&self) -> Option<&Epoch> {
        let current = self.current?;
        self.keys.iter().find(|epoch| epoch.commitment == current)
    }

    /// The number of the epoch that this node seals under.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.current().map_or(0, |epoch| epoch.number)
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> Option<[u8; 32]> {
        self.current().map(|epoch| gossip_topic(&epoch.key))
    }

    /// Seals a gossip message. `None` without any key.
    #[must_use]
    pub fn seal_gossip(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.current().map(|epoch| epoch.gossip.seal(plain))
    }

    /// Opens a gossip message of any epoch held.
    ///
    /// # Errors
    /// When no key opens it.
    pub fn open_gossip(&self, frame: &[u8]) -> Result<Vec<u8>, SealError> {
        self.open(frame, |epoch| &epoch.gossip)
    }

    /// Seals a record. `None` without any key.
    #[must_use]
    pub fn seal_record(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.current().map(|epoch| epoch.record.seal(plain))
    }

    /// Opens a record of any epoch held.
    ///
    /// # Errors
    /// When no key opens it.
    pub fn open_record(&self, frame: &[u8]) -> Result<Vec<u8>, SealError> {
        self.open(frame, |epoch| &epoch.record)
    }

    /// The locators of a device on a day, one for each epoch held: the one that is sealed under first, then the newest.
    pub fn locators(&self, device: NodeId, day: u32) -> impl Iterator<Item = Locator> {
        let mut epochs: Vec<&Epoch> = self.keys.iter().rev().collect();
        epochs.sort_by_key(|epoch| Some(epoch.commitment) != self.current);
        epochs
            .into_iter()
            .map(move |epoch| Locator::new(&epoch.key, &device, day))
    }

    fn open(&self, frame: &[u8], sealer: impl Fn(&Epoch) -> &Sealer) -> Result<Vec<u8>, SealError> {
        let mut result = Err(SealError::OtherKey);
        for epoch in self.keys.iter().rev() {
            result = sealer(epoch).open(frame);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Number and bytes of every key, ascending: for the secrets file.
    #[must_use]
    pub fn danger_keys(&self) -> Vec<(u32, [u8; 32])> {
        let keys = self.keys.iter();
        keys.map(|epoch| (epoch.number, *epoch.key.danger_bytes()))
            .collect()
    }

    /// The newest `count` of them: for a joiner. The one sealed under is among them.
    #[must_use]
    pub fn danger_newest(&self, count: usize) -> Vec<(u32, [u8; 32])> {
        let current = self.current();
        let others = self.keys.iter().rev();
        let others = others.filter(|epoch| Some(epoch.commitment) != self.current);
        let mut keys: Vec<_> = current
            .into_iter()
            .chain(others)
            .take(count)
            .map(|epoch| (epoch.number, *epoch.key.danger_bytes()))
            .collect();
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> EpochKey {
        EpochKey::from_bytes(&[byte; 32])
    }

    #[test]
    fn a_key_that_lost_its_place_opens_for_a_day_and_is_then_erased() {
        let mut epochs = Epochs::default();
        epochs.insert(0, key(1));
        let old = epochs.seal_record(b"old").unwrap();
        epochs.insert(1, key(2));
        assert_eq!(epochs.number(), 0, "a key alone switches nothing");
        assert!(epochs.follow(&key(2).commitment(), 1000));
        assert!(!epochs.follow(&key(2).commitment(), 2000));
        assert_eq!(epochs.number(), 1);
        assert!(!epochs.expire(1000 + EPOCH_OVERLAP_MS - 1));
        assert_eq!(epochs.open_record(&old).unwrap(), b"old");
        assert!(epochs.expire(1000 + EPOCH_OVERLAP_MS));
        assert_eq!(epochs.open_record(&old), Err(SealError::OtherKey));
        assert_eq!(epochs.danger_keys(), vec![(1, [2; 32])]);
    }

    #[test]
    fn of_two_keys_of_one_number_the_one_that_won_is_sealed_under() {
        let mut epochs = Epochs::default();
        epochs.insert(1, key(1));
        epochs.insert(1, key(2));
        for winner in [1, 2, 1] {
            epochs.follow(&key(winner).commitment(), 0);
            let mut alone = Epochs::default();
            alone.insert(1, key(winner));
            assert_eq!(epochs.topic(), alone.topic());
            let frame = epochs.seal_gossip(b"hello").unwrap();
            assert_eq!(alone.open_gossip(&frame).unwrap(), b"hello");
        }
    }

    #[test]
    fn without_the_winner_the_last_key_goes_on() {
        let mut epochs = Epochs::default();
        epochs.insert(0, key(1));
        assert!(!epochs.follow(&key(9).commitment(), 0));
        assert!(!epochs.expire(u64::MAX));
        assert_eq!(epochs.number(), 0);
        assert!(epochs.seal_gossip(b"hello").is_some());
    }

    #[test]
    fn a_joiner_is_given_the_key_in_use_and_the_newest_others() {
        let mut epochs = Epochs::default();
        for number in 0..6 {
            epochs.insert(number, key(number as u8));
        }
        epochs.follow(&key(1).commitment(), 0);
        let numbers: Vec<_> = epochs.danger_newest(3).iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, [1, 4, 5]);
    }
}
