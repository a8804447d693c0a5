//! Many peers that all have the same news.

use super::*;
use crate::body::Body;
use crate::id::Digest;
use crate::io::{Input, Output};
use crate::link::{CallId, LinkId, LinkInput, LinkOutput, Service};
use crate::node::Founded;
use crate::node::stage::{at, connect, drain, founded, grant, keys, prove, say, transport};
use crate::wire::{Set, Summary, SyncAnswer, SyncRequest};

const MEMBERS: u8 = 6;

/// A question of the reconciler.
type Question = (CallId, TransportKey, SyncRequest);

fn questions(outputs: Vec<Output>) -> Vec<Question> {
    let asked = outputs.into_iter().filter_map(|output| {
        let Output::Link(LinkOutput::Ask {
            call,
            peer,
            service: Service::Sync,
            bytes,
        }) = output
        else {
            return None;
        };
        Some((call, peer, SyncRequest::parse(&bytes).ok()?))
    });
    asked.collect()
}

/// A founder with so many members, all linked and trusted, and what it asked them first.
fn linked() -> (Node, Vec<Question>) {
    let Founded { mut node, .. } = founded();
    for number in 1..=MEMBERS {
        let name = format!("member-{number}");
        let member = grant(keys(number).node(), 255, &name, None);
        say(&mut node, Body::Grant(Box::new(member)), at(1));
    }
    drain(&mut node);
    for number in 1..=MEMBERS {
        connect(&mut node, transport(number), number.into(), at(2));
        prove(&mut node, transport(number), keys(number).node(), at(3));
    }
    let asked = questions(drain(&mut node));
    (node, asked)
}

/// A peer that differs in these sets.
fn differs(node: &mut Node, in_sets: &[Set]) -> SyncAnswer {
    let mut roots = node.net.as_mut().unwrap().ledger.summary().roots;
    for set in in_sets {
        roots[*set as usize] = Digest::new([9; 32]);
    }
    let heads = Vec::new();
    SyncAnswer::Summary(Summary { roots, heads })
}

fn answer(node: &mut Node, call: CallId, answer: &SyncAnswer, ms: u64) -> Vec<Question> {
    let input = LinkInput::Answered {
        call,
        link: Some(LinkId(1)),
        result: Ok(answer.to_bytes()),
    };
    node.handle(Input::Link(input), at(ms));
    questions(drain(node))
}

fn is_for(set: Set) -> impl Fn(&Question) -> bool {
    move |(_, _, question)| *question == SyncRequest::Buckets(set)
}

/// All boot together: everybody has everybody's new records, and one peer is enough to fetch them from.
#[test]
fn records_come_from_one_peer_at_a_time_and_the_others_are_asked_again() {
    let (mut node, asked) = linked();
    assert_eq!(asked.len(), usize::from(MEMBERS));
    let theirs = differs(&mut node, &[Set::Records]);
    let mut running = Vec::new();
    for (call, ..) in &asked {
        running.extend(answer(&mut node, *call, &theirs, 10));
    }
    assert_eq!(running.len(), 1);
    assert!(is_for(Set::Records)(&running[0]));
    let owed = |node: &Node| node.links.peers.values().filter(|peer| peer.owed).count();
    assert_eq!(owed(&node), usize::from(MEMBERS) - 1);

    // It turns out that the one had nothing: the others' turn has come.
    let ours = node.net.as_mut().unwrap().ledger.index(Set::Records);
    let ours = SyncAnswer::Buckets(ours.bucket_digests());
    assert!(answer(&mut node, running[0].0, &ours, 20).is_empty());
    node.handle(Input::Timeout, at(520));
    let again = questions(drain(&mut node));
    assert!(!again.is_empty());
    let next: Vec<_> = again
        .iter()
        .flat_map(|(call, ..)| answer(&mut node, *call, &theirs, 530))
        .collect();
    assert_eq!(next.len(), 1);
    assert!(is_for(Set::Records)(&next[0]));
}

/// Somebody answers slowly, or not at all.
#[test]
fn a_silent_peer_does_not_keep_the_turn() {
    let (mut node, asked) = linked();
    let theirs = differs(&mut node, &[Set::Records]);
    let first = answer(&mut node, asked[0].0, &theirs, 10);
    assert!(is_for(Set::Records)(&first[0]));
    let second = answer(&mut node, asked[1].0, &theirs, 10 + TURN_MS);
    assert!(is_for(Set::Records)(&second[0]));
}

/// Who was put out is heard of from everybody at once, whatever comes from whom.
#[test]
fn ops_and_admits_wait_for_no_turn() {
    let (mut node, asked) = linked();
    let records = differs(&mut node, &[Set::Records]);
    assert_eq!(answer(&mut node, asked[0].0, &records, 10).len(), 1);
    for ((call, ..), set) in asked[1..].iter().zip([Set::Ops, Set::Admits]) {
        let theirs = differs(&mut node, &[set, Set::Records]);
        let next = answer(&mut node, *call, &theirs, 10);
        assert!(is_for(set)(&next[0]));
    }
}

/// A peer says that its records differ while those of another come: it has the same news, most likely.
#[test]
fn a_peer_that_differs_in_records_is_asked_when_their_turn_has_come() {
    let (mut node, asked) = linked();
    let theirs = differs(&mut node, &[Set::Records]);
    for (call, ..) in &asked {
        answer(&mut node, *call, &theirs, 10);
    }
    let SyncAnswer::Summary(summary) = theirs else {
        panic!("it was made as one")
    };
    let peer = asked[3].1;
    let request = LinkInput::Asked {
        answer: crate::link::AnswerId(1),
        link: LinkId(4),
        peer,
        service: Service::Sync,
        bytes: SyncRequest::Summary(summary).to_bytes(),
    };
    // After the pause that follows a round in any case, and before the next rounds by the clock.
    node.net.as_mut().unwrap().timers.sync_ms = 60_000;
    node.handle(Input::Link(request), at(1400));
    assert!(questions(drain(&mut node)).is_empty());
    assert!(node.links.peers[&peer].owed);
    assert!(node.net.as_ref().unwrap().timers.sync_ms < 2000);
}

/// Two took other parts of a flood and agree on nothing of it: rounds without end would look like a peer that wastes
/// time.
#[test]
fn who_differs_in_ops_that_bring_nothing_is_owed_no_round_for_its_records() {
    let (mut node, asked) = linked();
    let records = differs(&mut node, &[Set::Records]);
    assert_eq!(answer(&mut node, asked[0].0, &records, 10).len(), 1);
    let both = differs(&mut node, &[Set::Ops, Set::Records]);
    let next = answer(&mut node, asked[1].0, &both, 20);
    assert!(is_for(Set::Ops)(&next[0]));
    let ours = node.net.as_mut().unwrap().ledger.index(Set::Ops);
    let ours = SyncAnswer::Buckets(ours.bucket_digests());
    assert!(answer(&mut node, next[0].0, &ours, 30).is_empty());
    let peer = &node.links.peers[&asked[1].1];
    assert!(!peer.owed && peer.barren.is_some());
}
