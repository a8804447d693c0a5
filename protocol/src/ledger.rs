//! Everything a replica stores: ops, admits and records, with their reconciler indices (`docs/protocol.md` §7.3).
//!
//! What comes in is checked by its own room; what is new comes out as writes. The ledger never asks who counts.

use std::collections::BTreeSet;

use crate::authority::{AdmitInserted, Authority, AuthorityError, Inserted};
use crate::body::Body;
use crate::claim::Admit;
use crate::epochs::Epochs;
use crate::id::{AdmitId, Digest, NodeId, OpId};
use crate::io::Write;
use crate::limits::HEADS_REPORTED_MAX;
use crate::op::{Op, Realm};
use crate::reconcile::{Index, ShortHash, short_hash};
use crate::record::RecordKind;
use crate::records::{RecordInserted, Records};
use crate::seal::SealError;
use crate::wire::{
    ITEMS_BYTES_MAX, Items, KEYS_ASKED_MAX, KEYS_SENT_MAX, Set, Summary, SyncAnswer, SyncRequest,
};

/// The stored sets of one network.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Ops and admits.
    pub authority: Authority,
    /// Device records.
    pub records: Records,
    ops: Index,
    admits: Index,
    named: BTreeSet<NodeId>,
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
        let (id, hash) = (Digest::new(*genesis.id().as_bytes()), op_hash(&genesis));
        let mut named = BTreeSet::new();
        if let Body::Genesis(body) = genesis.body() {
            named.insert(body.founder);
        }
        let mut ledger = Self {
            authority: Authority::found(genesis, realm),
            records: Records::default(),
            ops: Index::default(),
            admits: Index::default(),
            named,
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
        if let Body::Grant(grant) = op.body() {
            self.named.insert(grant.device);
        }
        self.ops.insert(Digest::new(*id.as_bytes()), op_hash(op));
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
                self.named.insert(admit.claim().device);
                self.admits
                    .insert(Digest::new(*id.as_bytes()), short_hash(admit.bytes()));
                change.writes.push(Write::Admit(id, admit.bytes().to_vec()));
                if let Some(dropped) = dropped {
                    self.admits.remove(&Digest::new(*dropped.as_bytes()));
                    change.writes.push(Write::DropAdmit(dropped));
                }
                change.authority = true;
            }
            Ok(AdmitInserted::Known | AdmitInserted::NotKept) => {}
            Err(AuthorityError::UnknownInvite(_)) => change.held = true,
            Err(_) => change.refused += 1,
        }
    }

    /// Takes a record's bytes. Only devices that a stored grant or admit names have any.
    pub fn insert_record(&mut self, bytes: &[u8], change: &mut Change) {
        let network = self.authority.network();
        match self.records.peek(bytes, &network) {
            Some((slot, _)) if self.named.contains(&slot.device) => {}
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
            Ok(RecordInserted::Newest(slot)) => {
                change.devices.insert(slot.device);
                change.left |= slot.kind == RecordKind::LEFT;
                change
                    .writes
                    .push(Write::Record(slot.key(), bytes.to_vec()));
            }
            Ok(RecordInserted::Stale) => {}
            Err(_) => change.refused += 1,
        }
    }

    /// Whether the device may have records here.
    #[must_use]
    pub fn names(&self, device: &NodeId) -> bool {
        self.named.contains(device)
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::body::{Genesis, Ipv4Range};
    use crate::codec::Ext;
    use crate::id::{NodeId, RootKey};
    use crate::identity::Secret;
    use crate::name::{NetworkName, NodeName};
    use crate::record::{Record, RecordBody, RecordKind};
    use crate::time::Timestamp;

    fn founded(founder: &Secret) -> Ledger {
        let root = Secret::from_seed(&[9; 32]);
        let genesis = Genesis {
            random: [7; 32],
            roots: vec![RootKey::new(root.public())],
            threshold: 1,
            name: NetworkName::parse("home").unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            founder: NodeId::new(founder.public()),
            founder_name: NodeName::parse("nas").unwrap(),
            founder_ipv4: Ipv4Addr::new(100, 71, 4, 2),
            owner: None,
            epoch_commitment: Digest::ZERO,
            closed: false,
            ext: Ext::NONE,
        };
        let op = Op::found(genesis, Timestamp::from_ms(1), &[root], founder);
        let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
        Ledger::new(op, realm)
    }

    #[test]
    fn a_record_of_a_stranger_is_not_kept() {
        let (founder, stranger) = (Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
        let mut ledger = founded(&founder);
        let network = ledger.authority.network();
        let mut change = Change::default();
        for device in [&stranger, &founder] {
            let record = Record::sign(network, 1, RecordBody::Left, device);
            ledger.insert_record(record.bytes(), &mut change);
        }
        assert_eq!(change.writes.len(), 1);
        let kept = |key: &Secret| {
            let device = NodeId::new(key.public());
            ledger.records.of(&device, RecordKind::LEFT).is_some()
        };
        assert!(kept(&founder) && !kept(&stranger));
    }

    #[test]
    fn foreign_records_of_one_device_are_few_whatever_their_order() {
        let founder = Secret::from_seed(&[1; 32]);
        let network = founded(&founder).authority.network();
        let kinds = 100..100 + crate::limits::FOREIGN_RECORDS_MAX as u16 + 20;
        let records: Vec<_> = kinds
            .map(|kind| Record::sign(network, 1, RecordBody::Opaque(RecordKind(kind)), &founder))
            .collect();
        let (mut a, mut b) = (founded(&founder), founded(&founder));
        let mut change = Change::default();
        for (one, other) in records.iter().zip(records.iter().rev()) {
            a.insert_record(one.bytes(), &mut change);
            b.insert_record(other.bytes(), &mut change);
        }
        assert_eq!(a.records.iter().count(), crate::limits::FOREIGN_RECORDS_MAX);
        assert_eq!(a.summary().roots, b.summary().roots);
    }
}
