//! A policy as entries of the document: sections, their fields, and the one text of a rule (`docs/protocol.md` §10.2).
//!
//! What must not be mixed is one field: a rule is one text, so that two edits of it never make a third that nobody
//! wrote. What may be mixed is a set: everybody who is added to a group is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::prefix::Prefix;
use super::selector::Selector;
use super::service::{Proto, Service, ports_of, ports_text};
use super::{Host, Members, Pins, Place, Policy, Rule, Target, Terms, Test};
use crate::id::NodeId;
use crate::name::{Alias, Group, NodeName, Owner, Tag};

/// The version of the layout.
pub(super) const VERSION: u64 = 1;
/// Where the version stands.
pub(super) const VERSION_KEY: &str = "v";

/// A section of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Groups.
    Groups,
    /// Owners of tags.
    TagOwners,
    /// Names for addresses.
    Hosts,
    /// What is said about single nodes.
    Nodes,
    /// Rules.
    Rules,
    /// Tests.
    Tests,
    /// Comments that belong to no entry.
    Notes,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 7] = [
        Self::Groups,
        Self::TagOwners,
        Self::Hosts,
        Self::Nodes,
        Self::Rules,
        Self::Tests,
        Self::Notes,
    ];

    /// Its name in the document.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::TagOwners => "tagOwners",
            Self::Hosts => "hosts",
            Self::Nodes => "nodes",
            Self::Rules => "rules",
            Self::Tests => "tests",
            Self::Notes => "notes",
        }
    }

    /// The fields of its entries that hold one value; the first is what the entry is about.
    pub(super) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Groups => &["name", "note"],
            Self::TagOwners => &["tag", "note"],
            Self::Hosts => &["name", "at", "note"],
            Self::Nodes => &["device", "name", "owner", "tagged", "note"],
            Self::Rules => &["allow", "pos", "note"],
            Self::Tests => &["test", "pos", "note"],
            Self::Notes => &["place", "note"],
        }
    }

    /// The field of its entries that holds a set.
    pub(super) const fn set(self) -> Option<&'static str> {
        match self {
            Self::Groups => Some("members"),
            Self::TagOwners => Some("owners"),
            Self::Nodes => Some("tags"),
            Self::Hosts | Self::Rules | Self::Tests | Self::Notes => None,
        }
    }

    /// Whether its entries are told apart by their first field; otherwise they stand in an order.
    pub(super) const fn keyed(self) -> bool {
        match self {
            Self::Groups | Self::TagOwners | Self::Hosts | Self::Nodes | Self::Notes => true,
            Self::Rules | Self::Tests => false,
        }
    }
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scalar {
    Text(String),
    Number(u64),
    Bytes(Vec<u8>),
    Flag,
}

impl Scalar {
    pub(super) const fn text(&self) -> Option<&String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Bytes(_) | Self::Flag => None,
        }
    }
}

/// An entry without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) section: Section,
    pub(super) fields: BTreeMap<&'static str, Scalar>,
    pub(super) set: BTreeSet<String>,
}

impl Image {
    fn new(section: Section, about: Scalar, note: &str) -> Self {
        let mut fields = BTreeMap::from([(section.fields()[0], about)]);
        if !note.is_empty() {
            fields.insert("note", Scalar::Text(note.to_owned()));
        }
        Self {
            section,
            fields,
            set: BTreeSet::new(),
        }
    }

    /// What the entry is about.
    pub(super) fn about(&self) -> &Scalar {
        &self.fields[self.section.fields()[0]]
    }
}

/// The entries of a policy; rules and tests in their order, without positions.
pub(super) fn images(policy: &Policy) -> Vec<Image> {
    let mut images = Vec::new();
    for (group, members) in &policy.groups {
        let about = Scalar::Text(group.to_string());
        images.push(of_members(Section::Groups, about, members));
    }
    for (tag, members) in &policy.tag_owners {
        let about = Scalar::Text(tag.to_string());
        images.push(of_members(Section::TagOwners, about, members));
    }
    for (alias, host) in &policy.hosts {
        let about = Scalar::Text(alias.to_string());
        let mut image = Image::new(Section::Hosts, about, &host.note);
        image.fields.insert("at", Scalar::Text(host.at.to_string()));
        images.push(image);
    }
    images.extend(policy.nodes.iter().map(|(id, pins)| of_pins(id, pins)));
    for rule in &policy.rules {
        let about = Scalar::Text(allow_text(rule));
        images.push(Image::new(Section::Rules, about, &rule.note));
    }
    for test in &policy.tests {
        let about = Scalar::Text(test_text(test));
        images.push(Image::new(Section::Tests, about, &test.note));
    }
    for (place, note) in &policy.notes {
        let about = Scalar::Text(place.word().to_owned());
        images.push(Image::new(Section::Notes, about, note));
    }
    images
}

