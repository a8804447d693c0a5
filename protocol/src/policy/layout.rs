//! Reads the document as a policy; what cannot be read, or was written by two at once, is left out and named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use automerge::{Automerge, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};

use super::directory::Directory;
use super::document::Document;
use super::edit::EditId;
use super::fault::{shown, shown_up_to};
use super::image::{Image, Said, Scalar, Section};
use super::selector::parse_id;
use super::{Members, Pins, Policy};
use crate::id::base32;

/// The id of an entry: random, given once, never used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(pub(super) String);

impl EntryId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a rule or test of a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its entry in the document.
    pub entry: EntryId,
    /// The edit that last wrote it.
    pub edit: Option<EditId>,
}

/// A document as it is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The policy: what is without trouble.
    pub policy: Policy,
    /// Where its rules come from, in their order.
    pub rules: Vec<Source>,
    /// Where its tests come from, in their order.
    pub tests: Vec<Source>,
    /// What was left out.
    pub troubles: Vec<Trouble>,
}

/// An entry that counts for nothing, or not in full, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// Its section.
    pub section: Section,
    /// Its id.
    pub entry: EntryId,
    /// What it is about, if that can be said.
    pub about: Option<String>,
    /// What is wrong.
    pub kind: TroubleKind,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// Two admins wrote a field at once; with what each wrote.
    Contested {
        /// The field.
        field: String,
        /// The values, cleaned for a screen.
        values: Vec<String>,
    },
    /// Another entry is about the same thing.
    Twice,
    /// It cannot be read.
    Malformed,
    /// It has a field that this version does not know.
    Unknown {
        /// The field.
        field: String,
    },
}

/// Symbols of a value that is told: with ids for names a rule has some hundred before what two wrote differs.
const VALUE_SYMBOLS: usize = 1000;

impl Trouble {
    /// The same for people: nodes by their names.
    #[must_use]
    pub fn named(mut self, directory: &Directory) -> Self {
        self.about = self.about.map(|about| name_nodes(&about, directory));
        if let TroubleKind::Contested { values, .. } = &mut self.kind {
            for value in values {
                *value = name_nodes(value, directory);
            }
        }
        self
    }
}

/// Puts names in the place of ids.
fn name_nodes(text: &str, directory: &Directory) -> String {
    let mut parts = text.split("id:");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|symbol: char| !symbol.is_ascii_alphanumeric());
        let (id, rest) = part.split_at(end.unwrap_or(part.len()));
        let name = parse_id(id).and_then(|id| directory.name(&id));
        match name {
            Some(name) => named.push_str(name.as_str()),
            None => {
                named.push_str("id:");
                named.push_str(id);
            }
        }
        named.push_str(rest);
    }
    named
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.about.as_deref().unwrap_or(self.entry.as_str());
        write!(f, "{} {}: ", self.section.word(), shown(entry))?;
        match &self.kind {
            TroubleKind::Contested { values, .. } => {
                write!(f, "written by two at once: {}", values.join(" or "))
            }
            TroubleKind::Twice => f.write_str("made by two at once"),
            TroubleKind::Malformed => f.write_str("cannot be read"),
            TroubleKind::Unknown { field } => write!(f, "has an unknown field {field}"),
        }
    }
}

/// An entry as the document holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) image: Image,
    pub(super) position: u64,
    /// Ids in the set, with what each says.
    pub(super) set: BTreeMap<String, String>,
    /// Fields with several values.
    pub(super) contested: BTreeMap<&'static str, Vec<Scalar>>,
    /// The edit that last wrote its first field.
    pub(super) edit: Option<EditId>,
    trouble: Option<TroubleKind>,
}

impl Held {
    /// What the entry says; `None`: it counts for nothing.
    pub(super) fn say(&self) -> Option<Said> {
        match self.trouble() {
            Some(_) => None,
            None => self.image.say(),
        }
    }

    fn trouble(&self) -> Option<TroubleKind> {
        let contested = self.contested.iter().find(|(field, _)| **field != "note");
        let contested = contested.map(|(field, values)| TroubleKind::Contested {
            field: (*field).to_owned(),
            values: values.iter().map(value_text).collect(),
        });
        self.trouble.clone().or(contested)
    }

    fn about(&self) -> Option<String> {
        let about = self.image.fields.get(self.image.section.fields()[0])?;
        Some(value_text(about))
    }
}

fn value_text(value: &Scalar) -> String {
    match value {
        Scalar::Text(text) => shown_up_to(&text.replace('\n', " "), VALUE_SYMBOLS),
        Scalar::Number(number) => number.to_string(),
        Scalar::Bytes(bytes) => shown(&base32(bytes)),
        Scalar::Flag => "true".to_owned(),
    }
}

