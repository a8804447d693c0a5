//! The push service by itself, and who is served a key.

use super::ONE_GO_MS;
use crate::body::Body;
use crate::codec::Ext;
use crate::id::{NodeId, TransportKey};
use crate::identity::{Keys, Secret};
use crate::io::{Input, Output, State};
use crate::link::{AnswerId, LinkId, LinkInput, LinkOutput, Service};
use crate::node::stage::{
    admit, asked, at, claim, connect, drain, founded, genesis, grant, invite, keys, revoke, say,
    transport,
};
use crate::node::{Founded, Node, stage};
use crate::op::{Draft, Op};
use crate::record::{ControlAddress, Endpoints, Nat, Record, RecordBody, Transport};
use crate::time::Moment;
use crate::wire::News;

fn stranger() -> TransportKey {
    transport(9)
}

/// Hands over news as the stranger; gives whether the node answered.
fn push(node: &mut Node, number: u64, ops: &[&Op], now: Moment) -> bool {
    let asked = LinkInput::Asked {
        answer: AnswerId(number),
        link: LinkId(1),
        peer: stranger(),
        service: Service::Push,
        bytes: News(ops.iter().map(|op| op.bytes().to_vec()).collect()).to_bytes(),
    };
    node.handle(Input::Link(asked), now);
    let mut answered = false;
    while let Some(output) = node.poll_output() {
        answered |= matches!(
            output,
            Output::Link(LinkOutput::Answer { answer, .. }) if answer == AnswerId(number)
        );
    }
    answered
}

fn revoke_of(node: &Node) -> Body {
    revoke(node.id())
}

fn draft(node: &Node) -> Draft {
    stage::draft(node, genesis(node))
}

/// The ops that a device is told when it proves itself over the stranger's link.
fn told(node: &mut Node, device: &NodeId) -> Vec<Vec<u8>> {
    node.links.peers.get_mut(&stranger()).unwrap().told = false;
    drain(node);
    assert!(node.tell_revoked(stranger(), device));
    let told = asked(&drain(node), Service::Push);
    News::parse(&told[0]).unwrap().0
}

/// A joiner redeems an invite of the founder, and stands by the founder's admit.
fn admitted(node: &mut Node, approve: bool, seed: u8) -> NodeId {
    let founder = node.keys.device.clone();
    let cited = genesis(node);
    let (id, secret) = invite(node, (&founder, cited), seed, |terms| {
        terms.approve = approve
    });
    let joiner = keys(seed);
    let claim = claim(node, id, &secret, &joiner);
    admit(node, claim);
    node.handle(Input::Timeout, at(3));
    joiner.node()
}

#[test]
fn who_was_denied_learns_of_its_revocation_and_of_nothing_else() {
    let Founded { mut node, .. } = founded();
    connect(&mut node, stranger(), 1, at(1));
    let (waited, came_in) = (
        admitted(&mut node, true, 21),
        admitted(&mut node, false, 22),
    );
    for (device, all) in [(waited, false), (came_in, true)] {
        let revoke = say(&mut node, revoke(device), at(2));
        let told = told(&mut node, &device);
        assert_eq!(told.len() > 1, all);
        assert!(told.contains(&revoke.bytes().to_vec()));
    }
}

/// A device that the founder lets in by name.
fn granted(node: &mut Node, seed: u8) -> NodeId {
    let device = keys(seed).node();
    let body = Body::Grant(Box::new(grant(device, 255, &format!("n{seed}"), None)));
    say(node, body, at(2));
    device
}

#[test]
fn of_many_put_out_in_one_go_each_is_told_all() {
    let Founded { mut node, .. } = founded();
    connect(&mut node, stranger(), 1, at(1));
    let devices = [31, 32, 33].map(|seed| granted(&mut node, seed));
    let secret = node.keys.device.clone();
    // Two in one go, and the third longer after than what counts as one.
    let mut index = 0..;
    let revokes = [0, 1000, 1000 + ONE_GO_MS + 1].map(|ms| {
        let index = index.next().unwrap();
        let draft = Draft {
            time: at(ms).wall,
            ..draft(&node)
        };
        let op = Op::sign(revoke(devices[index]), draft, &secret);
        stage::store(&mut node, &op, at(3));
        op.bytes().to_vec()
    });
    let first = told(&mut node, &devices[0]);
    assert!(first.contains(&revokes[0]) && first.contains(&revokes[1]));
    assert!(!first.contains(&revokes[2]));
    // The last one's past holds all.
    let last = told(&mut node, &devices[2]);
    assert!(revokes.iter().all(|revoke| last.contains(revoke)));
}

