//! Taking what peers bring: within what one author may put in (`docs/protocol.md` §12.1).

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Ledger};
use crate::authority::{Authority, Inserted};
use crate::body::{Kind, Level};
use crate::claim::Admit;
use crate::epochs::Epochs;
use crate::id::{Digest, OpId};
use crate::op::{Author, Header, Op};
use crate::quota::{Arrival, Load, Payers};
use crate::reconcile::ShortHash;
use crate::record::RecordKind;
use crate::seal::SealError;
use crate::wire::{Items, Set};

/// Held ops whose payers are remembered.
const SPONSORS_MAX: usize = 8192;

impl Ledger {
    /// Takes items of a peer; those that need the epoch key are opened with it.
    pub fn take(&mut self, items: &Items, epochs: &Epochs, arrival: &Arrival) -> Change {
        let mut change = Change::default();
        for bytes in &items.ops {
            self.take_op(bytes, arrival, &mut change);
        }
        for bytes in &items.admits {
            self.take_admit(bytes, arrival, &mut change);
        }
        for frame in &items.records {
            match epochs.open_record(frame) {
                Ok(bytes) => self.take_record(&bytes, arrival, &mut change),
                Err(SealError::OtherKey) => change.sealed += 1,
                Err(SealError::Length(_) | SealError::Broken) => change.refused += 1,
            }
        }
        change
    }

    /// Takes an op of a peer.
    pub fn take_op(&mut self, bytes: &[u8], arrival: &Arrival, change: &mut Change) {
        self.take_op_for(bytes, None, arrival, change);
    }

    /// Takes ops that an op of `payers` was proven to rest on, `proven` of them: what their authors have no room for,
    /// that one pays.
    pub fn take_past(
        &mut self,
        ops: &[Vec<u8>],
        proven: &[Digest],
        payers: &Payers,
        arrival: &Arrival,
    ) -> Change {
        let mut change = Change::default();
        let proven: BTreeSet<&Digest> = proven.iter().collect();
        for bytes in ops {
            let key = Op::peek_id(bytes).map(|id| Digest::new(*id.as_bytes()));
            let sponsor = key.is_ok_and(|key| proven.contains(&key));
            let sponsor = sponsor.then_some(payers);
            self.take_op_for(bytes, sponsor, arrival, &mut change);
        }
        change
    }

    fn take_op_for(
        &mut self,
        bytes: &[u8],
        sponsor: Option<&Payers>,
        arrival: &Arrival,
        change: &mut Change,
    ) {
        let (Ok(id), Ok((header, _))) = (Op::peek_id(bytes), Header::parse(bytes)) else {
            change.refused += 1;
            return;
        };
        if self.authority.op(&id).is_some_and(|op| !op.is_stub()) {
            return;
        }
        let load = load_of(&header, bytes.len());
        let payers = match self.who_pays(&id, &header, load, sponsor, arrival) {
            Ok(payers) => payers,
            Err(until) => {
                let key = Digest::new(*id.as_bytes());
                self.quota.turn_away(key, until, arrival.at_ms);
                change.turned_away += 1;
                return;
            }
        };
        // Before it is stored: it is charged then, at once or when it is held no longer.
        if payers.author() != Some(header.author) {
            self.sponsors.insert(id, payers);
        }
        match self.authority.insert_op_of(bytes, arrival.giver) {
            Ok(Inserted::Added(ids)) => {
                for added in ids {
                    self.pay(&added, arrival);
                    self.note_op(&added, change);
                }
            }
            Ok(Inserted::Known) => {
                self.sponsors.remove(&id);
            }
            Ok(Inserted::Held) => change.held = true,
            Err(_) => {
                self.sponsors.remove(&id);
                change.refused += 1;
            }
        }
    }

    /// The author pays. When it cannot, somebody else does whose own op rests on this one and is held for it: the
    /// revocation of a flooder may stand on a part of its flood.
    fn who_pays(
        &mut self,
        id: &OpId,
        header: &Header,
        load: Load,
        sponsor: Option<&Payers>,
        arrival: &Arrival,
    ) -> Result<Payers, u64> {
        let own = self.authority.payers_of_op(header);
        if arrival.first {
            return Ok(own);
        }
        let until = match self.quota.admits(&own, load, arrival.at_ms) {
            Ok(()) => return Ok(own),
            Err(until) => until,
        };
        if self.sponsors.len() >= SPONSORS_MAX {
            let authority = &self.authority;
            self.sponsors.retain(|id, _| authority.holds(id));
            if self.sponsors.len() >= SPONSORS_MAX {
                return Err(until);
            }
        }
        let load = Load::Op(bytes_of(load));
        let (authority, known) = (&self.authority, &self.sponsors);
        let waiting = authority.waiting_for(id);
        let sponsors = waiting.map(|op| payers_of_held(authority, known, op));
        for payers in sponsors.chain(sponsor.cloned()) {
            let other = !payers.0.iter().any(|(payer, _)| *payer == header.author);
            if other && self.quota.admits(&payers, load, arrival.at_ms).is_ok() {
                return Ok(payers);
            }
        }
        Err(until)
    }