fn of_members(section: Section, about: Scalar, members: &Members) -> Image {
    let mut image = Image::new(section, about, &members.note);
    image.set = members.of.iter().map(ToString::to_string).collect();
    image
}

fn of_pins(id: &NodeId, pins: &Pins) -> Image {
    let about = Scalar::Bytes(id.as_bytes().to_vec());
    let mut image = Image::new(Section::Nodes, about, &pins.note);
    if let Some(name) = &pins.name {
        image.fields.insert("name", Scalar::Text(name.to_string()));
    }
    if let Some(owner) = &pins.owner {
        let owner = Scalar::Text(owner.as_str().to_owned());
        image.fields.insert("owner", owner);
    }
    if let Some(tags) = &pins.tags {
        image.fields.insert("tagged", Scalar::Flag);
        image.set = tags.iter().map(ToString::to_string).collect();
    }
    image
}

/// A rule as one text: its shape, sources, destinations and services, a line each.
pub(super) fn allow_text(rule: &Rule) -> String {
    let src = joined(&rule.src);
    match &rule.terms {
        Terms::Acl { proto, dst } => {
            let proto = proto.map(|proto| proto.to_string()).unwrap_or_default();
            format!("acl\n{src}\n{}\n{proto}", targets_text(dst))
        }
        Terms::Grant { dst, ip } => format!("grant\n{src}\n{}\n{}", joined(dst), joined(ip)),
    }
}

/// Reads what [`allow_text`] writes; one rule has one text.
pub(super) fn parse_allow(text: &str) -> Option<Rule> {
    let lines: Vec<_> = text.split('\n').collect();
    let &[shape, src, dst, what] = lines.as_slice() else {
        return None;
    };
    let src = split(src, Selector::parse_stored)?;
    let terms = match shape {
        "acl" => {
            let proto = parse_proto(what)?;
            let dst = parse_targets(dst, proto)?;
            Terms::Acl { proto, dst }
        }
        "grant" => {
            let ip = split(what, |text| match Service::parse(text).ok()?.as_slice() {
                [service] => Some(*service),
                _ => None,
            })?;
            let dst = split(dst, Selector::parse_stored)?;
            Terms::Grant { dst, ip }
        }
        _ => return None,
    };
    let rule = Rule {
        src,
        terms,
        note: String::new(),
    };
    (!rule.src.contains(&Selector::Own) && allow_text(&rule) == text).then_some(rule)
}

/// A test as one text: source, protocol, what must be allowed, what must not, a line each.
pub(super) fn test_text(test: &Test) -> String {
    let proto = test.proto.map(|proto| proto.to_string());
    let proto = proto.unwrap_or_default();
    let (accept, deny) = (targets_text(&test.accept), targets_text(&test.deny));
    format!("{}\n{proto}\n{accept}\n{deny}", test.src)
}

/// Reads what [`test_text`] writes; one test has one text.
pub(super) fn parse_test(text: &str) -> Option<Test> {
    let lines: Vec<_> = text.split('\n').collect();
    let &[src, proto, accept, deny] = lines.as_slice() else {
        return None;
    };
    let list = |list: &str, proto| match list {
        "" => Some(Vec::new()),
        list => parse_targets(list, proto),
    };
    let proto = parse_proto(proto)?;
    let test = Test {
        src: Selector::parse_stored(src)?,
        proto,
        accept: list(accept, proto)?,
        deny: list(deny, proto)?,
        note: String::new(),
    };
    let mut named = test.accept.iter().chain(&test.deny);
    let own = test.src == Selector::Own || named.any(|target| target.who == Selector::Own);
    let portless = proto.is_some_and(|proto| !proto.has_ports());
    let single = test
        .accept
        .iter()
        .chain(&test.deny)
        .flat_map(|target| &target.ports)
        .all(|ports| ports.first == ports.last);
    let some = !test.accept.is_empty() || !test.deny.is_empty();
    (some && !own && (single || portless) && test_text(&test) == text).then_some(test)
}

