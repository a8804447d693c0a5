//! The document: a base and the edits that stand on it, merged by Automerge (`docs/protocol.md` §10.2).
//!
//! A function of the set of edits, whatever the order of their arrival: an edit takes effect when everything that it
//! builds on did, and of two under one actor only the one with the smaller id can.

use std::collections::{BTreeMap, BTreeSet};

use automerge::Automerge;

use super::edit::{Act, Actor, Edit, EditError, EditId, OpRef, Operation};
use crate::id::{Digest, NodeId};
use crate::identity::hash_as;
use crate::limits::POLICY_HISTORY_BYTES_DUE;

const DIGEST_CONTEXT: &str = "meshnode policy document 1";

/// What became of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in effect.
    Now,
    /// It was there before.
    Already,
    /// It waits: something that it builds on is not in effect.
    Waits,
}

/// An edit without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Which.
    pub id: EditId,
    /// The parents that are not in effect; none: it contradicts what it builds on, or has a twin.
    pub missing: Vec<EditId>,
}

/// The policy document of one base.
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) automerge: Automerge,
    base: Edit,
    edits: BTreeMap<EditId, Edit>,
    /// The edits in effect, the base first.
    order: Vec<EditId>,
    effects: Effects,
}

/// What is in effect, in the terms by which edits are judged.
#[derive(Clone, Debug, Default)]
struct Effects {
    /// The counter behind the last operation of each edit and of its past.
    ends: BTreeMap<EditId, u64>,
    /// The one edit of each actor.
    actors: BTreeMap<Actor, EditId>,
    /// Who waits for an edit or an actor.
    waiting: BTreeMap<Need, BTreeSet<EditId>>,
}

/// Something that an edit builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Parent(EditId),
    Actor(Actor),
}

/// Whether an edit can take effect.
enum Judgement {
    Ready,
    Waits(Need),
    Void,
}

impl PartialEq for Document {
    /// Equal documents have the same edits; the order of arrival does not count.
    fn eq(&self, other: &Self) -> bool {
        self.base.id == other.base.id
            && self.edits.keys().eq(other.edits.keys())
            && self.in_effect() == other.in_effect()
    }
}

impl Eq for Document {}

impl Document {
    /// The document of a base that an author made.
    ///
    /// # Errors
    /// When the bytes are no base of the author.
    pub fn from_base(bytes: &[u8], author: &NodeId) -> Result<Self, EditError> {
        Self::of(Edit::parse_base(bytes, author)?)
    }

    fn of(base: Edit) -> Result<Self, EditError> {
        let mut document = Self {
            automerge: Automerge::new(),
            base: base.clone(),
            edits: BTreeMap::new(),
            order: Vec::new(),
            effects: Effects::default(),
        };
        match document.judge(&base) {
            Judgement::Ready => {}
            Judgement::Waits(_) | Judgement::Void => {
                return Err(EditError::Operation("it builds on what is not there"));
            }
        }
        if document.take_effect(&base) {
            Ok(document)
        } else {
            Err(EditError::Malformed)
        }
    }

    /// Takes an edit that an author made. Any order of the same edits gives the same document.
    ///
    /// # Errors
    /// When the bytes are no edit of the author; the document stays as it is.
    pub fn apply(&mut self, bytes: &[u8], author: &NodeId) -> Result<Applied, EditError> {
        self.take(bytes, author).map(|(_, applied)| applied)
    }

    /// The same, and says which edit the bytes are.
    ///
    /// # Errors
    /// Likewise.
    pub fn take(&mut self, bytes: &[u8], author: &NodeId) -> Result<(EditId, Applied), EditError> {
        let edit = Edit::parse(bytes, author)?;
        let id = edit.id;
        if self.edits.contains_key(&id) {
            return Ok((id, Applied::Already));
        }
        let twin = edit.actor == self.base.actor
            || self.edits.values().any(|other| other.actor == edit.actor);
        self.edits.insert(id, edit);
        if twin {
            self.rebuild(&BTreeSet::new());
        } else {
            self.settle(BTreeSet::from([id]));
        }
        let now = self.effects.ends.contains_key(&id);
        Ok((id, if now { Applied::Now } else { Applied::Waits }))
    }

    /// Lets edits take effect, and whatever waited for them. One that Automerge refuses against all rules is left out.
    fn settle(&mut self, mut ready: BTreeSet<EditId>) {
        while let Some(id) = ready.pop_first() {
            let edit = self.edits[&id].clone();
            if self.effects.ends.contains_key(&id) || !self.is_chosen(&edit) {
                continue;
            }
            match self.judge(&edit) {
                Judgement::Ready => {}
                Judgement::Waits(need) => {
                    self.effects.waiting.entry(need).or_default().insert(id);
                    continue;
                }
                Judgement::Void => continue,
            }
            if !self.take_effect(&edit) {
                self.rebuild(&BTreeSet::from([id]));
                return;
            }
            for need in [Need::Parent(id), Need::Actor(edit.actor)] {
                let woken = self.effects.waiting.remove(&need);
                ready.extend(woken.into_iter().flatten());
            }
        }
    }

