//! A small network, and random policies for it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use meshnode_protocol::access::Ports;
use meshnode_protocol::address::ipv6;
use meshnode_protocol::body::Ipv4Range;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::name::{NodeName, Owner, Tag};
use meshnode_protocol::policy::{
    Directory, Document, Fault, Host, Listing, Members, Pins, Policy, Prefix, Proposal, Proto,
    Read, Rule, Selector, Service, Target, Terms, Test, Troubles, read,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

pub(crate) const GENESIS: OpId = OpId::new([7; 32]);

/// Name, owner, tags, whether it is an admin.
const NODES: [(&str, Option<&str>, &[&str], bool); 8] = [
    ("laptop", Some("alice"), &[], true),
    ("phone", Some("alice"), &[], false),
    ("nas", Some("alice"), &["storage"], false),
    ("vps", None, &["web", "storage"], true),
    ("ben-pc", Some("ben@example.com"), &[], false),
    ("pi", None, &[], false),
    ("alice", None, &[], false),
    ("tagged-ben", Some("ben@example.com"), &["web"], false),
];

pub(crate) fn id(number: u8) -> NodeId {
    NodeId::new(Secret::from_seed(&[number + 1; 32]).public())
}

/// The id of a node by its name.
pub(crate) fn named(name: &str) -> NodeId {
    let number = NODES.iter().position(|node| node.0 == name).unwrap();
    id(number as u8)
}

pub(crate) fn listings() -> Vec<Listing> {
    let nodes = (0u8..).zip(NODES);
    let listings = nodes.map(|(number, (name, owner, tags, admin))| Listing {
        id: id(number),
        name: NodeName::parse(name).unwrap(),
        owner: owner.map(|owner| Owner::parse(owner).unwrap()),
        tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
        admin,
        // One node has no IPv4 address.
        ipv4: (name != "pi").then_some(Ipv4Addr::new(100, 64, 1, number + 1)),
        ipv6: ipv6(&GENESIS, &id(number)),
    });
    listings.collect()
}

pub(crate) fn directory() -> Directory {
    Directory::new(&GENESIS, Ipv4Range::DEFAULT, listings())
}

/// An admin who edits.
pub(crate) fn author(number: u8) -> NodeId {
    id(100 + number)
}

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn reads(text: &str) -> Read {
    read(text, &directory()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

pub(crate) fn faults(text: &str) -> Vec<Fault> {
    read(text, &directory()).unwrap_err()
}

/// The document of a policy.
pub(crate) fn founded(policy: &Policy, seed: u64) -> Document {
    let base = Document::base_for(policy, &author(0), &mut rng(seed)).unwrap();
    Document::from_base(&base, &author(0)).unwrap()
}

/// The bytes of the edit by an author that leads to a policy; none if nothing is to do.
pub(crate) fn edit(document: &Document, wanted: &Policy, by: u8, seed: u64) -> Option<Vec<u8>> {
    let proposal = document.propose(wanted, Troubles::Settle, &author(by), &mut rng(seed));
    match proposal.unwrap() {
        Proposal::Nothing => None,
        Proposal::Edit(bytes) => Some(bytes),
        Proposal::Base(_) => panic!("an edit of a small policy is small"),
    }
}

/// Draws from a fixed seed.
pub(crate) struct Draw(pub(crate) ChaCha20Rng);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(rng(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn some<T>(&mut self, max: usize, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = 1 + self.below(max);
        (0..count).map(|_| draw(self)).collect()
    }

    fn selector(&mut self, own: bool) -> Selector {
        let prefixes = [
            "100.64.0.0/10",
            "100.64.1.0/30",
            "100.64.1.5",
            "fd7d:463a:3414::/48",
        ];
        match self.below(if own { 12 } else { 11 }) {
            0 => Selector::All,
            1 => Selector::Member,
            2 => Selector::Admin,
            3 => Selector::Tagged,
            4 => Selector::Owner(
                Owner::parse(self.one::<&str>(&["alice", "ben@example.com", "zoe"])).unwrap(),
            ),
            5 => Selector::Group(
                meshnode_protocol::name::Group::parse(self.one::<&str>(&["a", "b"])).unwrap(),
            ),
            6 => Selector::Tag(Tag::parse(self.one::<&str>(&["web", "storage", "none"])).unwrap()),
            7 => Selector::Host(
                meshnode_protocol::name::Alias::parse(self.one::<&str>(&["home", "pc"])).unwrap(),
            ),
            8 => Selector::Prefix(Prefix::parse(self.one(&prefixes)).unwrap()),
            9 | 10 => Selector::Node(id(self.below(9) as u8)),
            _ => Selector::Own,
        }
    }

    fn ports(&mut self) -> Vec<Ports> {
        let one = |first, last| Ports { first, last };
        let lists = [
            vec![Ports::ALL],
            vec![one(22, 22)],
            vec![one(80, 80), one(443, 443)],
            vec![one(1000, 2000)],
        ];
        self.one(&lists)
    }

    fn proto(&mut self) -> Option<Proto> {
        self.one(&[None, None, Some(Proto::TCP), Some(Proto::UDP)])
    }

    pub(crate) fn rule(&mut self) -> Rule {
        let src = self.some(3, |draw| draw.selector(false));
        let services = [
            "*",
            "tcp:22",
            "udp:*",
            "icmp",
            "443",
            "tcp:80-90",
            "gre",
            "sctp:5",
            "77:*",
        ];
        let terms = if self.below(2) == 0 {
            let proto = self.proto();
            let dst = self.some(3, |draw| Target {
                who: draw.selector(true),
                ports: draw.ports(),
            });
            Terms::Acl { proto, dst }
        } else {
            let dst = self.some(3, |draw| draw.selector(true));
            let ip = self.some(3, |draw| Service::parse(draw.one(&services)).unwrap()[0]);
            Terms::Grant { dst, ip }
        };
        let note = self.note();
        Rule { src, terms, note }
    }

    pub(crate) fn note(&mut self) -> String {
        let notes = [
            "",
            "",
            "why it is so",
            "two lines\nof it",
            "a \"quote\" // here",
            "[not, a list]",
        ];
        self.one(&notes).to_owned()
    }

    fn test(&mut self) -> Test {
        let target = |draw: &mut Self| Target {
            who: draw.selector(false),
            ports: vec![Ports {
                first: 22,
                last: 22,
            }],
        };
        Test {
            src: self.selector(false),
            proto: self.proto(),
            accept: self.some(2, target),
            deny: if self.below(2) == 0 {
                Vec::new()
            } else {
                self.some(2, target)
            },
            note: self.note(),
        }
    }

    fn members(&mut self) -> Members {
        let owner = |name| Selector::Owner(Owner::parse(name).unwrap());
        let of = self.some(3, |draw| match draw.below(3) {
            0 => owner("alice"),
            1 => owner("ben@example.com"),
            _ => Selector::Node(id(draw.below(8) as u8)),
        });
        Members {
            of: of.into_iter().collect(),
            note: self.note(),
        }
    }

    fn pins(&mut self, number: u8) -> Pins {
        let tags: [Option<BTreeSet<Tag>>; 3] = [
            None,
            Some(BTreeSet::new()),
            Some(BTreeSet::from([Tag::parse("web").unwrap()])),
        ];
        Pins {
            name: (self.below(2) == 0)
                .then(|| NodeName::parse(&format!("pinned-{number}")).unwrap()),
            tags: self.one(&tags),
            owner: (self.below(3) == 0).then(|| Owner::parse("zoe").unwrap()),
            note: self.note(),
        }
    }

    /// A policy whose groups and hosts are all defined; acls stand before grants.
    pub(crate) fn policy(&mut self, rules: usize) -> Policy {
        let mut policy = Policy::default();
        for group in ["a", "b"] {
            let group = meshnode_protocol::name::Group::parse(group).unwrap();
            policy.groups.insert(group, self.members());
        }
        for (alias, at) in [("home", "100.64.1.0/29"), ("pc", "100.64.1.5")] {
            let alias = meshnode_protocol::name::Alias::parse(alias).unwrap();
            let at = Prefix::parse(at).unwrap();
            let note = self.note();
            policy.hosts.insert(alias, Host { at, note });
        }
        for number in 0..8 {
            if self.below(4) == 0 {
                policy.nodes.insert(id(number), self.pins(number));
            }
        }
        let tag = Tag::parse("web").unwrap();
        policy.tag_owners.insert(tag, self.members());
        policy.rules = (0..self.below(rules + 1)).map(|_| self.rule()).collect();
        policy
            .rules
            .sort_by_key(|rule| matches!(rule.terms, Terms::Grant { .. }));
        policy.tests = (0..self.below(3)).map(|_| self.test()).collect();
        policy
    }
}