    /// Charges an op that was stored.
    fn pay(&mut self, id: &OpId, arrival: &Arrival) {
        self.quota.forget(&Digest::new(*id.as_bytes()));
        let sponsor = self.sponsors.remove(id);
        let Some(op) = self.authority.op(id).filter(|_| !arrival.first) else {
            return;
        };
        let own = self.authority.payers_of_op(op.header());
        let load = load_of(op.header(), op.bytes().len());
        match sponsor {
            Some(payers) => self
                .quota
                .charge(&payers, Load::Other(bytes_of(load)), arrival.at_ms),
            None => self.quota.charge(&own, load, arrival.at_ms),
        }
    }

    /// Takes an admit of a peer: its witness pays.
    fn take_admit(&mut self, bytes: &[u8], arrival: &Arrival, change: &mut Change) {
        let id = Admit::id_of(bytes);
        let Ok(admit) = Admit::parse(bytes) else {
            change.refused += 1;
            return;
        };
        if self.authority.admit(&id).is_some() {
            return;
        }
        let payers = self.authority.payers_of_device(&admit.claim().witness);
        let load = Load::Other(bytes.len());
        let key = Digest::new(*id.as_bytes());
        self.within(&payers, load, &key, arrival, change, |ledger, change| {
            ledger.insert_admit(bytes, change);
        });
    }

    /// Takes a record of a peer: its device pays. That one left is heard in any case.
    fn take_record(&mut self, bytes: &[u8], arrival: &Arrival, change: &mut Change) {
        let network = self.authority.network();
        let slot = self.records.peek(bytes, &network).map(|(slot, _)| slot);
        let Some(slot) = slot.filter(|slot| slot.kind != RecordKind::LEFT) else {
            return self.insert_record(bytes, change);
        };
        let payers = self.authority.payers_of_device(&slot.device);
        let load = Load::Other(bytes.len());
        self.within(
            &payers,
            load,
            &slot.key(),
            arrival,
            change,
            |ledger, change| {
                ledger.insert_record(bytes, change);
            },
        );
    }

    /// Takes something if there is room for it, and charges it if it was new.
    fn within(
        &mut self,
        payers: &Payers,
        load: Load,
        key: &Digest,
        arrival: &Arrival,
        change: &mut Change,
        insert: impl FnOnce(&mut Self, &mut Change),
    ) {
        if !arrival.first
            && let Err(until) = self.quota.admits(payers, load, arrival.at_ms)
        {
            self.quota.turn_away(*key, until, arrival.at_ms);
            change.turned_away += 1;
            return;
        }
        let before = change.writes.len();
        insert(self, change);
        if change.writes.len() > before && !arrival.first {
            self.quota.charge(payers, load, arrival.at_ms);
        }
    }

    /// Whether an item is missing here, and worth to be asked for now.
    pub fn wants(&mut self, set: Set, key: &Digest, hash: &ShortHash, at_ms: u64) -> bool {
        let waited_for =
            set == Set::Ops && self.authority.is_waited_for(&OpId::new(*key.as_bytes()));
        (waited_for || !self.quota.is_turned_away(key, at_ms)) && !self.index(set).has(key, hash)
    }

    /// What held ops with a stored right wait for, by who pays for it and has room, the most senior first.
    #[must_use]
    pub fn sought(&mut self, at_ms: u64) -> Vec<(Payers, BTreeSet<Digest>)> {
        let mut sought: BTreeMap<(Level, Author), (Payers, BTreeSet<Digest>)> = BTreeMap::new();
        for parent in self.authority.sought() {
            for op in self.authority.waiting_for(parent) {
                let payers = payers_of_held(&self.authority, &self.sponsors, op);
                let Some((author, level)) = payers.0.first().copied() else {
                    continue;
                };
                let parents = op.header().parents.iter();
                let missing = parents.filter(|parent| !self.authority.contains(parent));
                let (_, keys) = sought
                    .entry((level, author))
                    .or_insert_with(|| (payers, BTreeSet::new()));
                keys.extend(missing.map(|id| Digest::new(*id.as_bytes())));
            }
        }
        let mut sought: Vec<_> = sought.into_values().collect();
        let least = Load::Op(0);
        sought.retain(|(payers, _)| self.quota.admits(payers, least, at_ms).is_ok());
        sought
    }
}

/// Who pays for a held op and for what it rests on.
fn payers_of_held(authority: &Authority, known: &BTreeMap<OpId, Payers>, op: &Op) -> Payers {
    let sponsor = known.get(&op.id()).cloned();
    sponsor.unwrap_or_else(|| authority.payers_of_op(op.header()))
}

fn load_of(header: &Header, bytes: usize) -> Load {
    if header.kind == Kind::POLICY_BASE {
        Load::Base(bytes)
    } else {
        Load::Op(bytes)
    }
}

const fn bytes_of(load: Load) -> usize {
    match load {
        Load::Op(bytes) | Load::Base(bytes) | Load::Other(bytes) => bytes,
    }
}
