//! A founder with one member, connected or not, takes a new tunnel key.

use super::*;
use crate::body::Body;
use crate::id::NodeId;
use crate::io::{Command, Input, Notice, Stored};
use crate::link::{CallId, LinkInput, LinkOutput, Service};
use crate::node::Founded;
use crate::node::stage::{at, connect, drain, founded, grant, keys, prove, say, setup, transport};
use crate::peering::{Path, PeerChange, PeerConfig, TunnelInput};
use crate::probe::{Probe, ProbeKeys};
use crate::record::{NodeRecord, Record, RecordBody};
use crate::wire::{SyncAnswer, SyncRequest};

const MEMBER: u8 = 2;

/// The founder, with the member in its engine.
fn pair() -> Node {
    let Founded { mut node, .. } = founded();
    let member = keys(MEMBER);
    let body = Body::Grant(Box::new(grant(member.node(), 255, "pi", None)));
    say(&mut node, body, at(1));
    let network = node.net.as_ref().unwrap().authority().network();
    let said = NodeRecord {
        transport: member.transport_binding(&network),
        tunnel: member.tunnel_binding(&network),
        ..node.node_record(&network)
    };
    let body = RecordBody::Node(Box::new(said));
    let record = Record::sign(network, 1, body, &member.device);
    node.take_record(record.bytes());
    node.handle(Input::Timeout, at(2));
    drain(&mut node);
    node
}

fn rotate(node: &mut Node, number: u64, ms: u64) -> Vec<Output> {
    let command = Command::Rotate { transport: false };
    node.handle(Input::Command(CommandId(number), command), at(ms));
    drain(node)
}

fn pass(node: &mut Node, ms: u64) -> Vec<Output> {
    node.handle(Input::Timeout, at(ms));
    drain(node)
}

fn replies(outputs: &[Output]) -> Vec<u64> {
    let rotated = |output: &Output| {
        let Output::Reply(id, reply) = output else {
            return None;
        };
        assert_eq!(*reply, Reply::Rotated { restart: false });
        Some(id.0)
    };
    outputs.iter().filter_map(rotated).collect()
}

fn taken(outputs: &[Output]) -> usize {
    let taken = |output: &&Output| matches!(output, Output::TunnelKey);
    outputs.iter().filter(taken).count()
}

/// What the engine is told of peers after the key.
fn set_after(outputs: &[Output]) -> Vec<PeerConfig> {
    let after = outputs
        .iter()
        .skip_while(|o| !matches!(o, Output::TunnelKey));
    let set = after.filter_map(|output| {
        let Output::Peer(change) = output else {
            return None;
        };
        let PeerChange::Set(config) = change else {
            panic!("{change:?}");
        };
        Some(config.clone())
    });
    set.collect()
}

/// The calls that tell the connected members, and the tunnel key that the record in them binds.
fn told(node: &Node, outputs: &[Output]) -> Vec<(CallId, [u8; 32])> {
    let net = node.net.as_ref().unwrap();
    let told = outputs.iter().filter_map(|output| {
        let Output::Link(LinkOutput::Ask {
            call,
            service: Service::Sync,
            bytes,
            ..
        }) = output
        else {
            return None;
        };
        let Ok(SyncRequest::Push(items)) = SyncRequest::parse(bytes) else {
            return None;
        };
        let sealed = items.records.first().unwrap();
        let bytes = net.epochs.open_record(sealed).unwrap();
        let record = Record::parse(&bytes, &net.authority().network()).unwrap();
        let RecordBody::Node(said) = record.body() else {
            panic!("{record:?}");
        };
        Some((*call, *said.tunnel.key.wireguard().as_bytes()))
    });
    told.collect()
}

fn public(node: &Node) -> [u8; 32] {
    let secret = x25519_dalek::StaticSecret::from(*node.danger_tunnel_secret());
    x25519_dalek::PublicKey::from(&secret).to_bytes()
}

fn connected(ms: u64) -> Node {
    let mut node = pair();
    connect(&mut node, transport(MEMBER), 1, at(ms));
    prove(&mut node, transport(MEMBER), keys(MEMBER).node(), at(ms));
    drain(&mut node);
    node
}

