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
    /// How many admits each device has.
    by_device: BTreeMap<NodeId, usize>,
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

    /// Whether an admit is of this device.
    pub(super) fn names(&self, device: &NodeId) -> bool {
        self.by_device.contains_key(device)
    }

    /// Takes a checked admit if it is among the smallest.
    pub(super) fn insert(&mut self, admit: Admit) -> AdmitInserted {
        let id = admit.id();
        let (invite, device) = (admit.claim().invite, admit.claim().device);
        let pair = (device, admit.claim().witness);
        let pairs = self.by_invite.entry(invite).or_default();
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
        if let Some((pair, _)) = &loser {
            self.forget(&pair.0);
        }
        *self.by_device.entry(device).or_default() += 1;
        self.by_id.insert(id, admit);
        AdmitInserted::Added {
            dropped: loser.map(|((device, _), kept)| (kept, device)),
        }
    }

    /// One admit fewer of a device.
    fn forget(&mut self, device: &NodeId) {
        if let Some(left) = self.by_device.get_mut(device) {
            *left -= 1;
            if *left == 0 {
                self.by_device.remove(device);
            }
        }
    }
}
