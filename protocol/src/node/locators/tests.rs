//! Two members that cannot hear each other, and a stranger that both know.

use std::collections::BTreeSet;

use super::*;
use crate::body::{Body, Caps, Grant, Ipv4Range, Level, Tags};
use crate::codec::Ext;
use crate::custody::Custody;
use crate::identity::{Keys, Secret};
use crate::io::{Input, Output, Stored, Write};
use crate::link::LinkInput;
use crate::name::{NetworkName, NodeName};
use crate::node::{Founding, Setup};
use crate::path::Punch;
use crate::record::Transport;
use crate::time::Timestamp;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const WALL_MS: u64 = 1_790_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// One of the two, and what it did.
struct Actor {
    node: Node,
    dialed: Vec<(TransportKey, Vec<ControlAddress>)>,
    neighbours: Vec<TransportKey>,
    puts: Vec<(u64, LocatorKey, Vec<u8>)>,
    gets: Vec<LocatorKey>,
}

/// Nobody hears anybody but the stranger.
struct Stage {
    at_ms: u64,
    actors: [Actor; 2],
    kept: BTreeMap<LocatorKey, Vec<u8>>,
}

impl Stage {
    fn new() -> Self {
        let start = moment(0);
        let founding = Founding {
            network: NetworkName::parse("homelab").unwrap(),
            node: NodeName::parse("nas").unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            owner: None,
            phrases: 1,
            threshold: 1,
        };
        let mut nas = Node::found(founding, setup(), [1; 32], start).node;
        let keys = Keys::generate(&mut ChaCha20Rng::from_seed([2; 32]));
        let net = nas.net.as_ref().unwrap();
        let grant = Grant {
            device: keys.node(),
            level: Level::MEMBER,
            caps: Caps::NONE,
            may_tag: Tags::default(),
            owner: None,
            tags: Tags::default(),
            name: NodeName::parse("pi").unwrap(),
            ipv4: net.view.free_ipv4(&keys.node()),
            expires: None,
            claim: None,
            ext: Ext::NONE,
        };
        nas.author(Body::Grant(Box::new(grant)), start).unwrap();
        let pi = Node::resume(&stored(&mut nas, &keys), setup(), [3; 32], start).unwrap();
        let records = &pi.net.as_ref().unwrap().ledger.records;
        records
            .iter()
            .for_each(|record| nas.take_record(record.bytes()));
        let actors = [nas, pi].map(|node| Actor {
            node,
            dialed: Vec::new(),
            neighbours: Vec::new(),
            puts: Vec::new(),
            gets: Vec::new(),
        });
        let mut stage = Self {
            at_ms: 0,
            actors,
            kept: BTreeMap::new(),
        };
        stage.moves(0, "203.0.113.1:7000");
        stage.moves(1, "203.0.113.2:7000");
        stage
    }

    fn feed(&mut self, who: usize, input: LinkInput) {
        let now = moment(self.at_ms);
        self.actors[who].node.handle(Input::Link(input), now);
        self.carry(who);
    }

