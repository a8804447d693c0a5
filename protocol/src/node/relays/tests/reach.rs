//! For whom this node carries, by which ways it reaches whom, and whom it calls by a circuit.

use super::{Stage, key_of, relay_at, relay_keys};
use crate::id::TransportKey;
use crate::io::{CarryWish, Carrying, Input};
use crate::link::{LinkId, LinkInput, LinkOutput};
use crate::node::stage::{at, revoke, say};
use crate::peering::{CircuitId, Mailbox, Path, TunnelInput};
use crate::record::{ControlAddress, Transport};
use crate::relay::frame::mailbox_of;

#[test]
fn members_may_bind_here_until_they_are_put_out_and_nobody_when_it_is_off() {
    let mut stage = Stage::new();
    let member = stage.member(1, "tablet");
    stage.run(10);
    let terms = stage.terms().expect("it carries");
    assert_eq!(
        terms.key,
        TransportKey::new(stage.node.keys.transport.public())
    );
    assert_eq!(terms.clients, Some([key_of(&member)].into()));
    say(&mut stage.node, revoke(member.node()), at(stage.now_ms));
    stage.carry();
    let terms = stage.terms().expect("it carries");
    assert_eq!(terms.clients, Some([].into()));
    let mut wish = CarryWish {
        mode: Carrying::On,
        rate: Some(2_500_000),
    };
    stage.give(Input::Carrying(wish));
    let terms = stage.terms().expect("it carries");
    assert_eq!(terms.rate, (2_500_000, 2_500_000));
    wish.mode = Carrying::Off;
    stage.give(Input::Carrying(wish));
    assert_eq!(stage.terms(), None);
    assert_eq!(
        stage
            .links()
            .rev()
            .find(|link| matches!(link, LinkOutput::Relaying(_))),
        Some(&LinkOutput::Relaying(false))
    );
    stage.run(3000);
    let net = stage.node.net.as_ref().unwrap();
    let own = net.ledger.records.endpoints(&stage.node.id()).unwrap();
    assert!(!own.carries);
}

#[test]
fn a_wanted_peer_is_reached_at_its_home_without_waiting_for_an_answer() {
    let mut stage = Stage::new();
    stage.add_relay(1, 20);
    let member = stage.member(1, "tablet");
    let home = key_of(&relay_keys(1));
    stage.endpoints(&member, &[home], false);
    stage.run(3000);
    assert_eq!(stage.path_to(&member.node()), None);
    let key = stage.wireguard(&member.node());
    stage.give(Input::Tunnel(TunnelInput::Wanted { key }));
    let relayed = Path::Relayed {
        relay: relay_at(1),
        mailbox: mailbox_of(&key_of(&member)),
    };
    assert_eq!(stage.path_to(&member.node()), Some(relayed));
}

#[test]
fn a_peers_home_elsewhere_is_bound_to_when_the_peer_is_wanted() {
    let mut stage = Stage::new();
    for (number, delay) in [(1, 10), (2, 10), (3, 70)] {
        stage.add_relay(number, delay);
    }
    let member = stage.member(1, "tablet");
    let far = key_of(&relay_keys(3));
    stage.endpoints(&member, &[far], false);
    stage.run(3000);
    assert!(!stage.homes().contains(&far));
    let key = stage.wireguard(&member.node());
    stage.give(Input::Tunnel(TunnelInput::Wanted { key }));
    stage.run(200);
    let relayed = Path::Relayed {
        relay: relay_at(3),
        mailbox: mailbox_of(&key_of(&member)),
    };
    assert_eq!(stage.path_to(&member.node()), Some(relayed));
}

#[test]
fn a_member_that_no_call_reaches_is_called_by_its_home() {
    let mut stage = Stage::new();
    stage.add_relay(1, 20);
    let member = stage.member(1, "tablet");
    let home = key_of(&relay_keys(1));
    stage.endpoints(&member, &[home], false);
    stage.run(2000);
    let peer = key_of(&member);
    let dialed = stage.links().rev().find_map(|link| match link {
        LinkOutput::Dial { dial, peer: to, .. } if *to == Some(peer) => Some(*dial),
        _ => None,
    });
    assert_eq!(stage.is_called_by(peer, home), None);
    let dial = dialed.expect("it is called directly first");
    let useless = false;
    stage.give(Input::Link(LinkInput::DialFailed { dial, useless }));
    let by = stage.is_called_by(peer, home).expect("a call by the home");
    // One at a time, and not again and again.
    stage.give(Input::Link(LinkInput::DialFailed { dial: by, useless }));
    let calls = |stage: &Stage| {
        let calls = stage
            .links()
            .filter(|l| matches!(l, LinkOutput::DialBy { .. }));
        calls.count()
    };
    assert_eq!(calls(&stage), 1);
}

#[test]
fn datagrams_go_over_a_link_when_nothing_answers_by_udp() {
    let mut stage = Stage::new();
    let member = stage.member(1, "tablet");
    let peer = key_of(&member);
    crate::node::stage::connect(&mut stage.node, peer, 7, at(stage.now_ms));
    crate::node::stage::prove(&mut stage.node, peer, member.node(), at(stage.now_ms));
    stage.carry();
    let key = stage.wireguard(&member.node());
    stage.give(Input::Tunnel(TunnelInput::Wanted { key }));
    let carried = |stage: &Stage| {
        let wanted = LinkOutput::Carry { peer, wanted: true };
        stage.links().filter(|link| **link == wanted).count()
    };
    stage.run(590);
    assert_eq!(carried(&stage), 0);
    stage.run(20);
    assert_eq!(carried(&stage), 1);
    let circuit = Some(CircuitId(5));
    stage.give(Input::Link(LinkInput::Carrying { peer, circuit }));
    let path = Path::Circuit(CircuitId(5));
    assert_eq!(stage.path_to(&member.node()), Some(path));
    let link = LinkId(7);
    stage.give(Input::Link(LinkInput::Down { link, peer }));
    assert_ne!(stage.path_to(&member.node()), Some(path));
}

#[test]
fn a_stranger_is_given_no_way() {
    let mut stage = Stage::new();
    stage.add_relay(1, 20);
    stage.run(3000);
    let path = Path::Relayed {
        relay: relay_at(1),
        mailbox: Mailbox(1 << 50),
    };
    let bytes = vec![0; 100];
    stage.give(Input::Tunnel(TunnelInput::Datagram { path, bytes }));
    assert!(stage.node.relays.wanted.is_empty() && stage.node.relays.met.is_empty());
}

#[test]
fn a_link_that_went_the_way_of_the_datagrams_is_ended_and_one_by_tcp_is_not() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let mut stage = Stage::new();
        let member = stage.member(1, "tablet");
        let (peer, link) = (key_of(&member), LinkId(7));
        let remote = ControlAddress {
            transport,
            address: ([198, 51, 100, 77], 444).into(),
        };
        stage.give(Input::Link(LinkInput::Up {
            link,
            peer,
            remote,
            dial: None,
            by: None,
        }));
        crate::node::stage::prove(&mut stage.node, peer, member.node(), at(stage.now_ms));
        stage.carry();
        let key = stage.wireguard(&member.node());
        stage.give(Input::Tunnel(TunnelInput::Wanted { key }));
        let ended = |stage: &Stage| {
            let over = LinkOutput::HangUp { peer };
            stage.links().any(|link| *link == over)
        };
        stage.run(1500);
        assert!(!ended(&stage), "{transport:?}");
        stage.run(200);
        assert_eq!(ended(&stage), transport == Transport::Quic);
    }
}
