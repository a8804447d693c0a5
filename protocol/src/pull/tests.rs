//! Rounds with peers that have too much of one author, or nothing at all.

mod deep;

use std::net::Ipv4Addr;

use super::*;
use crate::body::{Body, Caps, Cut, Genesis, Grant, Ipv4Range, Level, OpIds, Policy, Revoke, Tags};
use crate::codec::Ext;
use crate::id::{NodeId, RootKey};
use crate::identity::Secret;
use crate::limits::{AUTHOR_BYTES_MAX, POLICY_EDIT_BYTES_MAX};
use crate::name::{NetworkName, NodeName};
use crate::op::{Draft, Op};
use crate::time::Timestamp;

const HOUR_MS: u64 = 3_600_000;

/// A founder, an admin that floods, and one that does not.
struct Town {
    ledger: Ledger,
    titles: Vec<OpId>,
    said: u64,
}

fn secret(number: usize) -> Secret {
    Secret::from_seed(&[1 + number as u8; 32])
}

fn id(number: usize) -> NodeId {
    NodeId::new(secret(number).public())
}

const FLOODER: usize = 1;
const HONEST: usize = 2;

impl Town {
    fn new() -> Self {
        let root = Secret::from_seed(&[99; 32]);
        let genesis = Genesis {
            random: [7; 32],
            roots: vec![RootKey::new(root.public())],
            threshold: 1,
            name: NetworkName::parse("home").unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            founder: id(0),
            founder_name: NodeName::parse("nas").unwrap(),
            founder_ipv4: Ipv4Addr::new(100, 71, 4, 2),
            owner: None,
            epoch_commitment: Digest::ZERO,
            closed: false,
            ext: Ext::NONE,
        };
        let op = Op::found(genesis, Timestamp::from_ms(1), &[root], &secret(0));
        let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
        let mut town = Self {
            titles: vec![op.id(); 3],
            ledger: Ledger::new(op, realm),
            said: 0,
        };
        for (number, level) in [(FLOODER, 9), (HONEST, 8)] {
            let grant = Grant {
                device: id(number),
                level: Level(level),
                caps: Caps::ALL,
                may_tag: Tags::default(),
                owner: None,
                tags: Tags::default(),
                name: NodeName::parse(&format!("admin-{number}")).unwrap(),
                ipv4: Ipv4Addr::new(100, 71, 5, number as u8),
                expires: None,
                claim: None,
                ext: Ext::NONE,
            };
            let heads = town.ledger.authority.heads();
            let op = town.sign(0, &heads, Body::Grant(Box::new(grant)));
            town.titles[number] = op.id();
            town.ledger.insert_op(op.bytes(), &mut Change::default());
        }
        town
    }

    fn sign(&mut self, author: usize, parents: &[OpId], body: Body) -> Op {
        self.said += 1;
        let draft = Draft {
            network: self.ledger.authority.network(),
            authority: self.titles[author],
            time: Timestamp::from_ms(self.said),
            parents: parents.to_vec(),
        };
        Op::sign(body, draft, &secret(author))
    }

    /// So many large ops of the flooder, side by side or one after the other.
    fn flood(&mut self, count: usize, chained: bool) -> Vec<Op> {
        let old = self.ledger.authority.heads();
        let mut ops: Vec<Op> = Vec::new();
        for _ in 0..count {
            let parents = match ops.last() {
                Some(last) if chained => vec![last.id()],
                Some(_) | None => old.clone(),
            };
            let body = Body::Policy(Policy {
                base: OpId::ZERO,
                change: vec![7; POLICY_EDIT_BYTES_MAX],
                ext: Ext::NONE,
            });
            ops.push(self.sign(FLOODER, &parents, body));
        }
        ops
    }
}

fn arrival(at_ms: u64) -> Arrival {
    Arrival {
        giver: Some(id(HONEST)),
        at_ms,
        first: false,
    }
}

/// What a round asked: questions, and items among them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    questions: usize,
    items: usize,
}

/// A whole round of one replica with another.
fn round(of: &mut Ledger, with: &mut Ledger, at_ms: u64) -> Asked {
    let epochs = Epochs::default();
    let (mut pull, mut request) = Pull::start(of, super::Asked::Member);
    let mut asked = Asked::default();
    loop {
        asked.questions += 1;
        if let SyncRequest::Items(_, keys) = &request {
            asked.items += keys.len();
        }
        let answer = with.answer(&request, &epochs).unwrap();
        match pull.answer(answer, of, &epochs, &arrival(at_ms)).1 {
            Step::Ask(next) => request = next,
            Step::Done => return asked,
            Step::Nonsense => panic!("an honest peer"),
        }
    }
}