impl Document {
    /// The document as a policy.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut reading = Reading::default();
        for section in Section::ALL {
            let mut held = self.held(section);
            held.sort_by(|a, b| (a.position, &a.id).cmp(&(b.position, &b.id)));
            // In the text, acls stand before grants.
            if section == Section::Rules {
                held.sort_by_key(|held| {
                    let about = held.image.fields.get("allow").and_then(Scalar::text);
                    about.is_some_and(|text| text.starts_with("grant"))
                });
            }
            for held in held {
                reading.add(section, &held);
            }
        }
        reading.drop_twice(self);
        reading.troubles.sort();
        reading
    }

    /// The entries of a section, by id.
    pub(super) fn held(&self, section: Section) -> Vec<Held> {
        let document = &self.automerge;
        let Ok(Some((Value::Object(ObjType::Map), map))) = document.get(ROOT, section.word())
        else {
            return Vec::new();
        };
        let ids: Vec<String> = document.keys(&map).collect();
        let held = ids.into_iter().map(|id| held(document, section, &map, id));
        held.collect()
    }
}

fn held(document: &Automerge, section: Section, map: &ObjId, id: String) -> Held {
    let mut held = Held {
        id,
        image: Image {
            section,
            fields: BTreeMap::new(),
            set: BTreeSet::new(),
        },
        position: 0,
        set: BTreeMap::new(),
        contested: BTreeMap::new(),
        edit: None,
        trouble: None,
    };
    let entry = match only_map(document, map, &held.id) {
        Ok(entry) => entry,
        Err(trouble) => {
            held.trouble = Some(trouble);
            return held;
        }
    };
    for key in document.keys(&entry) {
        let field = section.fields().iter().find(|field| **field == key);
        match field {
            Some(field) => read_field(document, &entry, field, &mut held),
            None if section.set() == Some(key.as_str()) => match only_map(document, &entry, &key) {
                Ok(set) => read_set(document, &set, &mut held),
                Err(trouble) => held.trouble = Some(trouble),
            },
            None => held.trouble = Some(TroubleKind::Unknown { field: shown(&key) }),
        }
    }
    if let Some(Scalar::Number(position)) = held.image.fields.remove("pos") {
        held.position = position;
    }
    if held.trouble.is_none() && held.contested.is_empty() && held.image.say().is_none() {
        held.trouble = Some(TroubleKind::Malformed);
    }
    held
}

/// The one map under a key.
fn only_map(document: &Automerge, object: &ObjId, key: &str) -> Result<ObjId, TroubleKind> {
    let values = document.get_all(object, key).unwrap_or_default();
    match values.as_slice() {
        [(Value::Object(ObjType::Map), map)] => Ok(map.clone()),
        [_] | [] => Err(TroubleKind::Malformed),
        [_, _, ..] => Err(TroubleKind::Twice),
    }
}

fn read_field(document: &Automerge, entry: &ObjId, field: &'static str, held: &mut Held) {
    let values = document.get_all(entry, field).unwrap_or_default();
    let mut distinct = BTreeSet::new();
    for (value, _) in &values {
        match scalar(value) {
            Some(value) => drop(distinct.insert(value)),
            None => held.trouble = Some(TroubleKind::Malformed),
        }
    }
    // The last is the one that Automerge shows.
    if let Some((value, at)) = values.last() {
        if field == held.image.section.fields()[0] {
            let hash = document.hash_for_opid(at);
            held.edit = hash.map(|hash| EditId::new(hash.0));
        }
        if let Some(value) = scalar(value) {
            held.image.fields.insert(field, value);
        }
    }
    if distinct.len() > 1 && field != "pos" {
        held.contested.insert(field, distinct.into_iter().collect());
    }
}

fn read_set(document: &Automerge, set: &ObjId, held: &mut Held) {
    for id in document.keys(set) {
        let values = document.get_all(set, id.as_str()).unwrap_or_default();
        for (value, _) in values {
            match scalar(&value) {
                Some(Scalar::Text(text)) => {
                    held.image.set.insert(text.clone());
                    held.set.insert(id.clone(), text);
                }
                Some(Scalar::Number(_) | Scalar::Bytes(_) | Scalar::Flag) | None => {
                    held.trouble = Some(TroubleKind::Malformed);
                }
            }
        }
    }
}