#[test]
fn a_new_tunnel_key_is_kept_then_told_and_taken_when_who_was_told_has_heard() {
    let mut node = connected(10);
    let old = public(&node);
    let outputs = rotate(&mut node, 1, 20);
    let kept = outputs.iter().position(|output| {
        let Output::Persist { writes, flush } = output else {
            return false;
        };
        *flush
            && writes
                .iter()
                .any(|write| matches!(write, Write::Secrets(_)))
    });
    let first = outputs
        .iter()
        .position(|output| matches!(output, Output::Link(_)));
    assert!(
        kept.unwrap() < first.unwrap(),
        "a key is kept before it is told"
    );
    let told = told(&node, &outputs);
    assert_eq!((told.len(), taken(&outputs), public(&node)), (1, 0, old));
    assert_eq!(replies(&outputs), []);
    let (call, new) = told[0];
    assert_ne!(new, old);
    let result = Ok(SyncAnswer::Heard.to_bytes());
    let heard = LinkInput::Answered {
        call,
        link: None,
        result,
    };
    node.handle(Input::Link(heard), at(60));
    let outputs = drain(&mut node);
    assert_eq!((taken(&outputs), public(&node)), (1, new));
    assert_eq!(replies(&outputs), [1]);
}

#[test]
fn a_peer_is_set_again_under_probe_keys_of_the_new_key() {
    let mut node = pair();
    let before = node.net.as_ref().unwrap().engine.clone();
    let outputs = rotate(&mut node, 1, 20);
    let set = set_after(&outputs);
    assert_eq!((set.len(), taken(&outputs)), (1, 1));
    let was = &before[&keys(MEMBER).node()];
    assert_eq!(
        (set[0].key, &set[0].allowed_ips),
        (was.key, &was.allowed_ips)
    );
    assert_ne!(set[0].probe_tag, was.probe_tag);
    assert_eq!(
        replies(&outputs),
        [1],
        "nobody is connected: nobody is waited for"
    );
}

#[test]
fn a_member_that_does_not_answer_is_waited_for_no_longer_than_told() {
    let mut node = connected(10);
    rotate(&mut node, 1, 20);
    assert_eq!(taken(&pass(&mut node, 20 + TOLD_MS - 1)), 0);
    let outputs = pass(&mut node, 20 + TOLD_MS);
    assert_eq!((taken(&outputs), replies(&outputs)), (1, vec![1]));
}

#[test]
fn of_two_new_keys_the_second_is_taken_once_both_were_told() {
    let mut node = connected(10);
    let first = rotate(&mut node, 1, 20);
    let second = rotate(&mut node, 2, 120);
    let (first, second) = (told(&node, &first)[0].1, told(&node, &second)[0].1);
    assert_ne!(first, second);
    let outputs = pass(&mut node, 20 + TOLD_MS);
    assert_eq!((taken(&outputs), replies(&outputs)), (0, vec![1]));
    let outputs = pass(&mut node, 120 + TOLD_MS);
    assert_eq!((taken(&outputs), replies(&outputs)), (1, vec![2]));
    assert_eq!(public(&node), second);
}

#[test]
fn a_crash_between_the_word_and_the_key_leaves_the_key_that_was_told() {
    let mut node = connected(10);
    let outputs = rotate(&mut node, 1, 20);
    let new = told(&node, &outputs)[0].1;
    let secrets = outputs.into_iter().find_map(|output| {
        let Output::Persist { writes, .. } = output else {
            return None;
        };
        writes.into_iter().find_map(|write| {
            let Write::Secrets(bytes) = write else {
                return None;
            };
            Some(bytes)
        })
    });
    let stored = Stored {
        secrets,
        ..Stored::default()
    };
    let ledger = node.net.take().unwrap().ledger;
    let again = Node::resume_over(ledger, &stored, setup(), [9; 32], at(5000)).unwrap();
    assert_eq!(public(&again), new);
}

#[test]
fn a_key_that_the_disk_did_not_take_is_no_success() {
    let mut node = connected(10);
    rotate(&mut node, 1, 20);
    node.handle(Input::PersistFailed("full".to_owned()), at(21));
    let outputs = pass(&mut node, 20 + TOLD_MS);
    let refused = |output: &Output| {
        let Output::Reply(CommandId(1), Reply::Refused(Refusal::Disk(reason))) = output else {
            return false;
        };
        reason == "full"
    };
    assert!(outputs.iter().any(refused));
}