fn joined(items: &[impl fmt::Display]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

fn targets_text(targets: &[Target]) -> String {
    let each = targets
        .iter()
        .map(|target| format!("{}={}", target.who, ports_text(&target.ports)));
    each.collect::<Vec<_>>().join(" ")
}

fn parse_targets(text: &str, proto: Option<Proto>) -> Option<Vec<Target>> {
    split(text, |target| {
        let (who, ports) = target.split_once('=')?;
        Some(Target {
            who: Selector::parse_stored(who)?,
            ports: ports_of(proto, ports).ok()?,
        })
    })
}

fn parse_proto(text: &str) -> Option<Option<Proto>> {
    match text {
        "" => Some(None),
        text => Proto::parse(text).ok().map(Some),
    }
}

fn split<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(' ').map(read).collect()
}

/// What one entry says, as a policy has it.
pub(super) enum Said {
    Group(Group, Members),
    TagOwner(Tag, Members),
    Host(Alias, Host),
    Node(NodeId, Pins),
    Rule(Rule),
    Test(Test),
    Note(Place, String),
}

impl Image {
    /// Reads an entry; `None`: malformed.
    pub(super) fn say(&self) -> Option<Said> {
        let text = |field| self.fields.get(field).map(Scalar::text);
        let note = match text("note") {
            Some(note) => super::notes::clean(note?),
            None => String::new(),
        };
        let about = self.fields.get(self.section.fields()[0])?;
        Some(match self.section {
            Section::Groups => {
                let of = self.selectors()?;
                let fit = |of: &Selector| matches!(of, Selector::Node(_) | Selector::Owner(_));
                if !of.iter().all(fit) {
                    return None;
                }
                let group = exact(about.text()?, Group::parse)?;
                Said::Group(group, Members { of, note })
            }
            Section::TagOwners => {
                let of = self.selectors()?;
                let tag = exact(about.text()?, Tag::parse)?;
                Said::TagOwner(tag, Members { of, note })
            }
            Section::Hosts => {
                let alias = exact(about.text()?, Alias::parse)?;
                let at = exact(text("at")??, Prefix::parse)?;
                Said::Host(alias, Host { at, note })
            }
            Section::Nodes => {
                let Scalar::Bytes(bytes) = about else {
                    return None;
                };
                let id = NodeId::parse(bytes.as_slice().try_into().ok()?).ok()?;
                Said::Node(id, self.pins(note)?)
            }
            Section::Rules => Said::Rule(Rule {
                note,
                ..parse_allow(about.text()?)?
            }),
            Section::Tests => Said::Test(Test {
                note,
                ..parse_test(about.text()?)?
            }),
            Section::Notes => Said::Note(Place::parse(about.text()?)?, note),
        })
    }

    fn selectors(&self) -> Option<BTreeSet<Selector>> {
        let each = self.set.iter();
        each.map(|text| Selector::parse_stored(text)).collect()
    }

    fn pins(&self, note: String) -> Option<Pins> {
        let name = match self.fields.get("name") {
            Some(name) => Some(exact(name.text()?, NodeName::parse)?),
            None => None,
        };
        let owner = match self.fields.get("owner") {
            Some(owner) => {
                let text = owner.text()?;
                let owner = Owner::parse(text).ok()?;
                (owner.as_str() == text).then_some(Some(owner))?
            }
            None => None,
        };
        let tags = self.set.iter().map(|tag| exact(tag, Tag::parse));
        let tags = tags.collect::<Option<BTreeSet<_>>>()?;
        let tags = match self.fields.get("tagged") {
            Some(Scalar::Flag) => Some(tags),
            Some(Scalar::Text(_) | Scalar::Number(_) | Scalar::Bytes(_)) => return None,
            None => None,
        };
        Some(Pins {
            name,
            tags,
            owner,
            note,
        })
    }
}

/// Parses a text that is in the one form of its value.
fn exact<T: fmt::Display, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
    let value = parse(text).ok()?;
    (value.to_string() == text).then_some(value)
}
