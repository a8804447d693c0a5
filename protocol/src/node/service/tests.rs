//! Peers that want more than their part.

use super::*;
use crate::body::Body;
use crate::codec::Ext;
use crate::id::OpId;
use crate::io::{Input, Output, Write};
use crate::limits::{AUTHOR_BYTES_MAX, AUTHOR_OPS_PER_HOUR, IDLE_BYTES_MAX};
use crate::link::{AnswerId, CallId, GossipId, LinkId, LinkInput, LinkOutput, Service};
use crate::node::Founded;
use crate::node::stage::{
    at, connect, draft, drain, founded, grant, keys, notices, prove, say, transport,
};
use crate::op::Op;
use crate::record::{Record, RecordBody, Seen};
use crate::wire::{Items, KEYS_SENT_MAX, Set, Summary, SyncAnswer, SyncRequest};

#[test]
fn a_device_has_everything_twice_and_then_so_much_a_minute() {
    let [one, other] = [1, 2].map(|number| keys(number).node());
    let everything = 3 * SERVED_BYTES_PER_MINUTE;
    let mut served = Served::default();
    let piece = SERVED_BYTES_PER_MINUTE / 8;
    let mut take = |device, at_ms| {
        let mut pieces = 0;
        while served.serves(device, piece, everything, at_ms) {
            pieces += 1;
        }
        pieces
    };
    assert_eq!(take(one, 0), 48);
    assert_eq!(take(one, MINUTE_MS / 2), 4);
    assert_eq!(take(one, 100 * MINUTE_MS), 8, "rest saves nothing up");
    assert_eq!(take(other, 100 * MINUTE_MS), 48);
}

/// A founder, an admin, and a member that is linked and trusted.
fn linked() -> (Node, OpId) {
    let Founded { mut node, .. } = founded();
    let admin = grant(keys(1).node(), 5, "admin", None);
    let title = say(&mut node, Body::Grant(Box::new(admin)), at(1)).id();
    let member = grant(keys(2).node(), 255, "member", None);
    say(&mut node, Body::Grant(Box::new(member)), at(1));
    connect(&mut node, transport(2), 1, at(2));
    prove(&mut node, transport(2), keys(2).node(), at(3));
    drain(&mut node);
    (node, title)
}

/// The member passes something on by gossip.
fn gossip(node: &mut Node, number: u64, items: &Items, ms: u64) -> Vec<Output> {
    let net = node.net.as_ref().unwrap();
    let bytes = net.epochs.seal_gossip(&items.to_bytes()).unwrap();
    let input = LinkInput::Gossip {
        from: transport(2),
        message: GossipId(number),
        bytes,
    };
    node.handle(Input::Link(input), at(ms));
    drain(node)
}

#[test]
fn an_admin_that_says_more_than_any_honest_one_is_told_of_once_and_in_status() {
    let (mut node, title) = linked();
    let mut told = Vec::new();
    let admin = keys(1).device;
    let base = draft(&node, title);
    for number in 0..u64::from(AUTHOR_OPS_PER_HOUR) + 20 {
        let mut draft = base.clone();
        draft.time = at(number).wall;
        let op = Op::sign(Body::Noop, draft, &admin);
        let items = Items {
            ops: vec![op.bytes().to_vec()],
            ..Items::default()
        };
        let outputs = gossip(&mut node, number, &items, 10);
        let floods = notices(&outputs).into_iter().filter_map(|notice| {
            let Notice::Flood(name, ops) = notice else {
                return None;
            };
            Some((name.clone(), *ops))
        });
        told.extend(floods);
    }
    let name = NodeName::parse("admin").unwrap();
    assert_eq!(told, [(Some(name.clone()), AUTHOR_OPS_PER_HOUR + 1)]);
    let warned = |node: &Node, ms| {
        let warnings = node.snapshot(at(ms)).unwrap().warnings;
        let flood = |warning: &Warning| matches!(warning, Warning::Flood { node: Some(by), .. } if *by == name);
        warnings.iter().any(flood)
    };
    assert!(warned(&node, 20));
    assert!(!warned(&node, 20 + 3_600_000));
}

