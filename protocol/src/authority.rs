//! The stored set of the authority plane: ops and admits, admitted by structure alone (`docs/protocol.md` §3.7, §4.2).
//!
//! Merge is union, so replicas that heard the same hold the same. Nothing here knows the view: what is stored never
//! depends on who counts.

mod admits;
mod held;
mod lookup;
mod payers;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use crate::body::{Body, Genesis, Kind, Level};
use crate::claim::{Admit, ClaimError};
use crate::id::{AdmitId, NetworkId, NodeId, OpId};
use crate::op::{Op, OpError, Realm};
use crate::structure::{self, Lookup, StructureError};

use self::admits::Admits;
use self::held::Held;

/// Why an op or admit was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The envelope or body of an op.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The author of an op may not say it.
    #[error(transparent)]
    Structure(#[from] StructureError),
    /// The bytes or signatures of an admit.
    #[error(transparent)]
    Admit(#[from] ClaimError),
    /// An admit of another network.
    #[error("the admit is of another network")]
    OtherNetwork,
    /// An admit under an invite that is not stored; ask again when it is.
    #[error("the invite {0} is not known")]
    UnknownInvite(OpId),
    /// An admit by a device that no stored op made a member; ask again when one does.
    #[error("no stored op lets the witness {0} in")]
    UnknownWitness(NodeId),
}

/// What became of an op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// Stored, with the held ops that waited for it; parents before children. A body that fills a stub is here too.
    Added(Vec<OpId>),
    /// Stored before.
    Known,
    /// Parents are missing: kept aside for a while.
    Held,
}

/// What became of an admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmitInserted {
    /// Stored.
    Added {
        /// The admit that lost its place to it, and its device.
        dropped: Option<(AdmitId, NodeId)>,
    },
    /// Stored before.
    Known,
    /// Smaller ones have its place.
    NotKept,
}

/// The stored ops and admits of one network.
#[derive(Clone, Debug)]
pub struct Authority {
    realm: Realm,
    /// In order of arrival: parents stand before children.
    entries: Vec<Entry>,
    index: BTreeMap<OpId, u32>,
    heads: BTreeSet<OpId>,
    /// The founder and the devices of all stored grants, whether they count or not, and the place of the first.
    titled: BTreeMap<NodeId, u32>,
    held: Held,
    admits: Admits,
    /// How many stubs got their bodies.
    filled: u64,
}

/// How often stored things changed in place: whoever remembers what followed from them looks here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Stubs that got their bodies.
    pub(crate) filled: u64,
    /// Admits that came, and maybe drove out others.
    pub(crate) admits: u64,
}

/// A stored op and what follows from its past.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The op; copies of the stored set share it.
    pub(crate) op: Arc<Op>,
    /// The level of its author under the cited authority.
    pub(crate) level: Level,
    /// Place of its authority among the entries; a genesis is its own.
    pub(crate) authority: u32,
    /// Places of its parents.
    pub(crate) parents: Vec<u32>,
    /// Length of the longest way to the genesis.
    depth: u32,
    /// The highest epoch that it and its past announce.
    pub(crate) epoch: u32,
}

