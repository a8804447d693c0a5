//! Who reaches whom: a policy compiled with the members of the moment (`docs/protocol.md` §10.4).
//!
//! Compiled once for a policy and a directory; then a filter for any node, an explanation or a test costs little.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::bits::Bits;
use super::directory::{Directory, Listing};
use super::selector::Selector;
use super::service::{Service, acl_allows};
use super::{Policy, Rule, Terms};
use crate::access::{Access, Allow, Filter};
use crate::id::NodeId;
use crate::name::{Owner, Tag};

/// A policy in force among certain nodes.
#[derive(Clone, Debug)]
pub struct Reach {
    pub(super) nodes: Nodes,
    pub(super) rules: Vec<Compiled>,
}

/// One rule in terms of node numbers.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) src: Bits,
    pub(super) parts: Vec<Part>,
}

/// One destination of a rule, or several with the same services.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Shared: a rule may name one destination with many ports.
    pub(super) dst: Arc<Bits>,
    /// Whether a source's own owner's nodes are meant too.
    pub(super) own: bool,
    pub(super) allows: Vec<Allow>,
}

/// The nodes by number, and what selects them.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    pub(super) all: Vec<Listing>,
    pub(super) numbers: BTreeMap<NodeId, usize>,
    groups: BTreeMap<crate::name::Group, Bits>,
    hosts: BTreeMap<crate::name::Alias, Bits>,
    tags: BTreeMap<Tag, Bits>,
    pub(super) owners: BTreeMap<Owner, Bits>,
    tagged: Bits,
    admins: Bits,
    /// Where each address is.
    addresses: BTreeMap<IpAddr, usize>,
}

impl Reach {
    /// Compiles a policy for the nodes of a directory. Tags and owners that the policy pins count instead of theirs.
    #[must_use]
    pub fn compile(policy: &Policy, directory: &Directory) -> Self {
        Self::among(
            policy,
            directory.pinned(&policy.nodes).listings().values().cloned(),
        )
    }

    /// Compiles a policy for nodes whose pins are settled.
    pub(super) fn among(policy: &Policy, nodes: impl Iterator<Item = Listing>) -> Self {
        let nodes = Nodes::new(policy, nodes.collect());
        let mut known: BTreeMap<Selector, Arc<Bits>> = BTreeMap::new();
        let mut select = |selector: &Selector| {
            let selected = known.entry(selector.clone());
            selected
                .or_insert_with(|| Arc::new(nodes.select(selector)))
                .clone()
        };
        let none = Bits::none(nodes.all.len());
        let rules = policy.rules.iter().map(|rule| Compiled {
            src: union(&none, &rule.src, &mut select),
            parts: parts(&none, rule, &mut select),
        });
        let rules = rules.collect();
        Self { nodes, rules }
    }

    /// What a node enforces; everything is denied to one that is not in the directory.
    #[must_use]
    pub fn filter(&self, node: &NodeId) -> Filter {
        let Some(own) = self.nodes.numbers.get(node).copied() else {
            return Filter::deny_all();
        };
        let peers = self.nodes.all.len();
        let mut inbound: BTreeMap<&[Allow], Bits> = BTreeMap::new();
        let mut outbound: BTreeMap<&[Allow], Bits> = BTreeMap::new();
        let kin = self.nodes.kin(own);
        for rule in &self.rules {
            for part in &rule.parts {
                let of = |sets: &mut BTreeMap<_, Bits>, bits: &Bits| {
                    let set = sets.entry(part.allows.as_slice());
                    set.or_insert_with(|| Bits::none(peers)).extend(bits);
                };
                if part.dst.contains(own) {
                    of(&mut inbound, &rule.src);
                }
                if rule.src.contains(own) {
                    of(&mut outbound, &part.dst);
                }
                if part.own {
                    let mut sources = kin.clone();
                    sources.retain(&rule.src);
                    of(&mut inbound, &sources);
                    if rule.src.contains(own) {
                        of(&mut outbound, &kin);
                    }
                }
            }
        }
        let (inbound, outbound) = (self.allows(&inbound), self.allows(&outbound));
        let mut access: BTreeMap<NodeId, Access> = BTreeMap::new();
        for (peer, (inbound, outbound)) in inbound.into_iter().zip(outbound).enumerate() {
            if peer != own && !(inbound.is_empty() && outbound.is_empty()) {
                access.insert(self.nodes.all[peer].id, Access { inbound, outbound });
            }
        }
        Filter::Closed(access)
    }

    /// For each node, what the sets that it is in allow together; ascending.
    fn allows(&self, sets: &BTreeMap<&[Allow], Bits>) -> Vec<Vec<Allow>> {
        let sets: Vec<_> = sets.iter().collect();
        let mut classes: Vec<Vec<u32>> = vec![Vec::new(); self.nodes.all.len()];
        for (number, (_, nodes)) in (0..).zip(&sets) {
            for node in nodes.iter() {
                classes[node].push(number);
            }
        }
        // Many nodes are in the same sets.
        let mut joined: BTreeMap<Vec<u32>, Vec<Allow>> = BTreeMap::new();
        let each = classes.into_iter().map(|class| {
            let allows = joined.entry(class).or_insert_with_key(|class| {
                let of = class
                    .iter()
                    .flat_map(|number| sets[*number as usize].0.iter());
                join(of.copied().collect())
            });
            allows.clone()
        });
        each.collect()
    }
}