#[test]
fn who_is_out_tells_others_that_are() {
    let Founded { mut node, phrases } = founded();
    connect(&mut node, stranger(), 1, at(1));
    let device = granted(&mut node, 31);
    let other = say(&mut node, revoke(device), at(3));
    let roots = node.net.as_ref().unwrap().authority().realm().roots.clone();
    let own = revoke_of(&node);
    let by_root = Op::sign_as_root(own, draft(&node), &[phrases[0].root_key()], &roots);
    stage::store(&mut node, &by_root, at(4));
    assert_eq!(node.snapshot(at(4)).unwrap().state, State::Revoked);
    assert!(told(&mut node, &device).contains(&other.bytes().to_vec()));
}

/// A device says where it is called.
fn stands(node: &mut Node, device: &Keys) {
    let endpoints = Endpoints {
        tunnel: Vec::new(),
        control: vec![ControlAddress {
            transport: Transport::Tcp,
            address: ([203, 0, 113, 77], 41_641).into(),
        }],
        nat: Nat::Unknown,
        homes: Vec::new(),
        carries: false,
        ttl_s: 60,
        ext: Ext::NONE,
    };
    let network = node.net.as_ref().unwrap().authority().network();
    for body in [
        stage::node_record(node, device),
        RecordBody::Endpoints(endpoints),
    ] {
        let record = Record::sign(network, at(0).wall.ms(), body, &device.device);
        node.take_record(record.bytes());
    }
}

/// The peers that a node calls now; nobody answers.
fn called(node: &mut Node, now: Moment) -> Vec<TransportKey> {
    node.handle(Input::Timeout, now);
    let mut called = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::Link(LinkOutput::Dial { dial, peer, .. }) = output {
            called.extend(peer);
            let failed = LinkInput::DialFailed {
                dial,
                useless: false,
            };
            node.handle(Input::Link(failed), now);
        }
    }
    called
}

#[test]
fn who_reaches_nobody_calls_those_that_were_put_out_now_and_then() {
    let Founded { mut node, .. } = founded();
    let (gone, left) = (keys(31), keys(32));
    for (device, name) in [(&gone, "gone"), (&left, "left")] {
        let body = Body::Grant(Box::new(grant(device.node(), 255, name, None)));
        say(&mut node, body, at(2));
        stands(&mut node, device);
    }
    say(&mut node, revoke(gone.node()), at(3));
    let outcast = TransportKey::new(gone.transport.public());
    let mut calls = |range: std::ops::Range<u64>| {
        let seconds = range.map(|second| at(second * 1000));
        let calls = seconds.filter(|now| called(&mut node, *now).contains(&outcast));
        calls.count()
    };
    let hour = calls(1..3600);
    assert!((8..20).contains(&hour), "{hour} calls in an hour");
    // A day later it is somebody of the past.
    calls(86_400..87_100);
    assert_eq!(calls(87_100..90_000), 0);
}

#[test]
fn push_from_revoked() {
    let Founded { mut node, phrases } = founded();
    connect(&mut node, stranger(), 1, at(1));
    let roots = node.net.as_ref().unwrap().authority().realm().roots.clone();
    let by_root = Op::sign_as_root(
        revoke_of(&node),
        draft(&node),
        &[phrases[0].root_key()],
        &roots,
    );
    let by_nobody = Op::sign(revoke_of(&node), draft(&node), &Secret::from_seed(&[3; 32]));

    // Whoever has no word of an admin is answered, and nothing else happens, even to what stands behind.
    assert!(push(&mut node, 1, &[&by_nobody, &by_root], at(1000)));
    assert_eq!(node.snapshot(at(1000)).unwrap().ops, 1);
    // One address may speak once a minute.
    assert!(!push(&mut node, 2, &[&by_root], at(60_999)));
    assert_eq!(node.snapshot(at(60_999)).unwrap().ops, 1);

    assert!(push(&mut node, 3, &[&by_root], at(61_000)));
    let snapshot = node.snapshot(at(61_000)).unwrap();
    assert_eq!(snapshot.state, State::Revoked);
    let revoked = snapshot.revoked.unwrap();
    assert_eq!((revoked.op, revoked.by), (by_root.id(), None));
    assert_eq!(revoked.reason, "stolen");
    assert_eq!(node.net.as_ref().unwrap().interface, None);
}

#[test]
fn an_epoch_key_goes_to_live_members_alone() {
    let Founded { mut node, .. } = founded();
    connect(&mut node, stranger(), 1, at(1));
    let commitment = node.net.as_ref().unwrap().view.epoch().commitment;
    assert!(node.serve_key(&stranger(), &commitment).is_none());
    let other = NodeId::new(Secret::from_seed(&[4; 32]).public());
    let live = node.id();
    for (device, served) in [(other, false), (live, true)] {
        node.links.peers.get_mut(&stranger()).unwrap().device = Some(device);
        let answer = node.serve_key(&stranger(), &commitment);
        assert_eq!(answer.is_some(), served);
    }
}
