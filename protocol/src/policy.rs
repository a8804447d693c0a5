//! The policy: who may reach whom, as people write it, as admins merge it, as nodes enforce it
//! (`docs/protocol.md` §10).
//!
//! Three forms of one thing. **Text** is HuJSON in the field's well-known shape; [`read`] makes a [`Policy`] of it, in
//! which nodes are device ids, and [`render`] writes it again. The **document** ([`Document`]) holds it as an
//! Automerge document that admins edit in any partition; its edits travel inside signed ops, and nothing of it is
//! parsed before a scan has bounded it. [`Reach`] is the policy **compiled** with the members of the moment: filters,
//! explanations and tests come from it.
//!
//! Not here: who may sign an edit, which edits count, and in which op they travel.

mod bits;
mod difference;
mod directory;
mod document;
mod edit;
mod explain;
mod fault;
mod image;
mod layout;
mod newcomer;
mod notes;
mod order;
mod prefix;
mod propose;
mod reach;
mod read;
mod render;
mod rules;
mod scan;
mod selector;
mod service;
mod trial;
mod unsupported;
mod words;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use crate::access::Ports;
use crate::id::NodeId;
use crate::name::{Alias, Group, NodeName, Owner, Tag};

pub use self::difference::{Difference, Sign, difference};
pub use self::directory::{Directory, Listing};
pub use self::document::{Applied, Document, Orphan};
pub use self::edit::{EditError, EditId};
pub use self::explain::{Explanation, Question, Verdict};
pub use self::fault::Fault;
pub use self::image::Section;
pub use self::layout::{EntryId, Reading, Source, Trouble, TroubleKind};
pub use self::prefix::{Prefix, PrefixError};
pub use self::propose::{Proposal, TooLarge, Troubles};
pub use self::reach::Reach;
pub use self::read::{Lines, Read, read};
pub use self::render::{Entry, Rendered, render};
pub use self::scan::{Refusal, scan_base, scan_edit};
pub use self::selector::Selector;
pub use self::service::{Proto, Service, ServiceError};
pub use self::trial::{Failure, Outcome};

/// A policy. Nodes are device ids; whatever is not allowed by a rule is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Named sets of owners and nodes.
    pub groups: BTreeMap<Group, Members>,
    /// Whom a tag belongs to: said, not enforced, for tags are given by admins.
    pub tag_owners: BTreeMap<Tag, Members>,
    /// Names for addresses.
    pub hosts: BTreeMap<Alias, Host>,
    /// What the policy says about single nodes.
    pub nodes: BTreeMap<NodeId, Pins>,
    /// What is allowed, in the order for people; the order changes nothing.
    pub rules: Vec<Rule>,
    /// What must hold of the rules.
    pub tests: Vec<Test>,
    /// Comments that belong to no entry.
    pub notes: BTreeMap<Place, String>,
}

/// A named set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who is in it.
    pub of: BTreeSet<Selector>,
    /// The comment on it.
    pub note: String,
}

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The address or block.
    pub at: Prefix,
    /// The comment on it.
    pub note: String,
}

/// What a policy says about one node; what is `None` stays as its grant says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Its name.
    pub name: Option<NodeName>,
    /// Its tags.
    pub tags: Option<BTreeSet<Tag>>,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// The comment on it.
    pub note: String,
}

/// One rule: it allows, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who may.
    pub src: Vec<Selector>,
    /// What, and where.
    pub terms: Terms,
    /// The comment on it.
    pub note: String,
}

/// The two shapes of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terms {
    /// An entry of `acls`: ports stand at each destination.
    Acl {
        /// The protocol; none: TCP, UDP and ICMP.
        proto: Option<Proto>,
        /// Where.
        dst: Vec<Target>,
    },
    /// An entry of `grants`: one list of services for all destinations.
    Grant {
        /// Where.
        dst: Vec<Selector>,
        /// What.
        ip: Vec<Service>,
    },
}

/// A destination with its ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Which nodes.
    pub who: Selector,
    /// Which ports.
    pub ports: Vec<Ports>,
}

/// What must hold of the rules, whoever edits them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// From where.
    pub src: Selector,
    /// Over which protocol; none: TCP must pass, neither TCP nor UDP must pass.
    pub proto: Option<Proto>,
    /// What must be allowed.
    pub accept: Vec<Target>,
    /// What must not be.
    pub deny: Vec<Target>,
    /// The comment on it.
    pub note: String,
}

/// Where a comment stands that belongs to no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Before everything.
    Head,
    /// Before the groups.
    Groups,
    /// Before the tag owners.
    TagOwners,
    /// Before the hosts.
    Hosts,
    /// Before the nodes.
    Nodes,
    /// Before the acls.
    Acls,
    /// Before the grants.
    Grants,
    /// Before the tests.
    Tests,
    /// Behind everything.
    Tail,
}

impl Place {
    const ALL: [Self; 9] = [
        Self::Head,
        Self::Groups,
        Self::TagOwners,
        Self::Hosts,
        Self::Nodes,
        Self::Acls,
        Self::Grants,
        Self::Tests,
        Self::Tail,
    ];

    /// The name of the section that it stands before; of the first and last, a word of ours.
    const fn word(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Groups => "groups",
            Self::TagOwners => "tagOwners",
            Self::Hosts => "hosts",
            Self::Nodes => "nodes",
            Self::Acls => "acls",
            Self::Grants => "grants",
            Self::Tests => "tests",
            Self::Tail => "tail",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.word() == word)
    }

    /// The place of a section by its name in the text.
    fn section(name: &str) -> Option<Self> {
        Self::parse(name).filter(|place| !matches!(place, Self::Head | Self::Tail))
    }
}
