//! The shared keys of the network, one an epoch, and what is sealed under them (`docs/protocol.md` §7.6).

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::locator::Locator;
use crate::seal::{EpochKey, Purpose, SealError, Sealer, gossip_topic};

/// The epoch keys that this node holds.
#[derive(Debug, Default)]
pub struct Epochs {
    keys: BTreeMap<u32, Epoch>,
}

#[derive(Debug)]
struct Epoch {
    key: EpochKey,
    gossip: Sealer,
    record: Sealer,
}

impl Epochs {
    /// Adds a key. One that is there stays.
    pub fn insert(&mut self, number: u32, key: EpochKey) {
        self.keys.entry(number).or_insert_with(|| Epoch {
            gossip: Sealer::new(&key, Purpose::Gossip),
            record: Sealer::new(&key, Purpose::Record),
            key,
        });
    }

    /// The number of the newest epoch.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.keys.keys().next_back().copied().unwrap_or(0)
    }

    /// The topic of the newest epoch.
    #[must_use]
    pub fn topic(&self) -> Option<[u8; 32]> {
        self.keys
            .values()
            .next_back()
            .map(|epoch| gossip_topic(&epoch.key))
    }

    /// Seals a gossip message under the newest key. `None` without any key.
    #[must_use]
    pub fn seal_gossip(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys
            .values()
            .next_back()
            .map(|epoch| epoch.gossip.seal(plain))
    }

    /// Opens a gossip message of any epoch held.
    ///
    /// # Errors
    /// When no key opens it.
    pub fn open_gossip(&self, frame: &[u8]) -> Result<Vec<u8>, SealError> {
        self.open(frame, |epoch| &epoch.gossip)
    }

    /// Seals a record under the newest key. `None` without any key.
    #[must_use]
    pub fn seal_record(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys
            .values()
            .next_back()
            .map(|epoch| epoch.record.seal(plain))
    }

    /// Opens a record of any epoch held.
    ///
    /// # Errors
    /// When no key opens it.
    pub fn open_record(&self, frame: &[u8]) -> Result<Vec<u8>, SealError> {
        self.open(frame, |epoch| &epoch.record)
    }

    /// The locators of a device on a day, one for each epoch held, newest first.
    pub fn locators(&self, device: NodeId, day: u32) -> impl Iterator<Item = Locator> {
        let newest_first = self.keys.values().rev();
        newest_first.map(move |epoch| Locator::new(&epoch.key, &device, day))
    }

    fn open(&self, frame: &[u8], sealer: impl Fn(&Epoch) -> &Sealer) -> Result<Vec<u8>, SealError> {
        let mut result = Err(SealError::OtherKey);
        for epoch in self.keys.values().rev() {
            result = sealer(epoch).open(frame);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Number and bytes of every key, ascending: for the secrets file and for a joiner.
    #[must_use]
    pub fn danger_keys(&self) -> Vec<(u32, [u8; 32])> {
        self.keys
            .iter()
            .map(|(number, epoch)| (*number, *epoch.key.danger_bytes()))
            .collect()
    }
}
