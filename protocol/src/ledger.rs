//! Everything a replica stores: ops, admits and records, with their reconciler indices (`docs/protocol.md` §7.3).
//!
//! What comes in is checked by its own room; what is new comes out as writes. The ledger never asks who counts.

mod intake;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::{AdmitInserted, Authority, AuthorityError, Inserted};
use crate::claim::Admit;
use crate::epochs::Epochs;
use crate::id::{AdmitId, Digest, NodeId, OpId};
use crate::io::Write;
use crate::limits::{HEADS_REPORTED_MAX, RECORD_BYTES_MAX};
use crate::op::{Op, Realm};
use crate::quota::{Payers, Quota};
use crate::reconcile::{Index, ShortHash, short_hash};
use crate::record::RecordKind;
use crate::records::{RecordInserted, Records};
use crate::seal::SealError;
use crate::wire::{
    ITEMS_BYTES_MAX, Items, KEYS_ASKED_MAX, KEYS_SENT_MAX, Set, Summary, SyncAnswer, SyncRequest,
};

/// Bytes of an item beside its own, on its way to a peer: key, hash, length.
const KEY_BYTES: usize = 64;

/// The stored sets of one network.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Ops and admits.
    pub authority: Authority,
    /// Device records.
    pub records: Records,
    /// How much was taken of whom.
    pub quota: Quota,
    /// Held ops that others than their authors pay for: those whose ops rest on them.
    sponsors: BTreeMap<OpId, Payers>,
    /// Bytes of the ops and admits that were ever new here.
    bytes: u64,
    ops: Index,
    admits: Index,
}

/// What an insertion changed.
#[derive(Debug, Default)]
pub struct Change {
    /// To be kept, in causal order.
    pub writes: Vec<Write>,
    /// Whether ops or admits are new: the view may differ.
    pub authority: bool,
    /// Devices whose records are new.
    pub devices: BTreeSet<NodeId>,
    /// Whether a device left.
    pub left: bool,
    /// Whether an op waits for parents that are not here.
    pub held: bool,
    /// Items that were refused: malformed, unsigned or of another network.
    pub refused: usize,
    /// Records sealed under a key that is not here: to be asked for again with the key.
    pub sealed: usize,
    /// Items that have to wait, because too much came of their author.
    pub turned_away: usize,
}

impl Change {
    /// Whether nothing is new.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl Ledger {
    /// The ledger of a network with nothing but its genesis.
    #[must_use]
    pub fn new(genesis: Op, realm: Realm) -> Self {
        let genesis_bytes = genesis.bytes().len() as u64;
        let (id, hash) = (Digest::new(*genesis.id().as_bytes()), op_hash(&genesis));
        let mut ledger = Self {
            authority: Authority::found(genesis, realm),
            records: Records::default(),
            quota: Quota::default(),
            sponsors: BTreeMap::new(),
            bytes: genesis_bytes,
            ops: Index::default(),
            admits: Index::default(),
        };
        ledger.ops.insert(id, hash);
        ledger
    }

    /// Takes items of a peer; those that need the epoch key are opened with it.
    pub fn insert(&mut self, items: &Items, epochs: &Epochs) -> Change {
        let mut change = Change::default();
        for bytes in &items.ops {
            self.insert_op(bytes, &mut change);
        }
        for bytes in &items.admits {
            self.insert_admit(bytes, &mut change);
        }
        for frame in &items.records {
            match epochs.open_record(frame) {
                Ok(bytes) => self.insert_record(&bytes, &mut change),
                Err(SealError::OtherKey) => change.sealed += 1,
                Err(SealError::Length(_) | SealError::Broken) => change.refused += 1,
            }
        }
        change
    }

    /// Takes an op.
    pub fn insert_op(&mut self, bytes: &[u8], change: &mut Change) {
        match self.authority.insert_op(bytes) {
            Ok(Inserted::Added(ids)) => {
                for id in ids {
                    self.note_op(&id, change);
                }
            }
            Ok(Inserted::Known) => {}
            Ok(Inserted::Held) => change.held = true,
            Err(_) => change.refused += 1,
        }
    }