/// A member says more of itself than there is room for: what is written of it stays within bounds, and it is still
/// heard when it goes.
#[test]
fn a_member_that_floods_records_by_gossip_is_heard_slowly() {
    let (mut node, _) = linked();
    let network = node.net.as_ref().unwrap().authority().network();
    let member = keys(2).device;
    let says = |node: &mut Node, record: &Record| {
        let net = node.net.as_ref().unwrap();
        let items = Items {
            records: vec![net.epochs.seal_record(record.bytes()).unwrap()],
            ..Items::default()
        };
        let outputs = gossip(node, record.seq(), &items, 10);
        let writes = outputs.iter().filter_map(|output| {
            let Output::Persist { writes, .. } = output else {
                return None;
            };
            Some(writes)
        });
        let ours = writes.flatten().filter_map(|write| {
            let Write::Record(_, bytes) = write else {
                return None;
            };
            (bytes == record.bytes()).then_some(bytes.len() as u64)
        });
        ours.sum::<u64>()
    };
    let (mut said, mut written) = (0, 0);
    for seq in 1.. {
        let heads = (0..16).map(|nth: u8| OpId::new([nth; 32])).collect();
        let seen = Seen {
            heads,
            ops: 1,
            epoch: 0,
            policy: None,
            ext: Ext::NONE,
        };
        let record = Record::sign(network, seq, RecordBody::Seen(seen), &member);
        said += record.bytes().len() as u64;
        written += says(&mut node, &record);
        if said > AUTHOR_BYTES_MAX + AUTHOR_BYTES_MAX / 8 {
            break;
        }
    }
    assert!(written <= AUTHOR_BYTES_MAX, "{written}");
    assert!(written > AUTHOR_BYTES_MAX / 8 * 7, "{written}");
    let left = Record::sign(network, 0, RecordBody::Left, &member);
    assert!(says(&mut node, &left) > 0);
}

/// Answers of a round that never come to anything: a peer's keys that it does not give.
#[test]
fn a_peer_whose_answers_bring_nothing_is_left_alone_for_a_minute() {
    let (mut node, _) = linked();
    let mut questions = 0;
    let mut last = None;
    node.links.peers.get_mut(&transport(2)).unwrap().pull = None;
    node.start_pull(transport(2));
    for number in 0..200 {
        let outputs = drain(&mut node);
        let asked = outputs.iter().find_map(|output| {
            let Output::Link(LinkOutput::Ask { call, bytes, .. }) = output else {
                return None;
            };
            Some((*call, SyncRequest::parse(bytes).ok()?))
        });
        let Some((call, question)) = asked else { break };
        questions += 1;
        last = Some(call);
        let key = |at: usize| {
            crate::identity::hash(&((number * KEYS_SENT_MAX + at) as u64).to_le_bytes())
        };
        let answer = match question {
            SyncRequest::Summary(_) => SyncAnswer::Summary(Summary {
                roots: [crate::id::Digest::new([9; 32]); 3],
                heads: Vec::new(),
            }),
            SyncRequest::Buckets(_) => SyncAnswer::Buckets(vec![[3; 16]; 256]),
            SyncRequest::Keys { .. } => SyncAnswer::Keys {
                keys: (0..KEYS_SENT_MAX).map(|at| (key(at), [1; 16])).collect(),
                more: true,
            },
            SyncRequest::Items(..) => SyncAnswer::Items(Items::default()),
            SyncRequest::Push(_) | SyncRequest::Epoch(_) | SyncRequest::Past { .. } => {
                panic!("a round asks for none")
            }
        };
        answered(&mut node, call, &answer, 20);
    }
    assert!(last.is_some());
    let bound = IDLE_BYTES_MAX / (KEYS_SENT_MAX as u64 * 48) * 10;
    assert!(questions < bound, "{questions}");
    let asks = |node: &mut Node, ms| {
        node.handle(Input::Timeout, at(ms));
        drain(node);
        node.start_pull(transport(2));
        !crate::node::stage::asked(&drain(node), Service::Sync).is_empty()
    };
    assert!(!asks(&mut node, 30_000));
    assert!(asks(&mut node, 61_000));
}

fn answered(node: &mut Node, call: CallId, answer: &SyncAnswer, ms: u64) {
    let result = Ok(answer.to_bytes());
    let input = LinkInput::Answered {
        call,
        link: Some(LinkId(1)),
        result,
    };
    node.handle(Input::Link(input), at(ms));
}

/// Whoever asks for everything again and again is served so much a minute.
#[test]
fn a_member_that_asks_without_end_is_refused_until_the_next_minute() {
    let (mut node, _) = linked();
    let map = [0xFF; 32];
    let question = SyncRequest::Keys {
        set: Set::Ops,
        map,
        skip: 0,
    };
    let mut ask = |number: u64, ms| {
        let input = LinkInput::Asked {
            answer: AnswerId(number),
            link: LinkId(1),
            peer: transport(2),
            service: Service::Sync,
            bytes: question.to_bytes(),
        };
        node.handle(Input::Link(input), at(ms));
        drain(&mut node).into_iter().find_map(|output| {
            let Output::Link(LinkOutput::Answer { bytes, .. }) = output else {
                return None;
            };
            Some(bytes.len() as u64)
        })
    };
    let mut served = 0;
    let mut number = 0;
    while let Some(bytes) = ask(number, 10) {
        served += bytes;
        number += 1;
    }
    assert!(served <= SERVED_BYTES_PER_MINUTE, "{served}");
    assert!(served > SERVED_BYTES_PER_MINUTE / 2, "{served}");
    assert!(ask(number, 60_010).is_some());
}
