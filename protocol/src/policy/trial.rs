//! The tests that a policy brings along, tried on its own rules.
//!
//! A test speaks of every node that its words mean. Where they mean none today, a made-up node stands in that they
//! would mean, so that a policy can be tried before the nodes exist.

use std::collections::BTreeSet;

use super::bits::Bits;
use super::directory::{Directory, Listing};
use super::reach::{Nodes, Reach};
use super::selector::Selector;
use super::words::Words;
use super::{Policy, Target, Test};
use crate::access::{Ports, number};
use crate::address::ipv6;
use crate::id::{NodeId, OpId};
use crate::identity::{Secret, hash_as};
use crate::name::NodeName;

const STAND_IN_CONTEXT: &str = "meshnode policy stand-in 1";

/// What a test wants, or got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

/// A line of a test that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number of the test among the policy's.
    pub test: usize,
    /// The destination that is not as the test wants it.
    pub target: Target,
    /// What the test wants.
    pub want: Outcome,
    /// A pair of nodes for which it is not so; none: a stand-in.
    pub pair: (Option<NodeId>, Option<NodeId>),
}

impl Test {
    /// Its source and a target of it, as they are written in a network.
    #[must_use]
    pub fn said(&self, target: &Target, policy: &Policy, directory: &Directory) -> [String; 2] {
        let words = Words::of(policy, directory);
        [words.write(&self.src), words.write_target(target)]
    }
}

impl Policy {
    /// Tries the policy's own tests on its rules.
    #[must_use]
    pub fn failures(&self, directory: &Directory) -> Vec<Failure> {
        let stand_ins = self.stand_ins(directory);
        let pinned = directory.pinned(&self.nodes);
        let made_up: BTreeSet<NodeId> = stand_ins.iter().map(|node| node.id).collect();
        let nodes = pinned.listings().values().cloned().chain(stand_ins);
        let trial = Trial {
            reach: Reach::among(self, nodes),
            made_up,
        };
        let tests = self.tests.iter().enumerate();
        tests
            .flat_map(|(number, test)| trial.failures(number, test))
            .collect()
    }

    /// A node for each selector of the tests that means nobody.
    fn stand_ins(&self, directory: &Directory) -> Vec<Listing> {
        let reach = Reach::compile(self, directory);
        let mut named = BTreeSet::new();
        for test in &self.tests {
            named.insert(&test.src);
            named.extend(
                test.accept
                    .iter()
                    .chain(&test.deny)
                    .map(|target| &target.who),
            );
        }
        let missing = named
            .into_iter()
            .filter(|selector| reach.nodes.select(selector).is_empty());
        missing
            .filter_map(|missing| self.stand_in(missing))
            .collect()
    }

    /// A node that a selector would mean; none: nothing could be meant by it.
    fn stand_in(&self, selector: &Selector) -> Option<Listing> {
        let seed = hash_as(STAND_IN_CONTEXT, selector.to_string().as_bytes());
        let id = NodeId::new(Secret::from_seed(seed.as_bytes()).public());
        let mut node = Listing {
            id,
            name: NodeName::from_text(&id.short(), "stand-in"),
            owner: None,
            tags: BTreeSet::new(),
            admin: false,
            ipv4: None,
            ipv6: ipv6(&OpId::ZERO, &id),
        };
        match selector {
            Selector::All | Selector::Member => {}
            Selector::Admin => node.admin = true,
            Selector::Tagged => drop(node.tags.insert(crate::name::Tag::from_text("x", "x"))),
            Selector::Own => return None,
            Selector::Node(id) => node.id = *id,
            Selector::Owner(owner) => node.owner = Some(owner.clone()),
            Selector::Group(group) => {
                let member = self.groups.get(group)?.of.first()?;
                return self.stand_in(member);
            }
            Selector::Tag(tag) => drop(node.tags.insert(tag.clone())),
            Selector::Host(alias) => {
                let at = self.hosts.get(alias)?.at;
                return self.stand_in(&Selector::Prefix(at));
            }
            Selector::Prefix(prefix) => match prefix.base() {
                std::net::IpAddr::V4(address) => node.ipv4 = Some(address),
                std::net::IpAddr::V6(address) => node.ipv6 = address,
            },
        }
        Some(node)
    }
}

/// A policy on trial.
struct Trial {
    reach: Reach,
    made_up: BTreeSet<NodeId>,
}

impl Trial {
    fn failures(&self, number: usize, test: &Test) -> Vec<Failure> {
        let sources = self.meant(&test.src);
        let mut failures = Vec::new();
        for (want, targets) in [(Outcome::Allow, &test.accept), (Outcome::Deny, &test.deny)] {
            for target in targets {
                if let Some((src, dst)) = self.contradiction(&sources, test, target, want) {
                    failures.push(Failure {
                        test: number,
                        target: target.clone(),
                        want,
                        pair: (self.shown(src), self.shown(dst)),
                    });
                }
            }
        }
        failures
    }

    fn nodes(&self) -> &Nodes {
        &self.reach.nodes
    }

    fn shown(&self, node: Option<usize>) -> Option<NodeId> {
        let id = self.nodes().all[node?].id;
        (!self.made_up.contains(&id)).then_some(id)
    }

    /// The nodes that a selector means; stand-ins only where there is nobody else.
    fn meant(&self, selector: &Selector) -> Bits {
        let selected = self.nodes().select(selector);
        let mut real = Bits::none(self.nodes().all.len());
        for node in selected.iter() {
            if !self.made_up.contains(&self.nodes().all[node].id) {
                real.insert(node);
            }
        }
        if real.is_empty() { selected } else { real }
    }

    /// A source and a destination for which a target is not as wanted.
    fn contradiction(
        &self,
        sources: &Bits,
        test: &Test,
        target: &Target,
        want: Outcome,
    ) -> Option<(Option<usize>, Option<usize>)> {
        let destinations = self.meant(&target.who);
        // A test of nobody proves nothing.
        if want == Outcome::Allow && (sources.is_empty() || destinations.is_empty()) {
            return Some((sources.iter().next(), destinations.iter().next()));
        }
        let protocols = match (test.proto, want) {
            (Some(proto), _) => vec![proto.number()],
            (None, Outcome::Allow) => vec![number::TCP],
            (None, Outcome::Deny) => vec![number::TCP, number::UDP],
        };
        for protocol in protocols {
            for ports in &target.ports {
                let port = (*ports != Ports::ALL).then_some(ports.first);
                let question = (protocol, port);
                for src in sources.iter() {
                    let mut wrong = destinations.clone();
                    let reached = self.reached(src, question);
                    match want {
                        Outcome::Allow => wrong.remove(&reached),
                        Outcome::Deny => wrong.retain(&reached),
                    }
                    if let Some(dst) = wrong.iter().find(|dst| *dst != src) {
                        return Some((Some(src), Some(dst)));
                    }
                }
            }
        }
        None
    }

    /// What a source reaches with a protocol and port.
    fn reached(&self, src: usize, (protocol, port): (u8, Option<u16>)) -> Bits {
        let mut reached = Bits::none(self.nodes().all.len());
        for rule in self
            .reach
            .rules
            .iter()
            .filter(|rule| rule.src.contains(src))
        {
            for part in &rule.parts {
                if part.allows.iter().any(|allow| allow.covers(protocol, port)) {
                    reached.extend(&part.dst);
                    if part.own {
                        reached.extend(&self.nodes().kin(src));
                    }
                }
            }
        }
        reached
    }
}
