//! Who wrote each line of the policy last: the versions are said again one after the other, and each entry is that of
//! the op after which it first stood as it stands.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::Authority;
use crate::body::Body;
use crate::id::{NodeId, OpId};
use crate::io::{CommandId, PolicyBlamed, Refusal, Reply};
use crate::name::{Alias, Group, Tag};
use crate::node::Node;
use crate::op::{Author, Op};
use crate::policy::{Document, Entry, Host, Members, Pins, Reading, Rule, Test, render};

/// Versions that are looked at; what is older has no author here.
const VERSIONS_MAX: usize = 512;

/// The entries of a policy, and the op that each came with.
#[derive(Default)]
struct Origins {
    groups: BTreeMap<Group, (Members, OpId)>,
    tag_owners: BTreeMap<Tag, (Members, OpId)>,
    hosts: BTreeMap<Alias, (Host, OpId)>,
    nodes: BTreeMap<NodeId, (Pins, OpId)>,
    rules: Vec<(Rule, OpId)>,
    tests: Vec<(Test, OpId)>,
}

impl Node {
    pub(in crate::node) fn blame_policy(
        &mut self,
        command: CommandId,
        at: Option<OpId>,
    ) -> Result<(), Refusal> {
        let net = self.open_net()?;
        let old = at.map(|op| net.policy_after(&op)).transpose()?;
        let Some(built) = old.as_ref().or(net.policy.built.as_ref()) else {
            self.reply(command, Reply::PolicyBlame(Vec::new()));
            return Ok(());
        };
        let mut counting = net.view.policy().ops.clone();
        if let Some(end) = at.and_then(|at| counting.iter().position(|op| *op == at)) {
            counting.truncate(end + 1);
        }
        let first = counting.len().saturating_sub(VERSIONS_MAX);
        let origins = origins(net.authority(), &counting, built.base);
        let policy = &built.reading.policy;
        let rendered = render(policy, &net.directory());
        let lines: Vec<&str> = rendered.text.lines().collect();
        let blamed = rendered.entries.iter().filter_map(|(line, entry)| {
            let text = lines.get(line.checked_sub(1)? as usize)?;
            let op = origins.of(entry);
            let known = op.filter(|op| counting[first..].contains(op));
            Some(PolicyBlamed {
                line: *line,
                text: text.trim().trim_end_matches(',').to_owned(),
                by: known.and_then(|op| net.policy_change(&op)),
            })
        });
        let blamed = blamed.collect();
        self.reply(command, Reply::PolicyBlame(blamed));
        Ok(())
    }
}

/// The origins after the last of these versions, of which `base` is the last whole policy.
fn origins(authority: &Authority, counting: &[OpId], base: OpId) -> Origins {
    let line = line(authority, base);
    // One more, so that what is older than all that count is told from what they wrote.
    let first = counting.len().saturating_sub(VERSIONS_MAX + 1);
    let mut origins = Origins::default();
    let mut document: Option<(OpId, Document)> = None;
    for (number, id) in counting.iter().enumerate() {
        let Some(op) = authority.op(id) else { continue };
        let Author::Device(author) = op.header().author else {
            continue;
        };
        if let (Some(base), true) = (op.body().policy_base(), line.contains(id)) {
            let fresh = Document::from_base(&base.change, &author).ok();
            document = fresh.map(|fresh| (*id, fresh)).or(document);
        } else if let (Body::Policy(edit), Some((base, document))) = (op.body(), &mut document) {
            if edit.base != *base || document.take(&edit.change, &author).is_err() {
                continue;
            }
        } else {
            continue;
        }
        if let (Some((_, document)), true) = (&document, number >= first) {
            origins.follow(document.read(), *id);
        }
    }
    origins
}

/// The whole policies that led to one.
fn line(authority: &Authority, base: OpId) -> BTreeSet<OpId> {
    let mut line = BTreeSet::new();
    let mut next = Some(base);
    while let Some(base) = next.filter(|base| line.insert(*base)) {
        let op = authority.op(&base).map(Op::body);
        next = op
            .and_then(Body::policy_base)
            .and_then(|base| base.previous);
    }
    line
}

impl Origins {
    /// Enters that the policy said this after an op.
    fn follow(&mut self, reading: Reading, op: OpId) {
        let policy = reading.policy;
        follow_map(&mut self.groups, policy.groups, op);
        follow_map(&mut self.tag_owners, policy.tag_owners, op);
        follow_map(&mut self.hosts, policy.hosts, op);
        follow_map(&mut self.nodes, policy.nodes, op);
        follow_list(&mut self.rules, policy.rules, op);
        follow_list(&mut self.tests, policy.tests, op);
    }

    /// The op that an entry of the policy came with.
    fn of(&self, entry: &Entry) -> Option<OpId> {
        match entry {
            Entry::Group(group) => self.groups.get(group).map(|(_, op)| *op),
            Entry::TagOwner(tag) => self.tag_owners.get(tag).map(|(_, op)| *op),
            Entry::Host(alias) => self.hosts.get(alias).map(|(_, op)| *op),
            Entry::Node(id) => self.nodes.get(id).map(|(_, op)| *op),
            Entry::Rule(number) => self.rules.get(*number).map(|(_, op)| *op),
            Entry::Test(number) => self.tests.get(*number).map(|(_, op)| *op),
        }
    }
}

fn follow_map<K: Ord, V: PartialEq>(
    known: &mut BTreeMap<K, (V, OpId)>,
    now: BTreeMap<K, V>,
    op: OpId,
) {
    let mut old = std::mem::take(known);
    for (key, value) in now {
        let since = old.remove(&key).filter(|(before, _)| *before == value);
        let since = since.map_or(op, |(_, since)| since);
        known.insert(key, (value, since));
    }
}

/// Equal entries of a list have no names: each finds one that was there before, in their order.
fn follow_list<T: PartialEq>(known: &mut Vec<(T, OpId)>, now: Vec<T>, op: OpId) {
    let mut old = std::mem::take(known);
    for entry in now {
        let at = old.iter().position(|(before, _)| *before == entry);
        let since = at.map_or(op, |at| old.remove(at).1);
        known.push((entry, since));
    }
}
