//! The words of a written policy and what they mean in one network: names to device ids, and back.
//!
//! A bare word may be an alias, a node or an owner. If it could be two of them it is refused, and `host:`, `node:` or
//! `owner:` in front says which.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::directory::Directory;
use super::fault::{Complaint, shown};
use super::prefix::Prefix;
use super::selector::{Selector, parse_id};
use super::service::{Proto, ports_of, ports_text};
use super::{Policy, Target, unsupported};
use crate::id::NodeId;
use crate::name::{Alias, Group, NodeName, Owner, Tag};

/// What the words of one policy mean.
pub(super) struct Words<'a> {
    pub(super) directory: &'a Directory,
    pub(super) aliases: BTreeSet<Alias>,
    pub(super) groups: BTreeSet<Group>,
    /// Owners that the policy itself gives to nodes.
    pub(super) owners: BTreeSet<Owner>,
}

impl<'a> Words<'a> {
    /// The words of a policy that is whole.
    pub(super) fn of(policy: &Policy, directory: &'a Directory) -> Self {
        let owners = policy.nodes.values().filter_map(|pins| pins.owner.clone());
        Self {
            directory,
            aliases: policy.hosts.keys().cloned().collect(),
            groups: policy.groups.keys().cloned().collect(),
            owners: owners.collect(),
        }
    }

    /// What a word means.
    pub(super) fn read(&self, text: &str) -> Result<Selector, Complaint> {
        if text == "*" {
            return Ok(Selector::All);
        }
        if let Some((kind, name)) = text.split_once(':')
            && let Some(read) = self.read_kind(kind, name)
        {
            return read;
        }
        if let Some(complaint) = unsupported::selector(text) {
            return Err(complaint);
        }
        if text.contains('/') || text.parse::<IpAddr>().is_ok() {
            return self.read_prefix(text).map(Selector::Prefix);
        }
        if text.contains('@') {
            return owner(text);
        }
        self.read_bare(text)
    }

    /// A word behind a kind of ours; `None`: no such kind.
    fn read_kind(&self, kind: &str, name: &str) -> Option<Result<Selector, Complaint>> {
        Some(match kind {
            "autogroup" => match name {
                "member" => Ok(Selector::Member),
                "admin" => Ok(Selector::Admin),
                "tagged" => Ok(Selector::Tagged),
                "self" => Ok(Selector::Own),
                "danger-all" => Ok(Selector::All),
                _ => Err(unsupported::autogroup(name)),
            },
            "group" => self.read_group(name),
            "tag" => tag(name).map(Selector::Tag),
            "node" => self.node(name).map(Selector::Node),
            "id" => match parse_id(name) {
                Some(id) => Ok(Selector::Node(id)),
                None => Err(Complaint::new(format!("id:{} is no node id", shown(name)))),
            },
            "owner" => owner(name),
            "host" => match Alias::parse(name) {
                Ok(alias) if self.aliases.contains(&alias) => Ok(Selector::Host(alias)),
                Ok(_) | Err(_) => Err(unknown(name, "is not in hosts")),
            },
            _ => return None,
        })
    }

    fn read_group(&self, name: &str) -> Result<Selector, Complaint> {
        let group = Group::parse(name).map_err(|error| bad("group", name, &error))?;
        if self.groups.contains(&group) {
            Ok(Selector::Group(group))
        } else {
            Err(unknown(&format!("group:{name}"), "is not in groups"))
        }
    }

    /// An address or prefix inside the network.
    pub(super) fn read_prefix(&self, text: &str) -> Result<Prefix, Complaint> {
        let prefix = Prefix::parse(text).map_err(|error| Complaint::new(error.to_string()))?;
        if self.directory.encloses(&prefix) {
            return Ok(prefix);
        }
        let [ipv4, ipv6] = self.directory.overlay();
        let complaint = Complaint::new(format!(
            "{prefix} is outside of this network: subnet routes are not built yet"
        ));
        Err(complaint.hint(format!("this network is {ipv4} and {ipv6}; everybody is *")))
    }

    fn read_bare(&self, text: &str) -> Result<Selector, Complaint> {
        let alias = Alias::parse(text).ok();
        let alias = alias.filter(|alias| self.aliases.contains(alias));
        let owner = Owner::parse(text).ok();
        let owner =
            owner.filter(|own| self.directory.knows_owner(own) || self.owners.contains(own));
        let meanings = [
            alias.map(Selector::Host),
            self.node(text).ok().map(Selector::Node),
            owner.map(Selector::Owner),
        ];
        let mut meanings = meanings.into_iter().flatten();
        match (meanings.next(), meanings.next()) {
            (Some(meaning), None) => Ok(meaning),
            (Some(_), Some(_)) => {
                let complaint = Complaint::new(format!("{} means several things", shown(text)));
                Err(complaint.hint("write host:, node: or owner: in front"))
            }
            (None, _) => Err(unknown(text, "is no node, owner or host of this network")
                .hint("an owner who has no node yet is written owner:NAME, or with an @")),
        }
    }

