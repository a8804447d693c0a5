//! Ops whose parents are not stored yet: kept aside within a limit, oldest given up first.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, OpId};
use crate::limits::{ORPHAN_BYTES_MAX, ORPHAN_SHARE};
use crate::op::Op;

/// The held ops of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    orphans: BTreeMap<OpId, Orphan>,
    /// Which orphans wait for a missing parent; each waits for one at a time.
    waiting: BTreeMap<OpId, BTreeSet<OpId>>,
    /// By age.
    arrivals: BTreeMap<u64, OpId>,
    /// Of each peer that brought any: by age, and their bytes.
    shares: BTreeMap<Option<NodeId>, Share>,
    arrived: u64,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Share {
    arrivals: BTreeSet<(u64, OpId)>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Orphan {
    op: Op,
    parent: OpId,
    giver: Option<NodeId>,
    arrival: u64,
}

impl Held {
    /// A held op.
    pub(super) fn op(&self, id: &OpId) -> Option<&Op> {
        self.orphans.get(id).map(|orphan| &orphan.op)
    }

    /// Whether an op waits for a parent.
    pub(super) fn is_waited_for(&self, parent: &OpId) -> bool {
        self.waiting.contains_key(parent)
    }

    /// The ops that wait for a parent.
    pub(super) fn waiting_for(&self, parent: &OpId) -> impl Iterator<Item = &Op> {
        let waiting = self.waiting.get(parent).into_iter().flatten();
        waiting.filter_map(|id| self.op(id))
    }

    /// The parents that ops wait for.
    pub(super) fn sought(&self) -> impl Iterator<Item = &OpId> {
        self.waiting.keys()
    }

    /// Who brought a held op.
    pub(super) fn giver(&self, id: &OpId) -> Option<NodeId> {
        self.orphans.get(id).and_then(|orphan| orphan.giver)
    }

    /// Keeps an op until `parent` is stored; a stub does not take the place of a body. No peer pushes out what others
    /// brought: of a full share its own oldest goes.
    pub(super) fn keep(&mut self, op: Op, parent: OpId, giver: Option<NodeId>) {
        let id = op.id();
        if op.is_stub() && self.orphans.contains_key(&id) {
            return;
        }
        self.remove(&id);
        self.arrived += 1;
        self.bytes += op.bytes().len();
        self.arrivals.insert(self.arrived, id);
        let share = self.shares.entry(giver).or_default();
        share.arrivals.insert((self.arrived, id));
        share.bytes += op.bytes().len();
        self.waiting.entry(parent).or_default().insert(id);
        let orphan = Orphan {
            op,
            parent,
            giver,
            arrival: self.arrived,
        };
        self.orphans.insert(id, orphan);
        // What comes from this node's own disk is nobody's flood.
        while giver.is_some()
            && let Some(share) = self.shares.get(&giver)
            && share.bytes > ORPHAN_BYTES_MAX / ORPHAN_SHARE
            && let Some((_, oldest)) = share.arrivals.first().copied()
        {
            self.remove(&oldest);
        }
        while self.bytes > ORPHAN_BYTES_MAX
            && let Some(oldest) = self.arrivals.first_key_value().map(|(_, id)| *id)
        {
            self.remove(&oldest);
        }
    }

    /// Gives up the ops that waited for an op, by id.
    pub(super) fn release(&mut self, parent: &OpId) -> Vec<(Op, Option<NodeId>)> {
        let waiting = self.waiting.get(parent).cloned().unwrap_or_default();
        let mut released = Vec::with_capacity(waiting.len());
        for id in &waiting {
            let giver = self.giver(id);
            released.extend(self.remove(id).map(|op| (op, giver)));
        }
        released
    }

    fn remove(&mut self, id: &OpId) -> Option<Op> {
        let orphan = self.orphans.remove(id)?;
        self.bytes -= orphan.op.bytes().len();
        self.arrivals.remove(&orphan.arrival);
        if let Some(share) = self.shares.get_mut(&orphan.giver) {
            share.arrivals.remove(&(orphan.arrival, *id));
            share.bytes -= orphan.op.bytes().len();
            if share.arrivals.is_empty() {
                self.shares.remove(&orphan.giver);
            }
        }
        if let Some(siblings) = self.waiting.get_mut(&orphan.parent) {
            siblings.remove(id);
            if siblings.is_empty() {
                self.waiting.remove(&orphan.parent);
            }
        }
        Some(orphan.op)
    }
}
