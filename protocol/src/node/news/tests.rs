//! The push service by itself, and who is served a key.

use std::net::Ipv4Addr;

use crate::body::{Body, Cut, Ipv4Range, OpIds, Revoke};
use crate::codec::Ext;
use crate::id::TransportKey;
use crate::identity::Secret;
use crate::io::{Input, Output, State};
use crate::link::{AnswerId, LinkId, LinkInput, LinkOutput, Service};
use crate::name::{NetworkName, NodeName};
use crate::node::{Founded, Founding, Node, Setup};
use crate::op::{Draft, Op};
use crate::record::{ControlAddress, Transport};
use crate::time::{Moment, Timestamp};
use crate::wire::News;

fn at(ms: u64) -> Moment {
    Moment {
        uptime_us: ms * 1000,
        wall: Timestamp::from_ms(1_767_225_600_000 + ms),
    }
}

fn founded() -> Founded {
    let founding = Founding {
        network: NetworkName::parse("home").unwrap(),
        node: NodeName::parse("nas").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        owner: None,
        phrases: 1,
        threshold: 1,
    };
    let setup = Setup {
        tunnel_port: 41641,
        os: "test".to_owned(),
        version: "1".to_owned(),
    };
    Node::found(founding, setup, [7; 32], at(0))
}

fn stranger() -> TransportKey {
    TransportKey::new(Secret::from_seed(&[9; 32]).public())
}

/// A stranger is connected, by the same address as all of them.
fn connect(node: &mut Node) {
    let address = (Ipv4Addr::new(198, 51, 100, 7), 1).into();
    let up = LinkInput::Up {
        link: LinkId(1),
        peer: stranger(),
        remote: ControlAddress {
            transport: Transport::Tcp,
            address,
        },
        dial: None,
    };
    node.handle(Input::Link(up), at(1));
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
    Body::Revoke(Box::new(Revoke {
        device: node.id(),
        cut: Cut::Parents,
        spare: OpIds::default(),
        reason: "stolen".to_owned(),
        ext: Ext::NONE,
    }))
}

fn draft(node: &Node) -> Draft {
    let authority = node.net.as_ref().unwrap().authority();
    Draft {
        network: authority.network(),
        authority: authority.realm().genesis,
        time: at(0).wall,
        parents: authority.heads(),
    }
}

#[test]
fn push_from_revoked() {
    let Founded { mut node, phrases } = founded();
    connect(&mut node);
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
    connect(&mut node);
    let commitment = node.net.as_ref().unwrap().view.epoch().commitment;
    assert!(node.serve_key(&stranger(), &commitment).is_none());
    let other = crate::id::NodeId::new(Secret::from_seed(&[4; 32]).public());
    let live = node.id();
    for (device, served) in [(other, false), (live, true)] {
        node.links.peers.get_mut(&stranger()).unwrap().device = Some(device);
        let answer = node.serve_key(&stranger(), &commitment);
        assert_eq!(answer.is_some(), served);
    }
}