    /// The node with a name.
    fn node(&self, name: &str) -> Result<NodeId, Complaint> {
        let name = NodeName::parse(name).map_err(|error| bad("name", name, &error))?;
        let id = self.directory.by_name(&name);
        id.ok_or_else(|| unknown(name.as_str(), "is no node of this network"))
    }

    /// The node that the key of an entry of `nodes` means: a name, or an id.
    pub(super) fn read_node(&self, text: &str) -> Result<NodeId, Complaint> {
        match text.split_once(':') {
            Some(("id" | "node", _)) => {
                if let Selector::Node(id) = self.read(text)? {
                    Ok(id)
                } else {
                    Err(unknown(text, "is no node"))
                }
            }
            Some(_) | None => self.node(text),
        }
    }

    /// A destination with its ports.
    pub(super) fn read_target(
        &self,
        text: &str,
        proto: Option<Proto>,
    ) -> Result<Target, Complaint> {
        let every = || format!("for every port: {text}:*");
        let bracketed = text
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]:"));
        let Some((who, ports)) = bracketed.or_else(|| text.rsplit_once(':')) else {
            let complaint = Complaint::new(format!("{} has no ports", shown(text)));
            return Err(complaint.hint(every()));
        };
        let ports = ports_of(proto, ports);
        let ports = ports.map_err(|error| Complaint::new(error.to_string()).hint(every()))?;
        let who = match (bracketed, who.parse::<IpAddr>()) {
            (Some(_), _) => Selector::Prefix(self.read_prefix(who)?),
            (None, Ok(IpAddr::V6(address))) => {
                let complaint = Complaint::new(format!("{} can be read twice", shown(text)));
                return Err(complaint.hint(format!("write [{address}]: and the ports")));
            }
            (None, Ok(IpAddr::V4(_)) | Err(_)) => self.read(who)?,
        };
        Ok(Target { who, ports })
    }

    /// Writes a selector in the shortest way that reads back.
    pub(super) fn write(&self, selector: &Selector) -> String {
        let (bare, full) = match selector {
            Selector::Node(id) => match self.directory.name(id) {
                Some(name) => (name.to_string(), format!("node:{name}")),
                None => return selector.to_string(),
            },
            Selector::Owner(owner) => (owner.as_str().to_owned(), selector.to_string()),
            Selector::Host(alias) => (alias.to_string(), selector.to_string()),
            Selector::Prefix(prefix) => return prefix.to_string(),
            Selector::All
            | Selector::Member
            | Selector::Admin
            | Selector::Tagged
            | Selector::Own
            | Selector::Group(_)
            | Selector::Tag(_) => return selector.to_string(),
        };
        if self.read(&bare).as_ref() == Ok(selector) {
            bare
        } else {
            full
        }
    }

    /// Writes the key of an entry of `nodes`.
    pub(super) fn write_node(&self, id: &NodeId) -> String {
        match self.directory.name(id) {
            Some(name) => name.to_string(),
            None => format!("id:{id}"),
        }
    }

    /// Writes a destination with its ports.
    pub(super) fn write_target(&self, target: &Target) -> String {
        let ports = ports_text(&target.ports);
        if let Selector::Prefix(prefix) = &target.who
            && prefix.base().is_ipv6()
        {
            return format!("[{prefix}]:{ports}");
        }
        format!("{}:{ports}", self.write(&target.who))
    }
}

/// A tag behind its prefix.
pub(super) fn tag(name: &str) -> Result<Tag, Complaint> {
    Tag::parse(name).map_err(|error| bad("tag", name, &error))
}

/// An owner, known or not.
fn owner(name: &str) -> Result<Selector, Complaint> {
    let owner = Owner::parse(name).map_err(|error| {
        bad("owner", name, &error).hint("an owner holds only a-z, 0-9 and . _ @ + -")
    })?;
    Ok(Selector::Owner(owner))
}

pub(super) fn bad(kind: &str, name: &str, error: &dyn std::fmt::Display) -> Complaint {
    Complaint::new(format!("{} is no {kind}: {error}", shown(name)))
}

fn unknown(name: &str, what: &str) -> Complaint {
    Complaint::new(format!("{} {what}", shown(name)))
}
