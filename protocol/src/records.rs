//! The stored set of device records: one register per slot, the newest stays (`docs/protocol.md` §5.1).
//!
//! It keeps records of whatever device; which devices may have any is the caller's rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Digest, NetworkId, NodeId};
use crate::limits::FOREIGN_RECORDS_MAX;
use crate::reconcile::{Index, short_hash};
use crate::record::{
    Endpoints, NodeRecord, Record, RecordBody, RecordError, RecordKind, Seen, Slot, Tip,
};

/// The registers.
#[derive(Clone, Debug, Default)]
pub struct Records {
    slots: BTreeMap<Slot, Record>,
    keys: BTreeMap<Digest, Slot>,
    index: Index,
    /// Who left: asked at every change of the authority.
    left: BTreeSet<NodeId>,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum RecordInserted {
    /// It is the newest of its slot now.
    Newest {
        /// The slot.
        slot: Slot,
        /// The slot of a foreign kind that made room for it.
        evicted: Option<Slot>,
    },
    /// The same or a newer one is here.
    Stale,
}

/// Whether a new slot finds room.
enum Room {
    Free,
    /// That of this one.
    Of(Slot),
    None,
}

impl Records {
    /// Takes a record's bytes: stale ones are dropped before their signature is checked.
    ///
    /// # Errors
    /// When the bytes are no record of the network.
    pub fn insert(
        &mut self,
        bytes: &[u8],
        network: &NetworkId,
    ) -> Result<RecordInserted, RecordError> {
        if let Some((slot, seq)) = Record::peek(bytes) {
            let settled = |record: &Record| record.seq() > seq || record.bytes() == bytes;
            if self.slots.get(&slot).is_some_and(settled) {
                return Ok(RecordInserted::Stale);
            }
        }
        let record = Record::parse(bytes, network)?;
        Ok(self.put(record))
    }

    /// Takes a record of our own making.
    pub fn put(&mut self, record: Record) -> RecordInserted {
        let slot = record.slot();
        if self
            .slots
            .get(&slot)
            .is_some_and(|held| !record.replaces(held))
        {
            return RecordInserted::Stale;
        }
        let evicted = match self.room_for(&slot) {
            Room::Free => None,
            Room::Of(evicted) => {
                self.remove(&evicted);
                Some(evicted)
            }
            Room::None => return RecordInserted::Stale,
        };
        let key = slot.key();
        self.index.insert(key, short_hash(record.bytes()));
        self.keys.insert(key, slot);
        // Nothing takes the place of a farewell but a farewell: the kind fixes the body.
        if *record.body() == RecordBody::Left {
            self.left.insert(slot.device);
        }
        self.slots.insert(slot, record);
        RecordInserted::Newest { slot, evicted }
    }

    fn slots_of(&self, device: &NodeId) -> impl Iterator<Item = &Slot> + Clone {
        let (device, first) = (*device, RecordKind(0));
        let first = Slot {
            device,
            kind: first,
            sub: [0; 32],
        };
        let from = self.slots.range(first..).map(|(slot, _)| slot);
        from.take_while(move |slot| slot.device == device)
    }

    /// Drops all records of a device; gives their keys.
    pub fn forget(&mut self, device: &NodeId) -> Vec<Digest> {
        let theirs: Vec<Slot> = self.slots_of(device).copied().collect();
        theirs.iter().for_each(|slot| self.remove(slot));
        theirs.iter().map(Slot::key).collect()
    }

    fn remove(&mut self, slot: &Slot) {
        let key = slot.key();
        self.slots.remove(slot);
        self.keys.remove(&key);
        self.index.remove(&key);
    }

    /// Keeps a device's records of foreign kinds few: of its slots the smallest stay, whatever the order of arrival.
    fn room_for(&self, slot: &Slot) -> Room {
        if slot.kind.is_ours() || self.slots.contains_key(slot) {
            return Room::Free;
        }
        let theirs = self.slots_of(&slot.device).filter(|s| !s.kind.is_ours());
        if theirs.clone().count() < FOREIGN_RECORDS_MAX {
            return Room::Free;
        }
        match theirs.max() {
            Some(largest) if slot < largest => Room::Of(*largest),
            Some(_) | None => Room::None,
        }
    }

    /// The record of a device and kind, sub zero.
    #[must_use]
    pub fn of(&self, device: &NodeId, kind: RecordKind) -> Option<&Record> {
        self.slots.get(&Slot {
            device: *device,
            kind,
            sub: [0; 32],
        })
    }

    /// A device's Node record.
    #[must_use]
    pub fn node(&self, device: &NodeId) -> Option<&NodeRecord> {
        let RecordBody::Node(body) = self.of(device, RecordKind::NODE)?.body() else {
            return None;
        };
        Some(body)
    }

    /// A device's endpoints.
    #[must_use]
    pub fn endpoints(&self, device: &NodeId) -> Option<&Endpoints> {
        let RecordBody::Endpoints(body) = self.of(device, RecordKind::ENDPOINTS)?.body() else {
            return None;
        };
        Some(body)
    }

    /// A device's Tip.
    #[must_use]
    pub fn tip(&self, device: &NodeId) -> Option<&Tip> {
        let RecordBody::Tip(body) = self.of(device, RecordKind::TIP)?.body() else {
            return None;
        };
        Some(body)
    }

    /// What a device has heard and obeys.
    #[must_use]
    pub fn seen(&self, device: &NodeId) -> Option<&Seen> {
        let RecordBody::Seen(body) = self.of(device, RecordKind::SEEN)?.body() else {
            return None;
        };
        Some(body)
    }

    /// The devices that left for ever.
    #[must_use]
    pub fn left(&self) -> BTreeSet<NodeId> {
        self.left.clone()
    }

    /// The record with a reconciler key.
    #[must_use]
    pub fn by_key(&self, key: &Digest) -> Option<&Record> {
        self.slots.get(self.keys.get(key)?)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.slots.values()
    }

    /// The index for the reconciler.
    pub fn index(&mut self) -> &mut Index {
        &mut self.index
    }
}