    /// Whether an edit is the one of its actor that can take effect.
    fn is_chosen(&self, edit: &Edit) -> bool {
        let mut twins = self
            .edits
            .values()
            .filter(|other| other.actor == edit.actor);
        edit.actor != self.base.actor && twins.all(|twin| edit.id <= twin.id)
    }

    fn rebuild(&mut self, without: &BTreeSet<EditId>) {
        let Ok(mut fresh) = Self::of(self.base.clone()) else {
            unreachable!("the base took effect before");
        };
        fresh.edits.clone_from(&self.edits);
        let all = fresh.edits.keys().filter(|id| !without.contains(id));
        fresh.settle(all.copied().collect());
        *self = fresh;
    }

    fn take_effect(&mut self, edit: &Edit) -> bool {
        if self.automerge.apply_changes([edit.change.clone()]).is_err() {
            return false;
        }
        self.order.push(edit.id);
        self.effects.ends.insert(edit.id, edit.end());
        self.effects.actors.insert(edit.actor, edit.id);
        true
    }

    fn judge(&self, edit: &Edit) -> Judgement {
        let mut end = 1;
        for parent in &edit.parents {
            match self.effects.ends.get(parent) {
                Some(other) => end = end.max(*other),
                None => return Judgement::Waits(Need::Parent(*parent)),
            }
        }
        for actor in edit.builds_on() {
            if !self.effects.actors.contains_key(&actor) {
                return Judgement::Waits(Need::Actor(actor));
            }
        }
        let mut counters = edit.first..;
        let sound = edit.first == end
            && edit.operations.iter().zip(&mut counters).all(|(op, own)| {
                let object = op.object.as_ref();
                object.is_none_or(|object| self.is_map(edit, object, own))
                    && op.predecessors.iter().all(|old| {
                        let old = self.operation(edit, old, own);
                        old.is_some_and(|old| {
                            old.act != Act::Delete && old.object == op.object && old.key == op.key
                        })
                    })
            });
        if sound {
            Judgement::Ready
        } else {
            Judgement::Void
        }
    }

    fn is_map(&self, edit: &Edit, object: &OpRef, before: u64) -> bool {
        self.operation(edit, object, before)
            .is_some_and(|operation| operation.act == Act::Map)
    }

    /// An operation before a counter, of the edit itself or of one in effect.
    fn operation<'a>(
        &'a self,
        edit: &'a Edit,
        named: &OpRef,
        before: u64,
    ) -> Option<&'a Operation> {
        let of = if named.actor == edit.actor {
            edit
        } else {
            let id = self.effects.actors.get(&named.actor)?;
            self.edits.get(id).unwrap_or(&self.base)
        };
        let index = named.counter.checked_sub(of.first)?;
        let operation = of.operations.get(usize::try_from(index).ok()?)?;
        (named.counter < before).then_some(operation)
    }

    /// The edit that the document stands on.
    #[must_use]
    pub const fn base(&self) -> EditId {
        self.base.id
    }

    /// The edits in effect, the base among them.
    #[must_use]
    pub fn in_effect(&self) -> BTreeSet<EditId> {
        self.order.iter().copied().collect()
    }

    /// The edits without effect, and what each waits for.
    #[must_use]
    pub fn orphans(&self) -> Vec<Orphan> {
        let in_effect = &self.effects.ends;
        let idle = self
            .edits
            .values()
            .filter(|edit| !in_effect.contains_key(&edit.id));
        let orphans = idle.map(|edit| {
            let parents = edit.parents.iter().copied();
            Orphan {
                id: edit.id,
                missing: parents
                    .filter(|parent| !in_effect.contains_key(parent))
                    .collect(),
            }
        });
        orphans.collect()
    }

    /// What the document is, in 32 bytes: equal for equal edits in effect.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for id in self.in_effect() {
            bytes.extend_from_slice(id.as_bytes());
        }
        hash_as(DIGEST_CONTEXT, &bytes)
    }

    /// Bytes of the edits since the base.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        let edits = self.edits.values();
        edits.map(|edit| edit.change.raw_bytes().len()).sum()
    }

    /// Whether so much was edited that a new base is due.
    #[must_use]
    pub fn base_is_due(&self) -> bool {
        self.history_bytes() > POLICY_HISTORY_BYTES_DUE
    }
}