    fn carry(&mut self, who: usize) {
        let (now, actor) = (moment(self.at_ms), &mut self.actors[who]);
        while let Some(output) = actor.node.poll_output() {
            let Output::Link(output) = output else {
                continue;
            };
            let answer = match output {
                LinkOutput::Dial {
                    dial,
                    peer,
                    addresses,
                } => {
                    actor.dialed.extend(peer.map(|peer| (peer, addresses)));
                    let useless = false;
                    Some(LinkInput::DialFailed { dial, useless })
                }
                LinkOutput::Neighbours(all) => {
                    actor.neighbours = all.into_iter().map(|(peer, _)| peer).collect();
                    None
                }
                LinkOutput::Put { key, value } => {
                    actor.puts.push((self.at_ms, key, value.clone()));
                    self.kept.insert(key, value);
                    None
                }
                LinkOutput::Get { key } => {
                    actor.gets.push(key);
                    let value = self.kept.get(&key).cloned();
                    value.map(|value| LinkInput::Got { key, value })
                }
                LinkOutput::Ask { .. }
                | LinkOutput::DialBy { .. }
                | LinkOutput::Homes(_)
                | LinkOutput::Relaying(_)
                | LinkOutput::Carry { .. }
                | LinkOutput::Answer { .. }
                | LinkOutput::Refuse { .. }
                | LinkOutput::HangUp { .. }
                | LinkOutput::Trust { .. }
                | LinkOutput::Distrust { .. }
                | LinkOutput::Topic(_)
                | LinkOutput::Publish(_)
                | LinkOutput::Verdict { .. } => None,
            };
            if let Some(answer) = answer {
                actor.node.handle(Input::Link(answer), now);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.at_ms + ms;
        loop {
            let due = |actor: &Actor| actor.node.poll_timeout();
            let next = self.actors.iter().filter_map(due).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.at_ms = self.at_ms.max(next);
            for who in 0..2 {
                let now = moment(self.at_ms);
                self.actors[who].node.handle(Input::Timeout, now);
                self.carry(who);
            }
        }
        self.at_ms = end;
    }

    fn moves(&mut self, who: usize, to: &str) {
        self.feed(who, LinkInput::Listening(vec![tcp(to)]));
        self.pass(3000);
    }

    fn meets(&mut self, who: usize, peer: TransportKey, at: &str) {
        let addresses = vec![tcp(at)];
        self.feed(who, LinkInput::Found { peer, addresses });
    }

    fn key(&self, who: usize) -> TransportKey {
        TransportKey::new(self.actors[who].node.keys.transport.public())
    }

    fn has_dialed(&self, who: usize, to: &str) -> bool {
        let dialed = self.actors[who].dialed.iter();
        dialed.flat_map(|(_, all)| all).any(|a| *a == tcp(to))
    }
}

#[test]
fn two_members_that_both_moved_find_each_other_by_their_locators() {
    let mut stage = Stage::new();
    for who in 0..2 {
        stage.meets(who, stranger(1), "198.51.100.7:7000");
    }
    stage.moves(0, "203.0.113.101:7000");
    stage.moves(1, "203.0.113.102:7000");
    stage.pass(120_000);
    assert!(stage.has_dialed(0, "203.0.113.102:7000"));
    assert!(stage.has_dialed(1, "203.0.113.101:7000"));
}

#[test]
fn without_a_stranger_that_both_know_nobody_is_found_and_nothing_is_put() {
    let mut stage = Stage::new();
    stage.moves(0, "203.0.113.101:7000");
    stage.pass(120_000);
    assert!(!stage.has_dialed(1, "203.0.113.101:7000"));
    for actor in &stage.actors {
        assert!(actor.puts.is_empty() && actor.gets.is_empty());
    }
}

#[test]
fn a_locator_is_put_at_fixed_times_after_every_move_and_never_more_often() {
    let mut stage = Stage::new();
    stage.meets(0, stranger(1), "198.51.100.7:7000");
    stage.pass(HOUR_MS);
    let times: Vec<_> = stage.actors[0].puts.iter().map(|put| put.0).collect();
    // Nobody is reached, so every half minute.
    assert_eq!(times.len(), 121, "{times:?}");
    for pair in times.windows(2) {
        assert_eq!(pair[1] - pair[0], PUT_ALONE_MS);
    }
    for host in 1..100 {
        stage.moves(0, &format!("203.0.113.{host}:7000"));
    }
    let puts = &stage.actors[0].puts[times.len()..];
    assert!((50..=61).contains(&puts.len()), "{}", puts.len());
    assert!(
        puts.windows(2)
            .all(|pair| pair[1].0 - pair[0].0 >= PUT_GAP_MS)
    );
}

#[test]
fn a_locator_has_another_place_and_other_bytes_every_day() {
    let mut stage = Stage::new();
    stage.meets(0, stranger(1), "198.51.100.7:7000");
    stage.pass(72 * HOUR_MS);
    let puts = &stage.actors[0].puts;
    let places: BTreeSet<_> = puts.iter().map(|put| put.1).collect();
    let values: BTreeSet<_> = puts.iter().map(|put| &put.2).collect();
    assert!((3..=4).contains(&places.len()), "{}", places.len());
    assert_eq!(values.len(), places.len());
}

#[test]
fn no_member_and_nobody_without_a_public_address_becomes_a_dht_node() {
    let mut stage = Stage::new();
    let pi = stage.key(1);
    stage.meets(0, pi, "203.0.113.2:7000");
    for (seed, at) in [
        "192.168.1.7:7000",
        "[fe80::1]:7000",
        "127.0.0.1:7000",
        "203.0.113.9:22",
    ]
    .into_iter()
    .enumerate()
    {
        stage.meets(0, stranger(u8::try_from(seed).unwrap()), at);
    }
    let own = stage.key(0);
    stage.meets(0, own, "203.0.113.1:7000");
    assert_eq!(stage.actors[0].neighbours, []);
    stage.meets(0, stranger(9), "198.51.100.7:7000");
    assert_eq!(stage.actors[0].neighbours, [stranger(9)]);
}

#[test]
fn a_flood_of_announced_keys_drives_no_dht_node_out_that_was_met() {
    let mut stage = Stage::new();
    let good = stranger(1);
    stage.meets(0, good, "198.51.100.7:7000");
    let link = crate::link::LinkId(1);
    let up = LinkInput::Up {
        link,
        peer: good,
        remote: tcp("198.51.100.7:7000"),
        dial: None,
        by: None,
    };
    stage.feed(0, up);
    for seed in 2..=200 {
        stage.meets(0, stranger(seed), "198.51.100.8:7000");
    }
    let neighbours = &stage.actors[0].neighbours;
    assert_eq!(neighbours.len(), NEIGHBOURS_MAX);
    assert!(neighbours.contains(&good));
}

#[test]
fn what_no_member_sealed_and_what_another_member_signed_changes_nothing() {
    let mut stage = Stage::new();
    for who in 0..2 {
        stage.meets(who, stranger(1), "198.51.100.7:7000");
    }
    // The other member's own record, older and newer, in the place of the one that is sought.
    let own = stage.actors[0].node.id;
    let record = endpoints(&stage.actors[0].node, &own).unwrap();
    let pi = stage.actors[1].node.id;
    let day = day_of(Timestamp::from_ms(WALL_MS));
    let net = stage.actors[0].node.net.as_ref().unwrap();
    let locators: Vec<_> = net.epochs.locators(pi, day).collect();
    let before = endpoints(&stage.actors[0].node, &pi);
    for locator in &locators {
        stage
            .kept
            .insert(locator.key(), locator.seal(&record).unwrap());
    }
    stage.pass(30_000);
    assert!(
        locators
            .iter()
            .all(|l| stage.actors[0].gets.contains(&l.key()))
    );
    for locator in &locators {
        let junk = vec![7; crate::limits::LOCATOR_BYTES];
        let key = locator.key();
        stage.feed(0, LinkInput::Got { key, value: junk });
    }
    assert_eq!(endpoints(&stage.actors[0].node, &pi), before);
}

#[test]
fn a_member_whose_clock_is_off_by_a_day_is_found() {
    let mut stage = Stage::new();
    for who in 0..2 {
        stage.meets(who, stranger(1), "198.51.100.7:7000");
    }
    stage.moves(1, "203.0.113.102:7000");
    let pi = stage.actors[1].node.id;
    let record = endpoints(&stage.actors[1].node, &pi).unwrap();
    stage.kept.clear();
    let tomorrow = day_of(Timestamp::from_ms(WALL_MS)) + 1;
    let net = stage.actors[1].node.net.as_ref().unwrap();
    let locator = net.epochs.locators(pi, tomorrow).next().unwrap();
    let value = locator.seal(&record).unwrap();
    stage.feed(0, LinkInput::Listening(vec![tcp("203.0.113.101:7000")]));
    for _ in 0..120 {
        stage.kept = BTreeMap::from([(locator.key(), value.clone())]);
        stage.pass(1000);
    }
    assert!(stage.has_dialed(0, "203.0.113.102:7000"));
}

fn moment(at_ms: u64) -> Moment {
    Moment {
        uptime_us: at_ms * 1000,
        wall: Timestamp::from_ms(WALL_MS + at_ms),
    }
}

fn setup() -> Setup {
    Setup {
        tunnel_port: 7000,
        os: "linux".to_owned(),
        version: "0".to_owned(),
        punch: Punch::default(),
    }
}

/// What a second machine would have on its disk.
fn stored(founder: &mut Node, keys: &Keys) -> Stored {
    let mut custody = Custody::new(keys);
    custody.genesis.clone_from(&founder.custody.genesis);
    custody.epochs.clone_from(&founder.custody.epochs);
    custody.joined = true;
    let mut stored = Stored {
        secrets: Some(custody.to_bytes()),
        ..Stored::default()
    };
    for write in founder.net.as_mut().unwrap().ledger.all_writes() {
        match write {
            Write::Op(_, bytes) => stored.ops.push(bytes),
            Write::Record(_, bytes) => stored.records.push(bytes),
            Write::Heads(heads) => stored.heads = heads,
            Write::Admit(..)
            | Write::DropAdmit(_)
            | Write::DropRecord(_)
            | Write::Secrets(_)
            | Write::Heard(..)
            | Write::Blocked(_)
            | Write::Trial(_) => {}
        }
    }
    stored
}

fn stranger(seed: u8) -> TransportKey {
    TransportKey::new(Secret::from_seed(&[seed ^ 0xA5; 32]).public())
}

fn tcp(address: &str) -> ControlAddress {
    ControlAddress {
        transport: Transport::Tcp,
        address: address.parse().unwrap(),
    }
}

fn endpoints(node: &Node, device: &NodeId) -> Option<Vec<u8>> {
    let net = node.net.as_ref()?;
    let record = net.ledger.records.of(device, RecordKind::ENDPOINTS);
    record.map(|record| record.bytes().to_vec())
}
