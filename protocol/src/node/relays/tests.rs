//! Homes, volunteers, whom this node carries for, and whom it calls by a circuit: one node and real exchanges.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one kind of output among many"
)]

mod budgets;
mod reach;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::body::Body;
use crate::codec::Ext;
use crate::id::{NodeId, TransportKey};
use crate::identity::Keys;
use crate::io::{CarryTerms, Command, CommandId, Input, Output, Refusal, RelayInfo, Reply};
use crate::link::{DialId, LinkOutput};
use crate::name::NodeName;
use crate::node::stage::{at, founded, grant, keys, node_record, revoke, say};
use crate::node::{Founded, Node};
use crate::peering::{Path, PeerChange, TunnelInput};
use crate::record::{
    Candidate, CandidateKind, ControlAddress, Endpoints, Nat, Record, RecordBody, RelayRecord,
    Transport,
};
use crate::relay::exchange::Exchange;

fn relay_keys(number: u8) -> Keys {
    keys(200 + number)
}

fn key_of(keys: &Keys) -> TransportKey {
    TransportKey::new(keys.transport.public())
}

fn relay_at(number: u8) -> SocketAddr {
    ([198, 51, 100, number], 443).into()
}

fn named(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

/// A founder, relays of others at some distance, and the time.
struct Stage {
    node: Node,
    now_ms: u64,
    relays: BTreeMap<SocketAddr, (Exchange, u64)>,
    /// Words on their way to the node.
    way: Vec<(u64, SocketAddr, Vec<u8>)>,
    told: Vec<Output>,
    seq: u64,
}

impl Stage {
    fn new() -> Self {
        let Founded { node, .. } = founded();
        let mut stage = Self {
            node,
            now_ms: 1,
            relays: BTreeMap::new(),
            way: Vec::new(),
            told: Vec::new(),
            seq: 1,
        };
        let own = Input::Interfaces(vec![[192, 168, 1, 2].into()]);
        stage.give(own);
        stage
    }

    fn give(&mut self, input: Input) {
        self.node.handle(input, at(self.now_ms));
        self.carry();
    }

    fn carry(&mut self) {
        while let Some(output) = self.node.poll_output() {
            if let Output::Datagram {
                path: Path::Direct { remote, .. },
                bytes,
            } = &output
                && let Some((exchange, delay)) = self.relays.get_mut(remote)
            {
                let chosen = self.told.iter().rev().find_map(|told| match told {
                    Output::Relays(relays) => Some(relays.contains(remote)),
                    _ => None,
                });
                assert_eq!(chosen, Some(true), "a relay is spoken to that was not told");
                let own = ([203, 0, 113, 9], 4000).into();
                let answer = exchange.on_word(at(self.now_ms), own, bytes);
                let due = self.now_ms + *delay;
                self.way
                    .extend(answer.map(|word| (due, *remote, word.to_bytes())));
            }
            self.told.push(output);
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            let word = self.way.iter().map(|(due, ..)| *due).min();
            let timer = self.node.poll_timeout();
            let next = word.into_iter().chain(timer).min().unwrap_or(end);
            self.now_ms = next.clamp(self.now_ms + 1, end);
            let now_ms = self.now_ms;
            let due: Vec<_> = self
                .way
                .extract_if(.., |(due, ..)| *due <= now_ms)
                .collect();
            for (_, relay, bytes) in due {
                self.give(Input::Tunnel(TunnelInput::Relay { relay, bytes }));
            }
            self.give(Input::Timeout);
        }
    }

    fn command(&mut self, command: Command) -> Reply {
        let id = CommandId(self.told.len() as u64 + 1000);
        self.give(Input::Command(id, command));
        let replies = self.told.iter().filter_map(|output| match output {
            Output::Reply(to, reply) if *to == id => Some(reply.clone()),
            _ => None,
        });
        let mut replies: Vec<_> = replies.collect();
        replies.pop().expect("a reply")
    }

    /// A relay of others, so many milliseconds away, that is named.
    fn add_relay(&mut self, number: u8, delay_ms: u64) {
        self.set_up_relay(number, delay_ms);
        self.name_relay(number);
    }

    fn name_relay(&mut self, number: u8) {
        let reply = self.command(Command::RelayAdd {
            key: key_of(&relay_keys(number)),
            name: named(&format!("oak{number}")),
            addresses: vec![relay_at(number)],
        });
        assert_eq!(reply, Reply::RelayChanged(true));
    }

    fn set_up_relay(&mut self, number: u8, delay_ms: u64) {
        let terms = CarryTerms {
            key: key_of(&relay_keys(number)),
            clients: None,
            rate: (1_000_000, 1_000_000),
            pairs: 16,
            month_bytes: None,
        };
        let exchange = Exchange::new(terms, [number; 32]);
        self.relays.insert(relay_at(number), (exchange, delay_ms));
    }

    fn record(&mut self, device: &Keys, body: RecordBody) {
        self.seq += 1;
        let network = self.node.net.as_ref().unwrap().authority().network();
        let record = Record::sign(network, at(0).wall.ms() + self.seq, body, &device.device);
        self.node.take_record(record.bytes());
        let devices = [device.node()].into();
        self.node.relays_heard(&devices, at(self.now_ms));
        self.give(Input::Timeout);
    }

    /// A member with keys of its own.
    fn member(&mut self, number: u8, name: &str) -> Keys {
        let keys = keys(number);
        let body = Body::Grant(Box::new(grant(keys.node(), 255, name, None)));
        say(&mut self.node, body, at(self.now_ms));
        let record = node_record(&self.node, &keys);
        self.record(&keys, record);
        keys
    }

    fn endpoints(&mut self, device: &Keys, homes: &[TransportKey], carries: bool) {
        let address = ([203, 0, 113, 77], 41_641).into();
        let kind = CandidateKind::Host;
        let endpoints = Endpoints {
            tunnel: vec![Candidate { kind, address }],
            control: vec![ControlAddress {
                transport: Transport::Tcp,
                address,
            }],
            nat: Nat::Unknown,
            homes: homes.to_vec(),
            carries,
            ttl_s: 60,
            ext: Ext::NONE,
        };
        self.record(device, RecordBody::Endpoints(endpoints));
    }

    fn homes(&self) -> Vec<TransportKey> {
        let net = self.node.net.as_ref().unwrap();
        let own = net.ledger.records.endpoints(&self.node.id());
        own.map(|own| own.homes.clone()).unwrap_or_default()
    }

    fn list(&mut self) -> Vec<RelayInfo> {
        match self.command(Command::RelayList) {
            Reply::Relays(list) => list,
            other => panic!("no list but {other:?}"),
        }
    }

    fn links(&self) -> impl DoubleEndedIterator<Item = &LinkOutput> {
        self.told.iter().filter_map(|output| match output {
            Output::Link(link) => Some(link),
            _ => None,
        })
    }

    fn terms(&self) -> Option<&CarryTerms> {
        let told = self.told.iter().rev().find_map(|output| match output {
            Output::Carry(terms) => Some(terms.as_ref()),
            _ => None,
        });
        told.flatten()
    }

    fn wireguard(&self, device: &NodeId) -> crate::id::WireGuardKey {
        self.node.net.as_ref().unwrap().engine[device].key
    }

    fn path_to(&self, device: &NodeId) -> Option<Path> {
        let key = self.wireguard(device);
        let told = self.told.iter().rev().find_map(|output| match output {
            Output::Peer(PeerChange::Path(of, path)) if *of == key => Some(*path),
            _ => None,
        });
        told.flatten()
    }

    fn is_called_by(&self, peer: TransportKey, relay: TransportKey) -> Option<DialId> {
        self.links().rev().find_map(|link| match link {
            LinkOutput::DialBy {
                dial,
                peer: called,
                relay: by,
                addresses,
            } if (*called, *by) == (peer, relay) && !addresses.is_empty() => Some(*dial),
            _ => None,
        })
    }
}

#[test]
fn a_relay_that_an_admin_named_becomes_the_home_and_is_published() {
    let mut stage = Stage::new();
    stage.add_relay(1, 20);
    stage.run(3000);
    let key = key_of(&relay_keys(1));
    assert_eq!(stage.homes(), [key]);
    let list = stage.list();
    assert_eq!(list.len(), 1);
    assert!(list[0].home && list[0].bound && list[0].member.is_none());
    assert_eq!(
        (list[0].rtt_us, list[0].by.clone()),
        (Some(20_000), Some(named("nas")))
    );
    let reserved = stage.links().any(|link| match link {
        LinkOutput::Homes(homes) => homes.iter().any(|(home, at)| *home == key && at.len() == 2),
        _ => false,
    });
    assert!(reserved, "no reservation is asked for");
}

#[test]
fn a_relay_that_was_removed_is_spoken_to_no_more() {
    let mut stage = Stage::new();
    stage.add_relay(1, 20);
    stage.run(3000);
    let name = named("oak1");
    let removed = stage.command(Command::RelayRemove { name: name.clone() });
    assert_eq!(removed, Reply::RelayChanged(true));
    stage.run(3000);
    assert_eq!((stage.homes(), stage.list()), (vec![], vec![]));
    let relays = stage.told.iter().rev().find_map(|output| match output {
        Output::Relays(relays) => Some(relays.clone()),
        _ => None,
    });
    assert_eq!(relays, Some(vec![]));
    let again = stage.command(Command::RelayRemove { name });
    assert_eq!(again, Reply::Refused(Refusal::UnknownNode));
}

#[test]
fn the_nearest_two_are_homes_and_a_third_must_be_nearer_by_enough_twice() {
    let mut stage = Stage::new();
    stage.add_relay(1, 50);
    stage.add_relay(2, 40);
    stage.run(3000);
    let [one, two, three] = [1, 2, 3].map(|number| key_of(&relay_keys(number)));
    let both = |stage: &Stage| {
        let mut homes = stage.homes();
        homes.sort_unstable();
        homes
    };
    let mut first = vec![one, two];
    first.sort_unstable();
    assert_eq!(both(&stage), first);
    // Nearer by 8 ms: not by enough.
    stage.add_relay(3, 42);
    stage.run(1_300_000);
    assert_eq!(both(&stage), first);
    stage.relays.get_mut(&relay_at(3)).unwrap().1 = 20;
    stage.run(310_000);
    assert_eq!(both(&stage), first, "once is not enough");
    stage.run(1_000_000);
    assert!(stage.homes().contains(&three), "{:?}", stage.homes());
    assert!(!stage.homes().contains(&one));
}

#[test]
fn records_of_others_are_no_occasion_to_change_homes() {
    let mut stage = Stage::new();
    stage.add_relay(1, 50);
    stage.add_relay(2, 40);
    stage.run(3000);
    let homes = stage.homes();
    stage.add_relay(3, 10);
    let member = stage.member(1, "tablet");
    for _ in 0..20 {
        stage.endpoints(&member, &[], true);
        stage.run(6000);
    }
    assert_eq!(stage.homes(), homes);
}

#[test]
fn a_home_that_dies_is_replaced_by_the_next() {
    let mut stage = Stage::new();
    for (number, delay) in [(1, 10), (2, 20), (3, 30)] {
        stage.add_relay(number, delay);
    }
    stage.run(3000);
    let [one, two, three] = [1, 2, 3].map(|number| key_of(&relay_keys(number)));
    let homes = stage.homes();
    assert!(homes.contains(&one) && homes.contains(&two), "{homes:?}");
    stage.relays.remove(&relay_at(1));
    stage.run(30_000);
    let homes = stage.homes();
    assert!(homes.contains(&two) && homes.contains(&three), "{homes:?}");
}

#[test]
fn where_no_relay_answers_by_udp_a_volunteer_is_tried_for_circuits() {
    let mut stage = Stage::new();
    let key = key_of(&relay_keys(1));
    let added = stage.command(Command::RelayAdd {
        key,
        name: named("oak"),
        addresses: vec![relay_at(1)],
    });
    assert_eq!(added, Reply::RelayChanged(true));
    stage.run(30_000);
    assert_eq!(stage.homes(), [key]);
    let last = stage.links().rev().find_map(|link| match link {
        LinkOutput::Homes(homes) => Some(homes.iter().map(|(home, _)| *home).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(last, Some(vec![key]));
    // One that answers by UDP is better.
    stage.add_relay(2, 20);
    stage.run(400_000);
    assert_eq!(stage.homes(), [key_of(&relay_keys(2))]);
}

#[test]
fn only_an_admins_word_on_a_relay_counts_and_only_the_last() {
    let mut stage = Stage::new();
    let relay = |removed, name: &str| RelayRecord {
        transport: key_of(&relay_keys(1)),
        name: named(name),
        addresses: vec![relay_at(1)],
        removed,
        ext: Ext::NONE,
    };
    let names = |stage: &Stage| {
        let net = stage.node.net.as_ref().unwrap();
        let known = net.volunteers(at(stage.now_ms).wall);
        let names = known.values().map(|held| held.name.as_str().to_owned());
        names.collect::<Vec<_>>()
    };
    let member = stage.member(1, "tablet");
    stage.record(&member, RecordBody::Relay(relay(false, "evil")));
    assert!(names(&stage).is_empty());
    let admin = keys(2);
    let body = Body::Grant(Box::new(grant(admin.node(), 5, "laptop", None)));
    say(&mut stage.node, body, at(stage.now_ms));
    stage.record(&admin, RecordBody::Relay(relay(false, "elm")));
    assert_eq!(names(&stage), ["elm"]);
    // The founder says something else, later.
    stage.run(100);
    stage.add_relay(1, 20);
    assert_eq!(names(&stage), ["oak1"]);
    stage.now_ms += 1000;
    stage.seq = stage.now_ms;
    stage.record(&admin, RecordBody::Relay(relay(true, "elm")));
    assert!(names(&stage).is_empty());
    // With the admin goes its word.
    say(&mut stage.node, revoke(admin.node()), at(stage.now_ms));
    assert_eq!(names(&stage), ["oak1"]);
}

#[test]
fn a_clock_in_the_future_does_not_keep_the_last_word_for_ever() {
    let mut stage = Stage::new();
    let admin = keys(2);
    let body = Body::Grant(Box::new(grant(admin.node(), 5, "laptop", None)));
    say(&mut stage.node, body, at(stage.now_ms));
    stage.seq = 1 << 45;
    let far = RelayRecord {
        transport: key_of(&relay_keys(1)),
        name: named("elm"),
        addresses: vec![relay_at(1)],
        removed: false,
        ext: Ext::NONE,
    };
    stage.record(&admin, RecordBody::Relay(far));
    stage.set_up_relay(1, 20);
    stage.run(1000);
    // Both say it now, as far as anybody can know: which of the two counts is the same everywhere, and what is said
    // later by whoever lost is heard when time has gone on; a right clock is never worse off than its own last word.
    let reply = stage.command(Command::RelayRemove { name: named("elm") });
    assert_eq!(reply, Reply::RelayChanged(true));
    let net = stage.node.net.as_ref().unwrap();
    let own = net.ledger.records.relays(&stage.node.id()).next().unwrap();
    assert!(own.1.removed && own.0.seq() <= at(stage.now_ms + 1).wall.ms());
}

#[test]
fn members_name_no_relays_and_an_address_inside_the_network_is_none() {
    let Founded {
        node: mut founder, ..
    } = founded();
    let member = keys(9);
    let body = Body::Grant(Box::new(grant(member.node(), 255, "tablet", None)));
    say(&mut founder, body, at(1));
    let mut plain = crate::node::stage::resumed(&founder, &member, at(2));
    let add = |addresses: &[SocketAddr]| Command::RelayAdd {
        key: key_of(&relay_keys(1)),
        name: named("oak"),
        addresses: addresses.to_vec(),
    };
    plain.handle(Input::Command(CommandId(1), add(&[relay_at(1)])), at(3));
    let outputs = crate::node::stage::drain(&mut plain);
    let refused = outputs.iter().any(|output| {
        matches!(
            output,
            Output::Reply(_, Reply::Refused(Refusal::NotAdmin(_)))
        )
    });
    assert!(refused);
    let mut stage = Stage::new();
    let overlay = stage.node.net.as_ref().unwrap().view.members();
    let overlay = overlay[&stage.node.id()].ipv6;
    let inside = (std::net::IpAddr::V6(overlay), 443).into();
    let loopback = ([127, 0, 0, 1], 443).into();
    let many: Vec<_> = (1..=5).map(relay_at).collect();
    for bad in [&[inside][..], &[loopback], &many, &[]] {
        let reply = stage.command(add(bad));
        assert!(
            matches!(reply, Reply::Refused(Refusal::Limit(_))),
            "{reply:?}"
        );
    }
}
