//! The push service by itself, and who is served a key.

use crate::body::Body;
use crate::id::{NodeId, TransportKey};
use crate::identity::Secret;
use crate::io::{Input, Output, State};
use crate::link::{AnswerId, LinkId, LinkInput, LinkOutput, Service};
use crate::node::stage::{
    admit, asked, at, claim, connect, drain, founded, genesis, invite, keys, revoke, say, transport,
};
use crate::node::{Founded, Node, stage};
use crate::op::{Draft, Op};
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
