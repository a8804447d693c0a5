//! The stored admits: of one invite, device and witness the smallest id, of one invite the smallest 64
//! (`docs/protocol.md` §4.2).
//!
//! Keeping the smallest is a merge that no order of arrival can change. The witness is part of the place: a joiner
//! whose witness fell must find room for its next one.

use std::collections::BTreeMap;

use super::AdmitInserted;
use crate::claim::Admit;
use crate::id::{AdmitId, NodeId, OpId};
use crate::limits::ADMITS_PER_INVITE_MAX;

/// The admits of all invites.
#[derive(Clone, Debug, Default)]
pub(super) struct Admits {
    by_id: BTreeMap<AdmitId, Admit>,
    by_invite: BTreeMap<OpId, BTreeMap<(NodeId, NodeId), AdmitId>>,
    changes: u64,
}

impl Admits {
    /// An admit.
    pub(super) fn get(&self, id: &AdmitId) -> Option<&Admit> {
        self.by_id.get(id)
    }

    /// How many admits were taken so far.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// All admits, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Admit> {
        self.by_id.values()
    }

    /// Takes a checked admit if it is among the smallest.
    pub(super) fn insert(&mut self, admit: Admit) -> AdmitInserted {
        let id = admit.id();
        let claim = admit.claim();
        let pair = (claim.device, claim.witness);
        let pairs = self.by_invite.entry(claim.invite).or_default();
        let loser = match pairs.get(&pair) {
            Some(kept) => Some((pair, *kept)),
            None if pairs.len() < ADMITS_PER_INVITE_MAX => None,
            None => pairs
                .iter()
                .max_by_key(|(_, kept)| **kept)
                .map(|(pair, kept)| (*pair, *kept)),
        };
        if loser.is_some_and(|(_, kept)| kept <= id) {
            return AdmitInserted::NotKept;
        }
        if let Some((pair, kept)) = &loser {
            pairs.remove(pair);
            self.by_id.remove(kept);
        }
        self.changes += 1;
        pairs.insert(pair, id);
        self.by_id.insert(id, admit);
        AdmitInserted::Added {
            dropped: loser.map(|(_, kept)| kept),
        }
    }
}
