//! Taking what peers bring: within what one author may put in (`docs/protocol.md` §12.1).

use super::{Change, Ledger};
use crate::authority::Inserted;
use crate::body::Kind;
use crate::claim::Admit;
use crate::epochs::Epochs;
use crate::id::{Digest, OpId};
use crate::op::{Header, Op};
use crate::quota::{Arrival, Load, Payers};
use crate::reconcile::ShortHash;
use crate::record::{Record, RecordKind};
use crate::seal::SealError;
use crate::wire::{Items, KEYS_ASKED_MAX, Set};

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
        let (Ok(id), Ok((header, _))) = (Op::peek_id(bytes), Header::parse(bytes)) else {
            change.refused += 1;
            return;
        };
        if self.authority.op(&id).is_some_and(|op| !op.is_stub()) {
            return;
        }
        let load = load_of(&header, bytes.len());
        let payers = match self.who_pays(&id, &header, load, arrival) {
            Ok(payers) => payers,
            Err(until) => {
                let key = Digest::new(*id.as_bytes());
                self.quota.turn_away(key, until, arrival.at_ms);
                change.turned_away += 1;
                return;
            }
        };
        match self.authority.insert_op_of(bytes, arrival.giver) {
            Ok(Inserted::Added(ids)) => {
                for added in ids {
                    self.pay(&added, arrival);
                    self.note_op(&added, change);
                }
            }
            Ok(Inserted::Known) => {}
            Ok(Inserted::Held) => {
                change.held = true;
                if payers.author() != Some(header.author) && self.sponsors.len() < SPONSORS_MAX {
                    self.sponsors.insert(id, payers);
                }
            }
            Err(_) => change.refused += 1,
        }
        if self.sponsors.len() >= SPONSORS_MAX {
            let authority = &self.authority;
            self.sponsors.retain(|id, _| authority.holds(id));
        }
    }

    /// The author pays. When it cannot, somebody else does whose own op rests on this one and is held for it: the
    /// revocation of a flooder may stand on a part of its flood.
    fn who_pays(
        &mut self,
        id: &OpId,
        header: &Header,
        load: Load,
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
        for waiting in self.authority.waiting_for(id) {
            let payers = match self.sponsors.get(&waiting.id()) {
                Some(payers) => payers.clone(),
                None => self.authority.payers_of_op(waiting.header()),
            };
            let load = Load::Op(bytes_of(load));
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
        let slot = Record::peek(bytes).map(|(slot, _)| slot);
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

    /// Ops that were turned away, and that held ops of others wait for.
    #[must_use]
    pub fn sought(&self, at_ms: u64) -> Vec<Digest> {
        let sought = self
            .authority
            .sought()
            .map(|id| Digest::new(*id.as_bytes()));
        let sought = sought.filter(|key| self.quota.is_turned_away(key, at_ms));
        sought.take(KEYS_ASKED_MAX).collect()
    }
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