    fn note_op(&mut self, id: &OpId, change: &mut Change) {
        let op = self
            .authority
            .op(id)
            .expect("an op that was just added is there");
        self.ops.insert(Digest::new(*id.as_bytes()), op_hash(op));
        self.bytes += (op.bytes().len() + KEY_BYTES) as u64;
        change.writes.push(Write::Op(*id, op.bytes().to_vec()));
        change.authority = true;
    }

    /// Takes an admit.
    pub fn insert_admit(&mut self, bytes: &[u8], change: &mut Change) {
        match self.authority.insert_admit(bytes) {
            Ok(AdmitInserted::Added { dropped }) => {
                let id = Admit::id_of(bytes);
                let admit = self
                    .authority
                    .admit(&id)
                    .expect("an admit that was just added is there");
                self.admits
                    .insert(Digest::new(*id.as_bytes()), short_hash(admit.bytes()));
                self.bytes += (admit.bytes().len() + KEY_BYTES) as u64;
                change.writes.push(Write::Admit(id, admit.bytes().to_vec()));
                if let Some((dropped, device)) = dropped {
                    self.admits.remove(&Digest::new(*dropped.as_bytes()));
                    change.writes.push(Write::DropAdmit(dropped));
                    self.drop_records(&device, change);
                }
                change.authority = true;
            }
            Ok(AdmitInserted::Known | AdmitInserted::NotKept) => {}
            Err(AuthorityError::UnknownInvite(_) | AuthorityError::UnknownWitness(_)) => {
                change.held = true;
            }
            Err(_) => change.refused += 1,
        }
    }

    /// A device that nothing stored names any more has no records: who never heard of it takes none either.
    fn drop_records(&mut self, device: &NodeId, change: &mut Change) {
        if self.authority.names(device) {
            return;
        }
        for key in self.records.forget(device) {
            change.writes.push(Write::DropRecord(key));
            change.devices.insert(*device);
        }
    }

    /// Takes a record's bytes. Only devices that a stored grant or admit names have any.
    pub fn insert_record(&mut self, bytes: &[u8], change: &mut Change) {
        let network = self.authority.network();
        match self.records.peek(bytes, &network) {
            Some((slot, _)) if self.authority.names(&slot.device) => {}
            Some(_) => {
                change.held = true;
                return;
            }
            None => {
                change.refused += 1;
                return;
            }
        }
        match self.records.insert(bytes, &network) {
            Ok(RecordInserted::Newest { slot, evicted }) => {
                change.devices.insert(slot.device);
                change.left |= slot.kind == RecordKind::LEFT;
                change
                    .writes
                    .push(Write::Record(slot.key(), bytes.to_vec()));
                change
                    .writes
                    .extend(evicted.map(|evicted| Write::DropRecord(evicted.key())));
            }
            Ok(RecordInserted::Stale) => {}
            Err(_) => change.refused += 1,
        }
    }

    /// Whether the device may have records here.
    #[must_use]
    pub fn names(&self, device: &NodeId) -> bool {
        self.authority.names(device)
    }

