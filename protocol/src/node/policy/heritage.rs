//! What a new network may take from an old one: its names and as much of its policy as speaks of no key.

use std::collections::BTreeSet;

use crate::authority::Authority;
use crate::body::Ipv4Range;
use crate::export::Verified;
use crate::id::OpId;
use crate::name::{Group, NetworkName, NodeName, Owner, Tag};
use crate::node::policy::built::Built;
use crate::policy::{
    Difference, Directory, Members, Policy, Rule, Selector, Sign, Target, Terms, Test, difference,
    render,
};
use crate::time::Timestamp;
use crate::view::View;

/// An old network, for the founder of a new one.
#[derive(Clone, Debug)]
pub struct Heritage {
    /// Its name.
    pub network: NetworkName,
    /// Its IPv4 addresses.
    pub ipv4_range: Ipv4Range,
    /// Its nodes.
    pub nodes: Vec<Former>,
    /// The text of its policy, if there was one: without what names nodes or addresses, for those follow from keys.
    pub policy: Option<String>,
    /// The lines of the policy that were left out, or that say less now.
    pub left_out: Vec<String>,
}

/// A node of an old network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its name.
    pub name: NodeName,
    /// Whose it was.
    pub owner: Option<Owner>,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
}

/// What an export has to give.
#[must_use]
pub fn heritage(export: &Verified) -> Heritage {
    let authority = &export.authority;
    // At the beginning of time nothing has expired.
    let view = View::compute(authority, &export.records.left(), Timestamp::default());
    let genesis = authority.genesis();
    let range = genesis.ipv4_range;
    let directory = Directory::of_view(&authority.realm().genesis, range, &view);
    let policy = policy(authority, &view);
    let pins = policy.as_ref().map(|policy| policy.nodes.clone());
    let pins = pins.unwrap_or_default();
    let pinned = directory.pinned(&pins);
    let nodes = pinned.listings().values().map(|node| Former {
        name: pins
            .get(&node.id)
            .and_then(|pins| pins.name.clone())
            .unwrap_or_else(|| node.name.clone()),
        owner: node.owner.clone(),
        tags: node.tags.clone(),
    });
    let kept = policy.as_ref().map(without_keys);
    let lines = policy.as_ref().zip(kept.as_ref());
    let lines = lines.map(|(old, kept)| difference(old, kept, &directory));
    let gone = |line: &Difference| line.sign == Sign::Removed;
    let left_out = lines.into_iter().flatten().filter(gone);
    let nobody = Directory::new(&OpId::ZERO, range, []);
    Heritage {
        network: genesis.name.clone(),
        ipv4_range: range,
        nodes: nodes.collect(),
        policy: kept.map(|kept| render(&kept, &nobody).text),
        left_out: left_out.map(|line| line.text).collect(),
    }
}

fn policy(authority: &Authority, view: &View) -> Option<Policy> {
    let view = view.policy();
    let built = Built::of(authority, &view.base?, &view.changes)?;
    Some(built.reading.policy)
}

/// The same policy where only owners, groups and tags are named.
fn without_keys(policy: &Policy) -> Policy {
    let mut groups = policy.groups.clone();
    for members in groups.values_mut() {
        members.of.retain(|member| !names_key(member));
    }
    groups.retain(|_, members| !members.of.is_empty());
    let known: BTreeSet<Group> = groups.keys().cloned().collect();
    let stays = |selector: &Selector| {
        if let Selector::Group(group) = selector {
            return known.contains(group);
        }
        !names_key(selector)
    };
    let tag_owners = policy.tag_owners.iter().filter_map(|(tag, members)| {
        let of: BTreeSet<_> = members
            .of
            .iter()
            .filter(|one| stays(one))
            .cloned()
            .collect();
        let note = members.note.clone();
        (!of.is_empty()).then(|| (tag.clone(), Members { of, note }))
    });
    let rules = policy
        .rules
        .iter()
        .filter_map(|rule| narrowed(rule, &stays));
    let whole = |test: &&Test| {
        let mut targets = test.accept.iter().chain(&test.deny);
        stays(&test.src) && targets.all(|target| stays(&target.who))
    };
    Policy {
        tag_owners: tag_owners.collect(),
        rules: rules.collect(),
        tests: policy.tests.iter().filter(whole).cloned().collect(),
        notes: policy.notes.clone(),
        groups,
        ..Policy::default()
    }
}

/// The rule for those who can still be named; none: nobody can.
fn narrowed(rule: &Rule, stays: &impl Fn(&Selector) -> bool) -> Option<Rule> {
    let keep = |all: &[Selector]| -> Vec<Selector> {
        all.iter().filter(|one| stays(one)).cloned().collect()
    };
    let src = keep(&rule.src);
    let (terms, dead) = match &rule.terms {
        Terms::Acl { proto, dst } => {
            let dst: Vec<Target> = dst.iter().filter(|to| stays(&to.who)).cloned().collect();
            let dead = dst.is_empty();
            (Terms::Acl { proto: *proto, dst }, dead)
        }
        Terms::Grant { dst, ip } => {
            let dst = keep(dst);
            let dead = dst.is_empty();
            (
                Terms::Grant {
                    dst,
                    ip: ip.clone(),
                },
                dead,
            )
        }
    };
    let note = rule.note.clone();
    (!src.is_empty() && !dead).then_some(Rule { src, terms, note })
}

/// Whether a selector names a node, or addresses, which follow from the keys of nodes.
const fn names_key(selector: &Selector) -> bool {
    match selector {
        Selector::Node(_) | Selector::Host(_) | Selector::Prefix(_) => true,
        Selector::All
        | Selector::Member
        | Selector::Admin
        | Selector::Tagged
        | Selector::Own
        | Selector::Owner(_)
        | Selector::Group(_)
        | Selector::Tag(_) => false,
    }
}
