//! One edit of the document: a raw Automerge change that says nothing but what an edit may say
//! (`docs/protocol.md` §10.3).

use std::collections::BTreeSet;
use std::fmt;

use automerge::legacy::{Key, ObjectId, Op, OpId, OpType};
use automerge::{ActorId, Change, ObjType, ScalarValue};
use rand_core::CryptoRng;

use super::image::{Section, VERSION, VERSION_KEY};
use super::scan::{ACTOR_BYTES, Refusal, scan_base, scan_edit};
use crate::id::NodeId;
use crate::identity::hash_as;

const ACTOR_CONTEXT: &str = "meshnode policy actor 1";
/// Bytes of an actor that follow from the author.
const AUTHOR_BYTES: usize = 8;

/// Which edit: Automerge's hash of the change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EditId([u8; 32]);

impl EditId {
    /// Takes a hash as it is.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for EditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = crate::id::base32(&self.0[..5]);
        text.truncate(8);
        write!(f, "EditId({text})")
    }
}

/// Why bytes are no edit by their author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The scan refused the bytes.
    #[error("refused unread: {0}")]
    Refused(#[from] Refusal),
    /// Automerge refused them.
    #[error("not an Automerge change")]
    Malformed,
    /// The actor does not follow from the author.
    #[error("made under the actor of somebody else")]
    Author,
    /// An operation that is in no edit.
    #[error("an operation that is in no edit: {0}")]
    Operation(&'static str),
    /// A base that has parents, an edit that has none.
    #[error("neither a base nor an edit")]
    Parents,
}

/// Sixteen bytes under which one edit is made: half from its author, half random, never used twice.
pub(super) type Actor = [u8; ACTOR_BYTES];

/// A new actor for an edit of an author.
pub(super) fn new_actor<R: CryptoRng>(author: &NodeId, rng: &mut R) -> Actor {
    let mut actor = [0; ACTOR_BYTES];
    rng.fill_bytes(&mut actor);
    actor[..AUTHOR_BYTES].copy_from_slice(&of_author(author));
    actor
}

fn of_author(author: &NodeId) -> [u8; AUTHOR_BYTES] {
    let mut front = [0; AUTHOR_BYTES];
    let hash = hash_as(ACTOR_CONTEXT, author.as_bytes());
    front.copy_from_slice(&hash.as_bytes()[..AUTHOR_BYTES]);
    front
}

/// An operation by its place: which actor's, and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OpRef {
    pub(super) actor: Actor,
    pub(super) counter: u64,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Makes a map.
    Map,
    /// Writes a value.
    Put,
    /// Removes what its predecessors wrote.
    Delete,
}

/// One operation of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// The map that it changes; `None`: the root.
    pub(super) object: Option<OpRef>,
    pub(super) key: String,
    pub(super) predecessors: Vec<OpRef>,
    pub(super) act: Act,
}

/// An edit that was parsed. Whether what it builds on exists is the document's business.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) id: EditId,
    pub(super) actor: Actor,
    pub(super) parents: Vec<EditId>,
    /// The counter of its first operation.
    pub(super) first: u64,
    pub(super) operations: Vec<Operation>,
    pub(super) change: Change,
}

impl Edit {
    /// Parses an edit of an author.
    pub(super) fn parse(bytes: &[u8], author: &NodeId) -> Result<Self, EditError> {
        scan_edit(bytes)?;
        let edit = Self::decode(bytes, author)?;
        if edit.parents.is_empty() {
            return Err(EditError::Parents);
        }
        if edit.operations.iter().any(|op| op.object.is_none()) {
            return Err(EditError::Operation("it changes the sections"));
        }
        Ok(edit)
    }

    /// Parses a base of an author: it makes every section, and stands on nothing.
    pub(super) fn parse_base(bytes: &[u8], author: &NodeId) -> Result<Self, EditError> {
        scan_base(bytes)?;
        let edit = Self::decode(bytes, author)?;
        if !edit.parents.is_empty() || edit.first != 1 {
            return Err(EditError::Parents);
        }
        let at_root = edit.operations.iter().filter(|op| op.object.is_none());
        let mut made: Vec<_> = at_root.map(|op| (op.key.as_str(), op.act)).collect();
        made.sort_by_key(|(key, _)| *key);
        let mut wanted: Vec<_> = Section::ALL
            .iter()
            .map(|section| (section.word(), Act::Map))
            .chain([(VERSION_KEY, Act::Put)])
            .collect();
        wanted.sort_by_key(|(key, _)| *key);
        if made != wanted {
            return Err(EditError::Operation("not the sections of a base"));
        }
        Ok(edit)
    }