/// Allows in order, without those that another of them covers.
fn join(mut allows: Vec<Allow>) -> Vec<Allow> {
    allows.sort_unstable();
    allows.dedup();
    if allows.contains(&Allow::ALL) {
        allows = vec![Allow::ALL];
    }
    allows
}

fn union(
    none: &Bits,
    selectors: &[Selector],
    select: &mut impl FnMut(&Selector) -> Arc<Bits>,
) -> Bits {
    let mut bits = none.clone();
    for selector in selectors {
        bits.extend(&select(selector));
    }
    bits
}

fn parts(none: &Bits, rule: &Rule, select: &mut impl FnMut(&Selector) -> Arc<Bits>) -> Vec<Part> {
    match &rule.terms {
        Terms::Acl { proto, dst } => {
            let parts = dst.iter().map(|target| Part {
                dst: select(&target.who),
                own: target.who == Selector::Own,
                allows: join(acl_allows(*proto, &target.ports)),
            });
            parts.collect()
        }
        Terms::Grant { dst, ip } => vec![Part {
            dst: Arc::new(union(none, dst, select)),
            own: dst.contains(&Selector::Own),
            allows: join(ip.iter().flat_map(Service::allows).collect()),
        }],
    }
}

impl Nodes {
    fn new(policy: &Policy, all: Vec<Listing>) -> Self {
        let count = all.len();
        let mut nodes = Self {
            numbers: all
                .iter()
                .enumerate()
                .map(|(n, node)| (node.id, n))
                .collect(),
            groups: BTreeMap::new(),
            hosts: BTreeMap::new(),
            tags: BTreeMap::new(),
            owners: BTreeMap::new(),
            tagged: Bits::none(count),
            admins: Bits::none(count),
            addresses: BTreeMap::new(),
            all,
        };
        for (number, node) in nodes.all.iter().enumerate() {
            for tag in &node.tags {
                let bits = nodes.tags.entry(tag.clone());
                bits.or_insert_with(|| Bits::none(count)).insert(number);
                nodes.tagged.insert(number);
            }
            // Tags take the place of an owner.
            if let (true, Some(owner)) = (node.tags.is_empty(), &node.owner) {
                let bits = nodes.owners.entry(owner.clone());
                bits.or_insert_with(|| Bits::none(count)).insert(number);
            }
            if node.admin {
                nodes.admins.insert(number);
            }
            for address in node.addresses() {
                nodes.addresses.insert(address, number);
            }
        }
        for (alias, host) in &policy.hosts {
            let bits = nodes.select(&Selector::Prefix(host.at));
            nodes.hosts.insert(alias.clone(), bits);
        }
        for (group, members) in &policy.groups {
            let mut bits = Bits::none(count);
            for member in &members.of {
                bits.extend(&nodes.select(member));
            }
            nodes.groups.insert(group.clone(), bits);
        }
        nodes
    }

    /// The nodes that a selector means; `autogroup:self` means none by itself.
    pub(super) fn select(&self, selector: &Selector) -> Bits {
        let none = || Bits::none(self.all.len());
        match selector {
            Selector::All => Bits::all(self.all.len()),
            Selector::Member => {
                let mut members = Bits::all(self.all.len());
                members.remove(&self.tagged);
                members
            }
            Selector::Admin => self.admins.clone(),
            Selector::Tagged => self.tagged.clone(),
            Selector::Own => none(),
            Selector::Node(id) => {
                let mut bits = none();
                if let Some(number) = self.numbers.get(id) {
                    bits.insert(*number);
                }
                bits
            }
            Selector::Owner(owner) => self.owners.get(owner).cloned().unwrap_or_else(none),
            Selector::Group(group) => self.groups.get(group).cloned().unwrap_or_else(none),
            Selector::Tag(tag) => self.tags.get(tag).cloned().unwrap_or_else(none),
            Selector::Host(alias) => self.hosts.get(alias).cloned().unwrap_or_else(none),
            Selector::Prefix(prefix) => {
                let mut bits = none();
                let behind = self.addresses.range(prefix.base()..);
                for (_, number) in behind.take_while(|(address, _)| prefix.contains(**address)) {
                    bits.insert(*number);
                }
                bits
            }
        }
    }

    /// The nodes of the same owner, if the node has one and no tags.
    pub(super) fn kin(&self, node: usize) -> Bits {
        let listing = &self.all[node];
        let owner = listing.owner.as_ref().filter(|_| listing.tags.is_empty());
        let kin = owner.and_then(|owner| self.owners.get(owner));
        kin.cloned().unwrap_or_else(|| Bits::none(self.all.len()))
    }
}