    /// About how many bytes everything has, on its way to a peer.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes + (self.records.len() * (RECORD_BYTES_MAX / 2 + KEY_BYTES)) as u64
    }

    /// What is here, in short.
    pub fn summary(&mut self) -> Summary {
        let roots = [
            self.ops.root(),
            self.admits.root(),
            self.records.index().root(),
        ];
        let mut heads = self.authority.heads();
        heads.truncate(HEADS_REPORTED_MAX);
        Summary { roots, heads }
    }

    /// The index of a set.
    pub fn index(&mut self, set: Set) -> &mut Index {
        match set {
            Set::Ops => &mut self.ops,
            Set::Admits => &mut self.admits,
            Set::Records => self.records.index(),
        }
    }

    /// Answers a question of the reconciler; `None` to one that breaks its bounds.
    pub fn answer(&mut self, request: &SyncRequest, epochs: &Epochs) -> Option<SyncAnswer> {
        match request {
            SyncRequest::Summary(summary) => summary
                .is_bounded()
                .then(|| SyncAnswer::Summary(self.summary())),
            SyncRequest::Buckets(set) => {
                Some(SyncAnswer::Buckets(self.index(*set).bucket_digests()))
            }
            SyncRequest::Keys { set, map, skip } => Some(self.keys(*set, map, *skip)),
            SyncRequest::Items(set, keys) if keys.len() <= KEYS_ASKED_MAX => {
                Some(SyncAnswer::Items(self.items(*set, keys, epochs)))
            }
            SyncRequest::Items(..) => None,
            SyncRequest::Past { of, known }
                if of.len() <= KEYS_ASKED_MAX && known.len() <= HEADS_REPORTED_MAX =>
            {
                Some(SyncAnswer::Headers(self.past(of, known)))
            }
            SyncRequest::Past { .. } => None,
            SyncRequest::Push(_) => Some(SyncAnswer::Heard),
            // A key is given to live members only: who is one, the ledger does not know.
            SyncRequest::Epoch(_) => None,
        }
    }

    fn keys(&mut self, set: Set, map: &[u8; 32], skip: u32) -> SyncAnswer {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut keys: Vec<_> = match set {
            // Causal order, so that the asker never has to hold an op for its parents.
            Set::Ops => {
                let wanted = |key: &Digest| {
                    let at = usize::from(key.as_bytes()[0]);
                    map[at / 8] & (1 << (at % 8)) != 0
                };
                self.authority
                    .ops()
                    .map(|op| (Digest::new(*op.id().as_bytes()), op))
                    .filter(|(key, _)| wanted(key))
                    .map(|(key, op)| (key, op_hash(op)))
                    .skip(skip)
                    .take(KEYS_SENT_MAX + 1)
                    .collect()
            }
            Set::Admits | Set::Records => {
                let keys = self.index(set).keys(map);
                keys.skip(skip).take(KEYS_SENT_MAX + 1).collect()
            }
        };
        let more = keys.len() > KEYS_SENT_MAX;
        keys.truncate(KEYS_SENT_MAX);
        SyncAnswer::Keys { keys, more }
    }

    fn items(&self, set: Set, keys: &[Digest], epochs: &Epochs) -> Items {
        let mut items = Items::default();
        let mut room = ITEMS_BYTES_MAX;
        for key in keys {
            let bytes = match set {
                Set::Ops => self
                    .authority
                    .op(&OpId::new(*key.as_bytes()))
                    .map(|op| op.bytes().to_vec()),
                Set::Admits => self
                    .authority
                    .admit(&AdmitId::new(*key.as_bytes()))
                    .map(|admit| admit.bytes().to_vec()),
                Set::Records => self
                    .records
                    .by_key(key)
                    .and_then(|record| epochs.seal_record(record.bytes())),
            };
            let Some(bytes) = bytes else { continue };
            let Some(left) = room.checked_sub(bytes.len() + 8) else {
                break;
            };
            room = left;
            match set {
                Set::Ops => items.ops.push(bytes),
                Set::Admits => items.admits.push(bytes),
                Set::Records => items.records.push(bytes),
            }
        }
        items
    }

    /// The headers of ops and their past, without those that are known and their past: backwards in op order.
    fn past(&self, of: &[Digest], known: &[OpId]) -> Vec<Vec<u8>> {
        let place = |id: &OpId| self.authority.place(id);
        let of = of.iter().map(|key| OpId::new(*key.as_bytes()));
        let wanted = self
            .authority
            .with_past(of.filter_map(|id| place(&id)).collect());
        let known = self
            .authority
            .with_past(known.iter().filter_map(place).collect());
        let mut room = ITEMS_BYTES_MAX;
        let places = self.authority.order().into_iter().rev();
        let lacks = |place: &u32| wanted[*place as usize] && !known[*place as usize];
        let headers = places.filter(lacks).map_while(|place| {
            let bytes = self.authority.at(place).op.header().to_bytes();
            room = room.checked_sub(bytes.len() + 8)?;
            Some(bytes)
        });
        headers.collect()
    }

    /// Everything, as writes: for a joiner that becomes durable.
    #[must_use]
    pub fn all_writes(&self) -> Vec<Write> {
        let ops = self
            .authority
            .ops()
            .map(|op| Write::Op(op.id(), op.bytes().to_vec()));
        let admits = self
            .authority
            .admits()
            .map(|admit| Write::Admit(admit.id(), admit.bytes().to_vec()));
        let records = self
            .records
            .iter()
            .map(|record| Write::Record(record.slot().key(), record.bytes().to_vec()));
        ops.chain(admits).chain(records).collect()
    }
}

/// An op's id fixes all of it but whether its body is here.
fn op_hash(op: &Op) -> ShortHash {
    [u8::from(op.is_stub()); 16]
}