/// Whoever was being probed when the key changed hears the end of it.
#[test]
fn a_persons_probes_end_with_the_key_that_they_were_sent_under() {
    let mut node = pair();
    let member: NodeId = keys(MEMBER).node();
    let ping = Command::Ping {
        node: member,
        count: 1,
        interval_ms: 1000,
        timeout_ms: 60_000,
    };
    node.handle(Input::Command(CommandId(7), ping), at(10));
    drain(&mut node);
    node.handle(
        Input::Command(CommandId(8), Command::Rotate { transport: true }),
        at(20),
    );
    let outputs = drain(&mut node);
    let ended = |wanted: &Reply| {
        let mut replies = outputs.iter();
        replies.any(|o| matches!(o, Output::Reply(CommandId(7), reply) if reply == wanted))
    };
    assert!(ended(&Reply::Silence { seq: 1 }) && ended(&Reply::PingDone));
    let restart = |o: &Output| {
        matches!(
            o,
            Output::Reply(CommandId(8), Reply::Rotated { restart: true })
        )
    };
    assert!(outputs.iter().any(restart));
    let isolated = |o: &Output| matches!(o, Output::Notice(Notice::MemberGone(..)));
    assert!(!outputs.iter().any(isolated));
}

/// Where the tunnel is the only way, a key that nobody was told of would end it.
#[test]
fn a_new_key_waits_for_a_link_to_who_answers_probes_but_not_for_ever() {
    let begun = |outputs: &[Output]| {
        let keeps = |output: &Output| {
            let Output::Persist { writes, .. } = output else {
                return false;
            };
            writes
                .iter()
                .any(|write| matches!(write, Write::Secrets(_)))
        };
        outputs.iter().any(keeps)
    };
    let mut node = answering();
    assert!(!begun(&rotate(&mut node, 1, 20)));
    connect(&mut node, transport(MEMBER), 1, at(500));
    assert!(!begun(&drain(&mut node)));
    prove(&mut node, transport(MEMBER), keys(MEMBER).node(), at(600));
    let outputs = drain(&mut node);
    assert!(begun(&outputs));
    assert_eq!(
        told(&node, &outputs).len(),
        1,
        "the link came in time to tell by"
    );

    let mut node = answering();
    assert!(!begun(&rotate(&mut node, 1, 20)));
    assert!(!begun(&pass(&mut node, 20 + LINKED_MS - 1)));
    let outputs = pass(&mut node, 20 + LINKED_MS);
    assert!(begun(&outputs));
    assert_eq!((taken(&outputs), replies(&outputs)), (1, vec![1]));

    // Whoever goes away before it began changed nothing.
    let mut node = answering();
    rotate(&mut node, 1, 20);
    node.handle(Input::Hangup(CommandId(1)), at(30));
    assert!(!begun(&pass(&mut node, 20 + LINKED_MS)));
}

/// The founder, with the member at the other end of a path that answers.
fn answering() -> Node {
    let mut node = pair();
    let network = node.net.as_ref().unwrap().authority().network();
    let own = crate::id::TunnelKey::new(node.keys.tunnel.public());
    let theirs = ProbeKeys::new(&keys(MEMBER).tunnel, &own, &network).unwrap();
    let path = Path::to(([198, 51, 100, 9], 41641).into());
    let hear = |node: &mut Node, bytes: Vec<u8>| {
        let datagram = TunnelInput::Datagram { path, bytes };
        node.handle(Input::Tunnel(datagram), at(5));
        drain(node)
    };
    let ping = Probe::Ping {
        txid: [1; 12],
        padding: 0,
    };
    let outputs = hear(&mut node, theirs.seal(&ping, [1; 24]));
    let probes = outputs.iter().filter_map(|output| {
        let Output::Datagram { bytes, .. } = output else {
            return None;
        };
        theirs.open(bytes).ok()
    });
    let mut txid = probes.filter_map(|probe| match probe {
        Probe::Ping { txid, .. } => Some(txid),
        Probe::Pong { .. } | Probe::Call(_) | Probe::CallAck(_) => None,
    });
    let pong = Probe::Pong {
        txid: txid.next_back().expect("who probes is probed back"),
        observed: path.remote(),
    };
    hear(&mut node, theirs.seal(&pong, [2; 24]));
    let net = node.net.as_ref().unwrap();
    assert!(net.paths.peer(&keys(MEMBER).node()).unwrap().answers());
    node
}
