//! Writes steps into an Automerge document, as one change under an actor of its own.

use std::collections::BTreeMap;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, AutomergeError, ObjId, ObjType, ROOT, ReadDoc};
use rand_core::CryptoRng;

use super::edit::new_actor;
use super::image::{Image, Scalar, Section, VERSION, VERSION_KEY};
use crate::id::NodeId;

/// One step of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Create {
        id: String,
        image: Image,
        members: BTreeMap<String, String>,
    },
    Delete {
        section: Section,
        id: String,
    },
    Put {
        section: Section,
        id: String,
        field: &'static str,
        value: Scalar,
    },
    Remove {
        section: Section,
        id: String,
        field: &'static str,
    },
    Join {
        section: Section,
        id: String,
        member: String,
        text: String,
    },
    Part {
        section: Section,
        id: String,
        member: String,
    },
}

/// Takes steps on a document as one change under a new actor; an empty document gets its sections first.
pub(super) fn write<R: CryptoRng>(
    document: Automerge,
    steps: &[Step],
    author: &NodeId,
    rng: &mut R,
) -> Vec<u8> {
    let actor = ActorId::from(new_actor(author, rng));
    let mut document = document.with_actor(actor);
    let mut transaction = document.transaction();
    let taken = take(&mut transaction, steps);
    taken.expect("steps name maps and fields that were just read from the document");
    let (hash, _) = transaction.commit();
    let hash = hash.expect("there was a step");
    let change = document.get_change_by_hash(&hash);
    let change = change.expect("a change that was just committed is there");
    change.raw_bytes().to_vec()
}

fn take<T: Transactable + ReadDoc>(to: &mut T, steps: &[Step]) -> Result<(), AutomergeError> {
    if to.get(ROOT, VERSION_KEY)?.is_none() {
        to.put(ROOT, VERSION_KEY, VERSION)?;
        for section in Section::ALL {
            to.put_object(ROOT, section.word(), ObjType::Map)?;
        }
    }
    for step in steps {
        match step {
            Step::Create { id, image, members } => {
                let section = child(to, &ROOT, image.section.word())?;
                let entry = to.put_object(&section, id.as_str(), ObjType::Map)?;
                for (field, value) in &image.fields {
                    put(to, &entry, field, value)?;
                }
                if let Some(set) = image.section.set() {
                    let set = to.put_object(&entry, set, ObjType::Map)?;
                    for (member, text) in members {
                        to.put(&set, member.as_str(), text.as_str())?;
                    }
                }
            }
            Step::Delete { section, id } => {
                let section = child(to, &ROOT, section.word())?;
                to.delete(&section, id.as_str())?;
            }
            Step::Put {
                section,
                id,
                field,
                value,
            } => {
                let entry = entry(to, *section, id)?;
                put(to, &entry, field, value)?;
            }
            Step::Remove { section, id, field } => {
                let entry = entry(to, *section, id)?;
                to.delete(&entry, *field)?;
            }
            Step::Join {
                section,
                id,
                member,
                text,
            } => {
                let set = set(to, *section, id)?;
                to.put(&set, member.as_str(), text.as_str())?;
            }
            Step::Part {
                section,
                id,
                member,
            } => {
                let set = set(to, *section, id)?;
                to.delete(&set, member.as_str())?;
            }
        }
    }
    Ok(())
}

fn put<T: Transactable>(
    to: &mut T,
    entry: &ObjId,
    field: &str,
    value: &Scalar,
) -> Result<(), AutomergeError> {
    match value {
        Scalar::Text(text) => to.put(entry, field, text.as_str()),
        Scalar::Number(number) => to.put(entry, field, *number),
        Scalar::Bytes(bytes) => to.put(entry, field, bytes.clone()),
        Scalar::Flag => to.put(entry, field, true),
    }
}

fn child<T: ReadDoc>(of: &T, object: &ObjId, key: &str) -> Result<ObjId, AutomergeError> {
    let child = of.get(object, key)?;
    child
        .map(|(_, child)| child)
        .ok_or(AutomergeError::InvalidObjId(key.to_owned()))
}

fn entry<T: ReadDoc>(of: &T, section: Section, id: &str) -> Result<ObjId, AutomergeError> {
    let section = child(of, &ROOT, section.word())?;
    child(of, &section, id)
}

/// The set of an entry; made if an edit of somebody else left it out.
fn set<T: Transactable + ReadDoc>(
    to: &mut T,
    section: Section,
    id: &str,
) -> Result<ObjId, AutomergeError> {
    let entry = entry(to, section, id)?;
    let key = section.set().expect("only entries with a set are joined");
    match to.get(&entry, key)? {
        Some((_, set)) => Ok(set),
        None => to.put_object(&entry, key, ObjType::Map),
    }
}