fn stores(ledger: &mut Ledger, ops: &[Op]) {
    let mut change = Change::default();
    ops.iter()
        .for_each(|op| ledger.insert_op(op.bytes(), &mut change));
    assert_eq!(change.refused, 0);
}

#[test]
fn of_a_flood_no_more_than_its_room_is_taken_and_the_rest_is_not_asked_for_again_at_once() {
    let mut town = Town::new();
    let mut taker = town.ledger.clone();
    let flood = town.flood(400, false);
    let mut giver = town.ledger.clone();
    stores(&mut giver, &flood);
    round(&mut taker, &mut giver, 0);
    let taken = taker.authority.op_count() - 3;
    let bytes = (taken * flood[0].bytes().len()) as u64;
    assert!(bytes <= AUTHOR_BYTES_MAX && bytes > AUTHOR_BYTES_MAX - 64 * 1024);
    // No hot loop: as long as there is no room, nothing is fetched to be thrown away.
    let again = round(&mut taker, &mut giver, 1000);
    assert_eq!(
        again,
        Asked {
            questions: 3,
            items: 0
        }
    );
    assert_eq!(taker.authority.op_count() - 3, taken);
    // Nothing differs for ever.
    let mut hours = 0;
    while taker.summary().roots != giver.summary().roots {
        hours += 1;
        round(&mut taker, &mut giver, hours * HOUR_MS);
        assert!(hours < 24, "it comes at the pace of its author's room");
    }
    assert!(hours > 2);
}

/// The revoker knows a part of the flood, and its revocation stands on that; the taker has no room for it any more.
#[test]
fn a_revocation_that_rests_on_a_flood_is_heard_where_the_flood_had_no_room() {
    for chained in [false, true] {
        let mut town = Town::new();
        let mut taker = town.ledger.clone();
        let mut attacker = town.ledger.clone();
        let other = town.flood(300, false);
        stores(&mut attacker, &other);
        round(&mut taker, &mut attacker, 0);
        let flood = town.flood(16, chained);
        let mut giver = town.ledger.clone();
        stores(&mut giver, &flood);
        let revoke = Body::Revoke(Box::new(Revoke {
            device: id(FLOODER),
            cut: Cut::Nothing,
            spare: OpIds::default(),
            reason: String::new(),
            ext: Ext::NONE,
        }));
        let heads = giver.authority.heads();
        let revoke = town.sign(HONEST, &heads, revoke);
        stores(&mut giver, std::slice::from_ref(&revoke));
        // The attacker goes on all the while.
        for turn in 0..2 {
            let more = town.flood(20, false);
            stores(&mut attacker, &more);
            round(&mut taker, &mut attacker, 1000 + turn);
        }
        let asked = round(&mut taker, &mut giver, 5000);
        assert!(
            taker.authority.contains(&revoke.id()),
            "{chained} {asked:?}"
        );
        assert!(asked.questions < 40, "{asked:?}");
    }
}

#[test]
fn a_stranger_is_asked_few_questions_whatever_it_answers() {
    let mut ledger = Town::new().ledger;
    let epochs = Epochs::default();
    let (mut pull, _) = Pull::start(&mut ledger, super::Asked::Stranger);
    let theirs = Summary {
        roots: [Digest::new([9; 32]); 3],
        heads: Vec::new(),
    };
    let mut answer = SyncAnswer::Summary(theirs);
    let mut asked = 0;
    loop {
        let (change, step) = pull.answer(answer, &mut ledger, &epochs, &arrival(0));
        assert!(change.is_empty());
        asked += 1;
        let Step::Ask(question) = step else { break };
        let key = crate::identity::hash(&[asked as u8]);
        answer = match question {
            SyncRequest::Buckets(_) => SyncAnswer::Buckets(vec![[3; 16]; 256]),
            // There is always more, and nothing of it is ever given.
            SyncRequest::Keys { .. } => SyncAnswer::Keys {
                keys: vec![(key, [1; 16])],
                more: true,
            },
            SyncRequest::Items(..) => SyncAnswer::Items(Items::default()),
            SyncRequest::Summary(_)
            | SyncRequest::Push(_)
            | SyncRequest::Epoch(_)
            | SyncRequest::Past { .. } => {
                panic!("not in the midst of a round")
            }
        };
    }
    assert_eq!(asked, STRANGER_QUESTIONS_MAX + 1);
}