    /// Bytes that were scanned, as an edit.
    fn decode(bytes: &[u8], author: &NodeId) -> Result<Self, EditError> {
        let change = Change::from_bytes(bytes.to_vec()).map_err(|_| EditError::Malformed)?;
        if change.raw_bytes() != bytes {
            return Err(EditError::Malformed);
        }
        let actor = actor_bytes(change.actor_id())?;
        if actor[..AUTHOR_BYTES] != of_author(author) {
            return Err(EditError::Author);
        }
        let mut parents: Vec<_> = change.deps().iter().map(|hash| EditId(hash.0)).collect();
        let count = parents.len();
        parents.sort_unstable();
        parents.dedup();
        if parents.len() != count {
            return Err(EditError::Parents);
        }
        let first = change.start_op().get();
        let expanded = change.decode();
        let operations = expanded.operations.iter().map(operation);
        let operations = operations.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            id: EditId(change.hash().0),
            actor,
            parents,
            first,
            operations,
            change,
        })
    }

    /// The counter behind its last operation.
    pub(super) fn end(&self) -> u64 {
        self.first + self.operations.len() as u64
    }

    /// The actors of other edits whose operations it names.
    pub(super) fn builds_on(&self) -> BTreeSet<Actor> {
        let named = self.operations.iter().flat_map(|operation| {
            let object = operation.object.iter();
            object.chain(&operation.predecessors)
        });
        let mut actors: BTreeSet<_> = named.map(|named| named.actor).collect();
        actors.remove(&self.actor);
        actors
    }
}

fn actor_bytes(actor: &ActorId) -> Result<Actor, EditError> {
    Actor::try_from(actor.to_bytes()).map_err(|_| EditError::Author)
}

fn op_ref(id: &OpId) -> Result<OpRef, EditError> {
    Ok(OpRef {
        actor: actor_bytes(id.actor())?,
        counter: id.counter(),
    })
}

fn operation(op: &Op) -> Result<Operation, EditError> {
    let object = match &op.obj {
        ObjectId::Root => None,
        ObjectId::Id(id) => Some(op_ref(id)?),
    };
    let Key::Map(key) = &op.key else {
        return Err(EditError::Operation("it changes a list"));
    };
    if op.insert {
        return Err(EditError::Operation("it inserts into a list"));
    }
    let act = match &op.action {
        OpType::Make(ObjType::Map) => Act::Map,
        OpType::Put(value) => put(object.is_none(), key, value)?,
        OpType::Delete => Act::Delete,
        OpType::Make(ObjType::Table | ObjType::List | ObjType::Text) => {
            return Err(EditError::Operation("it makes something other than a map"));
        }
        OpType::Increment(_) | OpType::MarkBegin(_) | OpType::MarkEnd(_) => {
            return Err(EditError::Operation("it counts or marks"));
        }
    };
    let predecessors: Vec<_> = op.pred.iter().map(op_ref).collect::<Result<_, _>>()?;
    let distinct: BTreeSet<_> = predecessors.iter().collect();
    if distinct.len() != predecessors.len() {
        return Err(EditError::Operation("it names a predecessor twice"));
    }
    if act == Act::Delete && predecessors.is_empty() {
        return Err(EditError::Operation("it deletes nothing"));
    }
    Ok(Operation {
        object,
        key: key.to_string(),
        predecessors,
        act,
    })
}

fn put(at_root: bool, key: &str, value: &ScalarValue) -> Result<Act, EditError> {
    let known = match value {
        ScalarValue::Uint(version) if at_root => key == VERSION_KEY && *version == VERSION,
        ScalarValue::Str(_) | ScalarValue::Uint(_) | ScalarValue::Bytes(_) => !at_root,
        ScalarValue::Boolean(value) => *value && !at_root,
        ScalarValue::Int(_)
        | ScalarValue::F64(_)
        | ScalarValue::Counter(_)
        | ScalarValue::Timestamp(_)
        | ScalarValue::Null
        | ScalarValue::Unknown { .. } => false,
    };
    known
        .then_some(Act::Put)
        .ok_or(EditError::Operation("it writes a value of another kind"))
}
