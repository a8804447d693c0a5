//! What a node that is not there yet could reach: for invites that let somebody reach little.

use std::collections::BTreeSet;

use super::directory::{Directory, Listing};
use super::prefix::Prefix;
use super::reach::{Nodes, Reach};
use super::selector::Selector;
use super::service::Service;
use super::{Policy, Rule};
use crate::access::Allow;
use crate::address::ipv6;
use crate::id::{NodeId, OpId};
use crate::identity::{Secret, hash_as};
use crate::name::{NodeName, Owner, Tag};

const NEWCOMER_CONTEXT: &str = "meshnode policy newcomer 1";

impl Policy {
    /// The first rule by which a newcomer with these tags could reach more than `only`: its number.
    #[must_use]
    pub fn stray(
        &self,
        directory: &Directory,
        (tags, owner): (&BTreeSet<Tag>, Option<&Owner>),
        only: &[(NodeId, Service)],
    ) -> Option<usize> {
        let seed = hash_as(NEWCOMER_CONTEXT, b"");
        let id = NodeId::new(Secret::from_seed(seed.as_bytes()).public());
        let newcomer = Listing {
            id,
            name: NodeName::from_text(&id.short(), "newcomer"),
            owner: owner.cloned(),
            tags: tags.clone(),
            admin: false,
            ipv4: None,
            ipv6: ipv6(&OpId::ZERO, &id),
        };
        let pinned = directory.pinned(&self.nodes);
        let nodes = pinned.listings().values().cloned();
        let reach = Reach::among(self, nodes.chain([newcomer]));
        let own = reach.nodes.numbers[&id];
        let is_meant = |dst: usize, allow: &Allow| {
            let mut meant = only
                .iter()
                .filter(|(node, _)| *node == reach.nodes.all[dst].id);
            meant.any(|(_, service)| service.allows().iter().any(|more| covers(more, allow)))
        };
        let rules = self.rules.iter().zip(&reach.rules).enumerate();
        let mut stray = rules.filter(|(_, (rule, compiled))| {
            let parts = || compiled.parts.iter();
            let reached = || parts().flat_map(|part| part.dst.iter().map(move |dst| (dst, part)));
            let beyond = reached().any(|(dst, part)| {
                dst != own && part.allows.iter().any(|allow| !is_meant(dst, allow))
            });
            // Its addresses follow from its key: a range of them may come to mean it.
            let by_source = compiled.src.contains(own) || self.may_cover(rule, &reach.nodes);
            by_source && (beyond || parts().any(|part| part.own))
        });
        stray.next().map(|(number, _)| number)
    }

    /// Whether a source of a rule is an address that somebody new may get, or a range of them.
    fn may_cover(&self, rule: &Rule, nodes: &Nodes) -> bool {
        let mut sources = rule.src.iter();
        sources.any(|source| self.is_open(source, nodes))
    }

    fn is_open(&self, selector: &Selector, nodes: &Nodes) -> bool {
        // Somebody's address is never given to another.
        let taken = |prefix: &Prefix| {
            prefix.is_single() && !nodes.select(&Selector::Prefix(*prefix)).is_empty()
        };
        match selector {
            Selector::Prefix(prefix) => !taken(prefix),
            Selector::Host(alias) => {
                let host = self.hosts.get(alias);
                host.is_some_and(|host| !taken(&host.at))
            }
            Selector::Group(group) => {
                let members = self.groups.get(group);
                // Groups hold no groups.
                members.is_some_and(|members| {
                    let inner = |member: &&Selector| !matches!(member, Selector::Group(_));
                    let mut members = members.of.iter().filter(inner);
                    members.any(|one| self.is_open(one, nodes))
                })
            }
            Selector::All
            | Selector::Member
            | Selector::Admin
            | Selector::Tagged
            | Selector::Own
            | Selector::Node(_)
            | Selector::Owner(_)
            | Selector::Tag(_) => false,
        }
    }
}

/// Whether all that `less` allows is allowed by `more`.
fn covers(more: &Allow, less: &Allow) -> bool {
    (more.protocol.is_none() || more.protocol == less.protocol)
        && more.ports.first <= less.ports.first
        && less.ports.last <= more.ports.last
}
