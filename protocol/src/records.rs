//! The stored set of device records: one register per slot, the newest stays (`docs/protocol.md` §5.1).
//!
//! It keeps records of whatever device; which devices may have any is the caller's rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{Digest, NetworkId, NodeId};
use crate::limits::FOREIGN_RECORDS_MAX;
use crate::reconcile::{Index, short_hash};
use crate::record::{
    Endpoints, NodeRecord, Record, RecordBody, RecordError, RecordKind, RelayRecord, Seen, Slot,
    Tip,
};

/// The registers.
#[derive(Clone, Debug, Default)]
pub struct Records {
    slots: BTreeMap<Slot, Record>,
    keys: BTreeMap<Digest, Record>,
    index: Index,
    /// Who left: asked at every change of the authority.
    left: BTreeSet<NodeId>,
    shelf: Option<Arc<dyn Shelf>>,
}

/// Records that were checked before. Whoever runs many nodes in one process checks what all of them hear once: a
/// [`Record`] exists only if its signature holds, so a shelf can leave one out, and not make one up.
pub trait Shelf: std::fmt::Debug + Send + Sync {
    /// The record of these bytes, if it is here.
    fn take(&self, bytes: &[u8]) -> Option<Record>;

    /// Keeps a record for others.
    fn put(&self, record: &Record);
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
        if let Some((slot, seq)) = self.peek(bytes, network) {
            let settled = |record: &Record| record.seq() > seq || record.bytes() == bytes;
            if self.slots.get(&slot).is_some_and(settled) {
                return Ok(RecordInserted::Stale);
            }
        }
        let record = self.read(bytes, network)?;
        Ok(self.put(record))
    }

    /// The slot and seq that bytes claim.
    pub(crate) fn peek(&self, bytes: &[u8], network: &NetworkId) -> Option<(Slot, u64)> {
        match self.shelved(bytes, network) {
            Some(record) => Some((record.slot(), record.seq())),
            None => Record::peek(bytes),
        }
    }

    /// Reads and checks a record, unless that was done before.
    ///
    /// # Errors
    /// As [`Record::parse`].
    pub(crate) fn read(&self, bytes: &[u8], network: &NetworkId) -> Result<Record, RecordError> {
        if let Some(record) = self.shelved(bytes, network) {
            return Ok(record);
        }
        let record = Record::parse(bytes, network)?;
        if let Some(shelf) = &self.shelf {
            shelf.put(&record);
        }
        Ok(record)
    }

    /// What was checked before, by whomever: these very bytes, as a record of this very network.
    fn shelved(&self, bytes: &[u8], network: &NetworkId) -> Option<Record> {
        let record = self.shelf.as_ref()?.take(bytes)?;
        (record.bytes() == bytes && record.network() == network).then_some(record)
    }

    /// Looks for records on a shelf from now on, before they are checked here.
    pub fn share(&mut self, shelf: Arc<dyn Shelf>) {
        self.shelf = Some(shelf);
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
        self.keys.insert(key, record.clone());
        // A newer one of this kind may say something that this version does not understand.
        if *record.body() == RecordBody::Left {
            self.left.insert(slot.device);
        } else if slot.kind == RecordKind::LEFT {
            self.left.remove(&slot.device);
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
        let gone = self.slots.remove(slot);
        if gone.is_some_and(|record| *record.body() == RecordBody::Left) {
            self.left.remove(&slot.device);
        }
        self.keys.remove(&key);
        self.index.remove(&key);
    }

    /// Keeps a device's records of foreign kinds few: of its slots the smallest stay, whatever the order of arrival.
    fn room_for(&self, slot: &Slot) -> Room {
        if slot.kind.is_alone() || self.slots.contains_key(slot) {
            return Room::Free;
        }
        let theirs = self.slots_of(&slot.device).filter(|s| !s.kind.is_alone());
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

    /// What a device says of relays that are no members, each with its record.
    pub fn relays(&self, device: &NodeId) -> impl Iterator<Item = (&Record, &RelayRecord)> {
        let (device, kind) = (*device, RecordKind::RELAY);
        let first = Slot {
            device,
            kind,
            sub: [0; 32],
        };
        let theirs = self.slots.range(first..);
        let theirs = theirs.take_while(move |(s, _)| (s.device, s.kind) == (device, kind));
        theirs.filter_map(|(_, record)| match record.body() {
            RecordBody::Relay(relay) => Some((record, relay)),
            RecordBody::Node(_)
            | RecordBody::Endpoints(_)
            | RecordBody::Tip(_)
            | RecordBody::Seen(_)
            | RecordBody::Left
            | RecordBody::Opaque(_) => None,
        })
    }

    /// The devices that left for ever.
    #[must_use]
    pub fn left(&self) -> BTreeSet<NodeId> {
        self.left.clone()
    }

    /// The record with a reconciler key.
    #[must_use]
    pub fn by_key(&self, key: &Digest) -> Option<&Record> {
        self.keys.get(key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Secret;

    const NETWORK: NetworkId = NetworkId::new([3; 16]);

    /// Gives the same record whatever it is asked for.
    #[derive(Debug)]
    struct Stubborn(Record);

    impl Shelf for Stubborn {
        fn take(&self, _bytes: &[u8]) -> Option<Record> {
            Some(self.0.clone())
        }

        fn put(&self, _record: &Record) {}
    }

    fn record(network: NetworkId, seq: u64) -> Record {
        Record::sign(network, seq, RecordBody::Left, &Secret::from_seed(&[1; 32]))
    }

    /// The newest record of its slot says whether a device left, in whatever order both came; and no record says it no
    /// more.
    #[test]
    fn who_left_follows_from_the_stored_records_alone() {
        let secret = Secret::from_seed(&[1; 32]);
        let left = record(NETWORK, 1);
        let device = left.slot().device;
        let unread = RecordBody::Opaque(RecordKind::LEFT);
        let unread = Record::sign(NETWORK, 2, unread, &secret);
        for order in [[&left, &unread], [&unread, &left]] {
            let mut records = Records::default();
            for record in order {
                records.put(record.clone());
            }
            assert!(!records.left().contains(&device));
        }
        let mut records = Records::default();
        records.put(left);
        assert!(records.left().contains(&device));
        records.forget(&device);
        assert!(!records.left().contains(&device));
    }

    #[test]
    fn a_shelf_gives_no_record_of_other_bytes_or_of_another_network() {
        let (old, new) = (record(NETWORK, 1), record(NETWORK, 2));
        let mut records = Records::default();
        records.share(Arc::new(Stubborn(old)));
        let taken = records.insert(new.bytes(), &NETWORK);
        let newest = RecordInserted::Newest {
            slot: new.slot(),
            evicted: None,
        };
        assert_eq!(taken, Ok(newest));
        assert_eq!(records.iter().map(Record::seq).collect::<Vec<_>>(), [2]);
        let forged = [new.bytes(), [0].as_slice()].concat();
        assert!(records.insert(&forged, &NETWORK).is_err());

        let foreign = record(NetworkId::new([4; 16]), 3);
        records.share(Arc::new(Stubborn(foreign.clone())));
        let refused = records.insert(foreign.bytes(), &NETWORK);
        assert_eq!(refused, Err(RecordError::OtherNetwork));
    }
}