impl Authority {
    /// The stored set of a network of which only the genesis is known.
    ///
    /// # Panics
    /// When the op is not the genesis of the realm; both come from [`Op::parse_genesis`].
    #[must_use]
    pub fn found(genesis: Op, realm: Realm) -> Self {
        let id = genesis.id();
        assert!(
            id == realm.genesis && matches!(genesis.body(), Body::Genesis(_)),
            "a network is founded by the genesis of its realm"
        );
        let titled = match genesis.body() {
            Body::Genesis(genesis) => BTreeMap::from([(genesis.founder, 0)]),
            Body::Grant(_)
            | Body::Invite(_)
            | Body::Revoke(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => unreachable!("it was just looked at"),
        };
        let entry = Entry {
            op: Arc::new(genesis),
            level: Level::ROOT,
            authority: 0,
            parents: Vec::new(),
            depth: 0,
            epoch: 0,
        };
        Self {
            realm,
            entries: vec![entry],
            index: BTreeMap::from([(id, 0)]),
            heads: BTreeSet::from([id]),
            titled,
            held: Held::default(),
            admits: Admits::default(),
            filled: 0,
        }
    }

    /// What ops of this network are checked against.
    #[must_use]
    pub const fn realm(&self) -> &Realm {
        &self.realm
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.realm.genesis.network()
    }

    /// What founded the network.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        let Body::Genesis(genesis) = self.entries[0].op.body() else {
            unreachable!("the first entry is the genesis")
        };
        genesis
    }

    /// Takes an op from its bytes: parses it, checks its structure, stores it or keeps it until its parents come.
    ///
    /// # Errors
    /// When the bytes are no op of this network, or its author may not say it.
    pub fn insert_op(&mut self, bytes: &[u8]) -> Result<Inserted, AuthorityError> {
        self.insert_op_of(bytes, None)
    }

    /// The same of a peer, whose share of the room for held ops it takes up if it has to wait.
    ///
    /// # Errors
    /// As [`Self::insert_op`].
    pub fn insert_op_of(
        &mut self,
        bytes: &[u8],
        giver: Option<NodeId>,
    ) -> Result<Inserted, AuthorityError> {
        let id = Op::peek_id(bytes)?;
        if self.op(&id).is_some_and(|op| !op.is_stub()) {
            return Ok(Inserted::Known);
        }
        if self.held.op(&id).is_some_and(|op| !op.is_stub()) {
            return Ok(Inserted::Held);
        }
        self.insert(Op::parse(bytes, &self.realm)?, giver)
    }

    /// Takes an op whose bytes and signatures hold.
    fn insert(&mut self, op: Op, giver: Option<NodeId>) -> Result<Inserted, AuthorityError> {
        let id = op.id();
        if let Some(place) = self.index.get(&id) {
            let entry = &mut self.entries[*place as usize];
            if op.is_stub() || !entry.op.is_stub() {
                return Ok(Inserted::Known);
            }
            entry.op = Arc::new(op);
            self.filled += 1;
            return Ok(Inserted::Added(vec![id]));
        }
        let missing = |parent: &&OpId| !self.index.contains_key(*parent);
        if let Some(parent) = op.header().parents.iter().find(missing).copied() {
            self.refuse_powerless(&op)?;
            self.held.keep(op, parent, giver);
            return Ok(Inserted::Held);
        }
        self.store(op)?;
        let mut added = vec![id];
        let mut next = 0;
        while let Some(parent) = added.get(next).copied() {
            for (orphan, giver) in self.held.release(&parent) {
                added.extend(self.adopt(orphan, giver));
            }
            next += 1;
        }
        Ok(Inserted::Added(added))
    }

    /// An orphan under a stored authority that gives its author nothing is not worth the room.
    fn refuse_powerless(&self, op: &Op) -> Result<(), StructureError> {
        let header = op.header();
        match self.op(&header.authority) {
            Some(authority) if structure::conferred(authority, &header.author).is_none() => {
                Err(StructureError::NoAuthority)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Stores a held op if nothing else is missing; a held op that breaks a rule is dropped.
    fn adopt(&mut self, orphan: Op, giver: Option<NodeId>) -> Option<OpId> {
        let missing = |parent: &&OpId| !self.index.contains_key(*parent);
        if let Some(parent) = orphan.header().parents.iter().find(missing).copied() {
            self.held.keep(orphan, parent, giver);
            return None;
        }
        let id = orphan.id();
        self.store(orphan).ok().map(|()| id)
    }

    fn store(&mut self, op: Op) -> Result<(), StructureError> {
        let level = structure::check(&op, &self.realm, self)?;
        let header = op.header();
        let parents: Vec<u32> = header.parents.iter().map(|id| self.index[id]).collect();
        let depth = |place: &u32| self.entries[*place as usize].depth;
        let entry = Entry {
            level,
            authority: self.index[&header.authority],
            depth: 1 + parents.iter().map(depth).max().unwrap_or(0),
            // A Rekey passed the check: it is one more than what was before.
            epoch: self.epoch_before(&header.parents) + u32::from(header.kind == Kind::REKEY),
            parents,
            op: Arc::new(op),
        };
        // Memory ends long before 2^32 ops of 200 bytes.
        let place = self.entries.len() as u32;
        for parent in &entry.op.header().parents {
            self.heads.remove(parent);
        }
        self.heads.insert(entry.op.id());
        if let Body::Grant(grant) = entry.op.body() {
            self.titled.entry(grant.device).or_insert(place);
        }
        self.index.insert(entry.op.id(), place);
        self.entries.push(entry);
        Ok(())
    }

    /// Takes an admit from its bytes. Of one invite, device and witness the smallest id stays, of one invite 64.
    ///
    /// Its witness must be the founder or have a stored grant: nobody else can ever be a settled member, and whoever
    /// holds a code can make up as many others as it likes. Grants only become more, so what is refused for want of one
    /// is taken when it comes, whatever the order.
    ///
    /// # Errors
    /// When the bytes are no admit of this network, its invite or its witness's grant is not stored, or a signature is
    /// wrong.
    pub fn insert_admit(&mut self, bytes: &[u8]) -> Result<AdmitInserted, AuthorityError> {
        let admit = Admit::parse(bytes)?;
        if admit.terms().network != self.network() {
            return Err(AuthorityError::OtherNetwork);
        }
        if self.admit(&admit.id()).is_some() {
            return Ok(AdmitInserted::Known);
        }
        let invite = admit.claim().invite;
        let Some(Body::Invite(body)) = self.op(&invite).map(Op::body) else {
            return Err(AuthorityError::UnknownInvite(invite));
        };
        let witness = admit.claim().witness;
        if !self.titled(&witness) {
            return Err(AuthorityError::UnknownWitness(witness));
        }
        let claim = &admit.terms().claim;
        claim
            .check_invite(&body.terms.key)
            .map_err(ClaimError::from)?;
        Ok(self.admits.insert(admit))
    }

    /// A stored op.
    #[must_use]
    pub fn op(&self, id: &OpId) -> Option<&Op> {
        self.entry(id).map(|entry| &*entry.op)
    }

    /// A stored admit.
    #[must_use]
    pub fn admit(&self, id: &AdmitId) -> Option<&Admit> {
        self.admits.get(id)
    }

    /// Whether a device is the founder, or a stored grant names it; whether that counts is not asked.
    #[must_use]
    pub fn titled(&self, device: &NodeId) -> bool {
        self.titled.contains_key(device)
    }

    /// Whether the genesis, a stored grant or a stored admit names a device: then it may have records.
    #[must_use]
    pub fn names(&self, device: &NodeId) -> bool {
        self.titled(device) || self.admits.names(device)
    }

    /// All ops in op order: parents before children, among the ready ones the smallest (author's level, id) first.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.order().into_iter().map(|place| &*self.at(place).op)
    }

    /// All admits, by id.
    pub fn admits(&self) -> impl Iterator<Item = &Admit> {
        self.admits.iter()
    }

    /// The ops that no stored op has as a parent, ascending.
    #[must_use]
    pub fn heads(&self) -> Vec<OpId> {
        self.heads.iter().copied().collect()
    }

    /// How many ops are stored, the genesis included.
    #[must_use]
    pub fn op_count(&self) -> usize {
        self.entries.len()
    }

    /// Whether an op is stored.
    #[must_use]
    pub fn contains(&self, id: &OpId) -> bool {
        self.index.contains_key(id)
    }

    /// The level of an op's author under its cited authority.
    #[must_use]
    pub fn level_of(&self, id: &OpId) -> Option<Level> {
        self.entry(id).map(|entry| entry.level)
    }

    /// Whether one stored op lies in the causal past of another; no op is in its own past.
    #[must_use]
    pub fn in_past(&self, ancestor: &OpId, of: &OpId) -> bool {
        self.op(of)
            .is_some_and(|op| self.reaches(&op.header().parents, ancestor))
    }

    fn entry(&self, id: &OpId) -> Option<&Entry> {
        self.index.get(id).map(|place| self.at(*place))
    }

    /// The place of a stored op.
    pub(crate) fn place(&self, id: &OpId) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// Which places are among `heads` or in the past of one.
    pub(crate) fn with_past(&self, heads: Vec<u32>) -> Vec<bool> {
        let mut within = vec![false; self.entries.len()];
        let mut stack = heads;
        while let Some(place) = stack.pop() {
            if !std::mem::replace(&mut within[place as usize], true) {
                stack.extend_from_slice(&self.at(place).parents);
            }
        }
        within
    }

    /// How often what is stored changed otherwise than by a further entry: bodies of stubs, and admits.
    pub(crate) const fn changes(&self) -> Changes {
        Changes {
            filled: self.filled,
            admits: self.admits.changes(),
        }
    }

    /// The entry at a place.
    pub(crate) fn at(&self, place: u32) -> &Entry {
        &self.entries[place as usize]
    }

    /// The entries in order of arrival: parents, and therefore authorities, stand before what rests on them.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The places of the entries in op order. Later arrivals insert themselves and never reorder
    /// what was there: an op's key is
    /// literal, and no stored op waits for a new one.
    pub(crate) fn order(&self) -> Vec<u32> {
        let mut waits: Vec<u32> = Vec::with_capacity(self.entries.len());
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.entries.len()];
        for (place, entry) in (0..).zip(&self.entries) {
            waits.push(entry.parents.len() as u32);
            for parent in &entry.parents {
                children[*parent as usize].push(place);
            }
        }
        let key = |place: u32| {
            let entry = self.at(place);
            Reverse((entry.level, entry.op.id(), place))
        };
        let mut ready = BinaryHeap::from([key(0)]);
        let mut order = Vec::with_capacity(self.entries.len());
        while let Some(Reverse((_, _, place))) = ready.pop() {
            order.push(place);
            for child in &children[place as usize] {
                let left = &mut waits[*child as usize];
                *left -= 1;
                if *left == 0 {
                    ready.push(key(*child));
                }
            }
        }
        order
    }
}