fn scalar(value: &Value<'_>) -> Option<Scalar> {
    let Value::Scalar(value) = value else {
        return None;
    };
    match value.as_ref() {
        ScalarValue::Str(text) => Some(Scalar::Text(text.to_string())),
        ScalarValue::Uint(number) => Some(Scalar::Number(*number)),
        ScalarValue::Bytes(bytes) => Some(Scalar::Bytes(bytes.clone())),
        ScalarValue::Boolean(true) => Some(Scalar::Flag),
        ScalarValue::Boolean(false)
        | ScalarValue::Int(_)
        | ScalarValue::F64(_)
        | ScalarValue::Counter(_)
        | ScalarValue::Timestamp(_)
        | ScalarValue::Unknown { .. }
        | ScalarValue::Null => None,
    }
}

impl Reading {
    fn add(&mut self, section: Section, held: &Held) {
        if let Some(kind) = held.trouble() {
            self.trouble(section, &held.id, held.about(), kind);
        }
        let Some(said) = held.say() else {
            return;
        };
        let source = || Source {
            entry: EntryId(held.id.clone()),
            edit: held.edit,
        };
        let policy = &mut self.policy;
        let twice = match said {
            Said::Group(group, members) => {
                let twice = policy.groups.contains_key(&group);
                policy.groups.insert(group, members);
                twice
            }
            Said::Host(alias, host) => {
                let twice = policy.hosts.contains_key(&alias);
                policy.hosts.insert(alias, host);
                twice
            }
            Said::TagOwner(tag, members) => {
                join(policy.tag_owners.entry(tag).or_default(), members);
                false
            }
            Said::Node(id, pins) => {
                let own = policy.nodes.entry(id).or_default();
                for field in join_pins(own, pins) {
                    let kind = TroubleKind::Contested {
                        field: field.to_owned(),
                        values: Vec::new(),
                    };
                    self.trouble(section, &held.id, Some(id.to_string()), kind);
                }
                false
            }
            Said::Rule(rule) => {
                self.rules.push(source());
                policy.rules.push(rule);
                false
            }
            Said::Test(test) => {
                self.tests.push(source());
                policy.tests.push(test);
                false
            }
            Said::Note(place, note) => {
                policy.notes.insert(place, note);
                false
            }
        };
        if twice {
            self.trouble(section, &held.id, held.about(), TroubleKind::Twice);
        }
    }

    fn trouble(&mut self, section: Section, entry: &str, about: Option<String>, kind: TroubleKind) {
        self.troubles.push(Trouble {
            section,
            entry: EntryId(entry.to_owned()),
            about,
            kind,
        });
    }

    /// The entries of a section that are in trouble.
    pub(super) fn troubled(&self, section: Section) -> BTreeSet<&str> {
        let troubles = self.troubles.iter().filter(|one| one.section == section);
        troubles.map(|trouble| trouble.entry.as_str()).collect()
    }

    /// What two admins made at once under one name means nothing until one of them says which.
    fn drop_twice(&mut self, document: &Document) {
        let twice = self
            .troubles
            .extract_if(.., |one| one.kind == TroubleKind::Twice);
        let twice: BTreeSet<_> = twice.map(|one| (one.section, one.about)).collect();
        for (section, about) in twice {
            for held in document.held(section) {
                if held.about() == about {
                    self.trouble(section, &held.id, about.clone(), TroubleKind::Twice);
                }
            }
            let Some(about) = about else { continue };
            match section {
                Section::Groups => self
                    .policy
                    .groups
                    .retain(|group, _| *group.as_str() != *about),
                Section::Hosts => self
                    .policy
                    .hosts
                    .retain(|alias, _| *alias.as_str() != *about),
                Section::TagOwners
                | Section::Nodes
                | Section::Rules
                | Section::Tests
                | Section::Notes => {}
            }
        }
    }
}

fn join(own: &mut Members, other: Members) {
    own.of.extend(other.of);
    if own.note.is_empty() {
        own.note = other.note;
    }
}

/// Joins what two entries say of one node: tags of both, and no name or owner that they do not agree on.
fn join_pins(own: &mut Pins, other: Pins) -> Vec<&'static str> {
    let mut contested = Vec::new();
    match (&own.name, &other.name) {
        (Some(one), Some(two)) if one != two => {
            own.name = None;
            contested.push("name");
        }
        (Some(_), Some(_) | None) => {}
        (None, _) => own.name = other.name,
    }
    match (&own.owner, &other.owner) {
        (Some(one), Some(two)) if one != two => {
            own.owner = None;
            contested.push("owner");
        }
        (Some(_), Some(_) | None) => {}
        (None, _) => own.owner = other.owner,
    }
    if let Some(tags) = other.tags {
        own.tags.get_or_insert_default().extend(tags);
    }
    if own.note.is_empty() {
        own.note = other.note;
    }
    contested
}
