//! The engine's peers where somebody is blocked.

use super::*;
use crate::body::Body;
use crate::identity::Keys;
use crate::io::{Command, Input, Notice, Output};
use crate::node::Founded;
use crate::node::stage::{at, drain, founded, grant, keys, notices, say};
use crate::record::{NodeRecord, Record, RecordBody};

/// A member comes in and says which keys it has.
fn come(node: &mut Node, member: &Keys, name: &str, ms: u64) -> Vec<Output> {
    let body = Body::Grant(Box::new(grant(member.node(), 255, name, None)));
    say(node, body, at(ms));
    let network = node.net.as_ref().unwrap().authority().network();
    let said = NodeRecord {
        transport: member.transport_binding(&network),
        tunnel: member.tunnel_binding(&network),
        ..node.node_record(&network)
    };
    let body = RecordBody::Node(Box::new(said));
    let record = Record::sign(network, 1, body, &member.device);
    node.take_record(record.bytes());
    node.handle(Input::Timeout, at(ms + 1));
    drain(node)
}

fn block(node: &mut Node, member: &Keys, wanted: Wanted) {
    let command = match wanted {
        Wanted::Blocked => Command::Block(member.node()),
        Wanted::Free => Command::Unblock(member.node()),
    };
    node.handle(Input::Command(CommandId(1), command), at(50));
    drain(node);
}

fn in_engine(node: &Node, member: &Keys) -> bool {
    node.net
        .as_ref()
        .unwrap()
        .engine
        .contains_key(&member.node())
}

#[test]
fn who_is_blocked_stays_out_of_the_engine_whatever_else_changes() {
    let Founded { mut node, .. } = founded();
    let [blocked, friend, other] = [1, 2, 3].map(keys);
    come(&mut node, &blocked, "blocked", 1);
    come(&mut node, &friend, "friend", 11);
    block(&mut node, &blocked, Wanted::Blocked);
    assert!(!in_engine(&node, &blocked) && in_engine(&node, &friend));
    // Somebody else comes; then something changes of the blocked one itself.
    come(&mut node, &other, "other", 61);
    assert!(in_engine(&node, &other) && in_engine(&node, &friend));
    come(&mut node, &blocked, "renamed", 71);
    assert!(!in_engine(&node, &blocked));
    block(&mut node, &blocked, Wanted::Free);
    assert!(
        [&blocked, &friend, &other]
            .iter()
            .all(|member| in_engine(&node, member))
    );
}

/// Two that present one key are left out, both, also where the engine does not know the first of them.
#[test]
fn who_shows_the_tunnel_key_of_a_blocked_node_does_not_get_its_place() {
    for is_blocked in [true, false] {
        let Founded { mut node, .. } = founded();
        let [first, friend, mut thief] = [1, 2, 3].map(keys);
        come(&mut node, &first, "first", 1);
        come(&mut node, &friend, "friend", 11);
        if is_blocked {
            block(&mut node, &first, Wanted::Blocked);
        }
        thief.tunnel = first.tunnel.clone();
        let outputs = come(&mut node, &thief, "thief", 61);
        let shared = |notice: &&&Notice| matches!(notice, Notice::SharedKey(..));
        assert_eq!(
            notices(&outputs).iter().filter(shared).count(),
            1,
            "{is_blocked}"
        );
        assert!(!in_engine(&node, &first) && !in_engine(&node, &thief));
        assert!(in_engine(&node, &friend));
    }
}
