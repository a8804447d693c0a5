//! Ops whose parents are not stored yet: kept aside within a limit, oldest given up first.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::OpId;
use crate::limits::ORPHAN_BYTES_MAX;
use crate::op::Op;

/// The held ops of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    orphans: BTreeMap<OpId, Orphan>,
    /// Which orphans wait for a missing parent; each waits for one at a time.
    waiting: BTreeMap<OpId, BTreeSet<OpId>>,
    /// By age.
    arrivals: BTreeMap<u64, OpId>,
    arrived: u64,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Orphan {
    op: Op,
    parent: OpId,
    arrival: u64,
}

impl Held {
    /// A held op.
    pub(super) fn op(&self, id: &OpId) -> Option<&Op> {
        self.orphans.get(id).map(|orphan| &orphan.op)
    }

    /// Keeps an op until `parent` is stored; a stub does not take the place of a body.
    pub(super) fn keep(&mut self, op: Op, parent: OpId) {
        let id = op.id();
        if op.is_stub() && self.orphans.contains_key(&id) {
            return;
        }
        self.remove(&id);
        self.arrived += 1;
        self.bytes += op.bytes().len();
        self.arrivals.insert(self.arrived, id);
        self.waiting.entry(parent).or_default().insert(id);
        let orphan = Orphan {
            op,
            parent,
            arrival: self.arrived,
        };
        self.orphans.insert(id, orphan);
        while self.bytes > ORPHAN_BYTES_MAX
            && let Some(oldest) = self.arrivals.first_key_value().map(|(_, id)| *id)
        {
            self.remove(&oldest);
        }
    }

    /// Gives up the ops that waited for an op, by id.
    pub(super) fn release(&mut self, parent: &OpId) -> Vec<Op> {
        let waiting = self.waiting.get(parent).cloned().unwrap_or_default();
        waiting.iter().filter_map(|id| self.remove(id)).collect()
    }

    fn remove(&mut self, id: &OpId) -> Option<Op> {
        let orphan = self.orphans.remove(id)?;
        self.bytes -= orphan.op.bytes().len();
        self.arrivals.remove(&orphan.arrival);
        if let Some(siblings) = self.waiting.get_mut(&orphan.parent) {
            siblings.remove(id);
            if siblings.is_empty() {
                self.waiting.remove(&orphan.parent);
            }
        }
        Some(orphan.op)
    }
}
