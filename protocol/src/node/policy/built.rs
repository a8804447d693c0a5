//! A policy document with the ops that it was built of.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::Authority;
use crate::body::Body;
use crate::id::OpId;
use crate::op::{Author, Op};
use crate::policy::{Document, EditId, Reading};

/// A policy that could be built.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) base: OpId,
    /// The changes that were looked at.
    taken: BTreeSet<OpId>,
    pub(super) document: Document,
    pub(super) reading: Reading,
    /// Which op an edit came in.
    pub(super) ops: BTreeMap<EditId, OpId>,
    /// Changes that say nothing that an edit may say: as if they were not there.
    pub(super) unread: BTreeSet<OpId>,
    /// The changes in effect.
    pub(super) in_effect: BTreeSet<OpId>,
    /// The last op that has an effect, in the order of the changes.
    pub(super) last: OpId,
}

impl Built {
    /// Builds a base and changes; `None`: the base cannot be read.
    pub(super) fn of(authority: &Authority, base: &OpId, changes: &[OpId]) -> Option<Self> {
        let op = authority.op(base)?;
        let Author::Device(author) = op.header().author else {
            return None;
        };
        let bytes = &op.body().policy_base()?.change;
        let document = Document::from_base(bytes, &author).ok()?;
        let mut built = Self {
            base: *base,
            taken: BTreeSet::new(),
            ops: BTreeMap::from([(document.base(), *base)]),
            reading: Reading::default(),
            document,
            unread: BTreeSet::new(),
            in_effect: BTreeSet::new(),
            last: *base,
        };
        built.grow(authority, changes);
        Some(built)
    }

    /// Takes the changes that are new. Gives whether all that it has are among them: else it must be built anew.
    pub(super) fn grow(&mut self, authority: &Authority, changes: &[OpId]) -> bool {
        let wanted: BTreeSet<OpId> = changes.iter().copied().collect();
        if !self.taken.is_subset(&wanted) {
            return false;
        }
        let new: Vec<_> = wanted.difference(&self.taken).copied().collect();
        for id in &new {
            let edit = authority.op(id).and_then(|op| self.take(op));
            match edit {
                Some(edit) => drop(self.ops.entry(edit).or_insert(*id)),
                None => drop(self.unread.insert(*id)),
            }
        }
        self.taken = wanted;
        let in_effect = self.document.in_effect();
        let in_effect = in_effect.iter().filter_map(|edit| self.ops.get(edit));
        self.in_effect = in_effect.copied().collect();
        let mut last = changes.iter().rev();
        let last = last.find(|id| self.in_effect.contains(id));
        self.last = last.copied().unwrap_or(self.base);
        self.reading = self.document.read();
        true
    }

    fn take(&mut self, op: &Op) -> Option<EditId> {
        let (Body::Policy(policy), Author::Device(author)) = (op.body(), op.header().author) else {
            return None;
        };
        let taken = self.document.take(&policy.change, &author);
        taken.ok().map(|(edit, _)| edit)
    }

    /// The policy after an op, or right before it: its base and the changes in its past. All that its author saw, or
    /// with `counting` only these.
    pub(super) fn at(
        authority: &Authority,
        id: &OpId,
        moment: When,
        counting: Option<&BTreeSet<OpId>>,
    ) -> Option<Self> {
        let op = authority.op(id)?;
        let base = match (op.body(), moment) {
            (Body::Policy(policy), _) => policy.base,
            (Body::PolicyBase(_), When::After) => *id,
            (Body::PolicyBase(base), When::Before) => base.previous?,
            (
                Body::Genesis(_)
                | Body::Grant(_)
                | Body::Invite(_)
                | Body::Revoke(_)
                | Body::InviteClose(_)
                | Body::Rekey(_)
                | Body::Noop
                | Body::Opaque,
                _,
            ) => return None,
        };
        let counts = |id: &OpId| counting.is_none_or(|counting| counting.contains(id));
        let past = authority.with_past(vec![authority.place(id)?]);
        let entries = authority.entries().iter().zip(past);
        let seen = entries.filter_map(|(entry, seen)| seen.then_some(entry.op.as_ref()));
        let changes = seen.filter(|op| {
            let of_base = matches!(op.body(), Body::Policy(policy) if policy.base == base);
            let wanted = moment == When::After || op.id() != *id;
            of_base && wanted && counts(&op.id())
        });
        let changes: Vec<OpId> = changes.map(Op::id).collect();
        Self::of(authority, &base, &changes)
    }
}

/// Before an op, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Without it.
    Before,
    /// With it.
    After,
}
