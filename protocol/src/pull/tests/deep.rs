//! What rests on a flood is heard however deep it lies, at the cost of who rests on it, and of no more.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

/// The longest chain that is tried.
const DEPTH: usize = 16_000;

fn chained(town: &mut Town, count: usize) -> Vec<Op> {
    let mut parents = town.ledger.authority.heads();
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let op = town.sign(FLOODER, &parents, Body::Noop);
        parents = vec![op.id()];
        ops.push(op);
    }
    ops
}

/// A replica where the flooder has no room any more.
fn full(town: &mut Town) -> Ledger {
    let mut taker = town.ledger.clone();
    let mut attacker = town.ledger.clone();
    stores(&mut attacker, &town.flood(300, false));
    round(&mut taker, &mut attacker, 0);
    taker
}

fn revoke() -> Body {
    Body::Revoke(Box::new(Revoke {
        device: id(FLOODER),
        cut: Cut::Nothing,
        spare: OpIds::default(),
        reason: String::new(),
        ext: Ext::NONE,
    }))
}

/// A giver with these ops and the revocation of their author over all of them.
fn giver(town: &mut Town, ops: &[Op]) -> (Ledger, OpId) {
    let mut giver = town.ledger.clone();
    stores(&mut giver, ops);
    let heads = giver.authority.heads();
    let revoke = town.sign(HONEST, &heads, revoke());
    stores(&mut giver, std::slice::from_ref(&revoke));
    (giver, revoke.id())
}

#[test]
fn a_revocation_on_a_chain_of_sixteen_thousand_is_heard_in_one_short_round() {
    let mut town = Town::new();
    let mut taker = full(&mut town);
    let flood = chained(&mut town, DEPTH);
    let (mut giver, revoke) = giver(&mut town, &flood);
    let before = taker.authority.op_count();
    let asked = round(&mut taker, &mut giver, 1000);
    assert!(taker.authority.contains(&revoke), "{asked:?}");
    assert_eq!(taker.authority.op_count(), before + DEPTH + 1);
    // 16 000 headers and as many ops, half a megabyte at a time, and what a round asks in any case.
    assert!(asked.questions < 50, "{asked:?}");
}

#[test]
fn who_rests_on_a_flood_pays_for_it_and_for_no_more_than_its_own_room() {
    let mut town = Town::new();
    let mut taker = full(&mut town);
    let flood = town.flood(400, true);
    let (mut giver, revoke) = giver(&mut town, &flood);
    let before = taker.authority.op_count();
    round(&mut taker, &mut giver, 1000);
    let taken = taker.authority.op_count() - before;
    let bytes = (taken * flood[0].bytes().len()) as u64;
    assert!(!taker.authority.contains(&revoke));
    assert!(
        bytes <= AUTHOR_BYTES_MAX && bytes > AUTHOR_BYTES_MAX - 64 * 1024,
        "{taken}"
    );
    // Nothing more as long as there is no room, and all of it once there is.
    let again = round(&mut taker, &mut giver, 2000);
    // Asked again are the revocation, which is held, and what it waits for.
    assert!(again.items <= 2 && again.questions <= 6, "{again:?}");
    assert_eq!(taker.authority.op_count(), before + taken);
    let heard = (1..24).find(|hours| {
        round(&mut taker, &mut giver, hours * HOUR_MS);
        taker.authority.contains(&revoke)
    });
    assert!(heard.is_some_and(|hours| hours > 2), "{heard:?}");
}

/// Whatever the flood looks like: one round brings the past of the revocation, and nothing else of the flood.
#[test]
fn one_round_brings_what_a_revocation_rests_on_and_nothing_else_of_the_flood() {
    for seed in 0..12 {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let mut town = Town::new();
        let mut taker = full(&mut town);
        let old = town.ledger.authority.heads();
        let mut flood: Vec<Op> = Vec::new();
        for _ in 0..100 {
            let mut parents: Vec<OpId> = (0..rng.next_u32() % 4)
                .filter(|_| !flood.is_empty())
                .map(|_| flood[rng.next_u32() as usize % flood.len()].id())
                .collect();
            parents.sort_unstable();
            parents.dedup();
            if parents.is_empty() {
                parents.clone_from(&old);
            }
            flood.push(town.sign(FLOODER, &parents, Body::Noop));
        }
        let mut giver = town.ledger.clone();
        stores(&mut giver, &flood);
        let mut under: Vec<OpId> = (0..1 + rng.next_u32() % 5)
            .map(|_| flood[rng.next_u32() as usize % flood.len()].id())
            .collect();
        under.sort_unstable();
        under.dedup();
        let revoke = town.sign(HONEST, &under, revoke());
        stores(&mut giver, std::slice::from_ref(&revoke));
        let before = taker.authority.op_count();
        round(&mut taker, &mut giver, 1000);
        assert!(taker.authority.contains(&revoke.id()), "seed {seed}");
        let past = |op: &&Op| giver.authority.in_past(&op.id(), &revoke.id());
        let past: Vec<&Op> = flood.iter().filter(past).collect();
        let stored = |op: &&&Op| taker.authority.contains(&op.id());
        assert_eq!(
            past.iter().filter(stored).count(),
            past.len(),
            "seed {seed}"
        );
        let taken = taker.authority.op_count() - before;
        assert_eq!(taken, past.len() + 1, "seed {seed}");
    }
}

/// The sponsor pays for what is proven to be under its op: not for what a peer puts between.
#[test]
fn what_a_peer_slips_into_a_trail_is_not_paid_for() {
    let mut town = Town::new();
    let mut taker = full(&mut town);
    let flood = chained(&mut town, 40);
    let other = town.flood(3, false);
    let (mut giver, revoke) = giver(&mut town, &flood);
    stores(&mut giver, &other);
    let epochs = Epochs::default();
    let (mut pull, mut request) = Pull::start(&mut taker, super::super::Asked::Member);
    let mut trails = 0;
    loop {
        let mut answer = giver.answer(&request, &epochs).unwrap();
        if let SyncAnswer::Headers(headers) = &mut answer {
            trails += 1;
            let slipped = other.iter().map(|op| op.header().to_bytes());
            headers.splice(0..0, slipped);
        }
        if let (1.., SyncAnswer::Items(Items { ops, .. })) = (trails, &mut answer) {
            ops.splice(0..0, other.iter().map(|op| op.bytes().to_vec()));
        }
        match pull.answer(answer, &mut taker, &epochs, &arrival(1000)).1 {
            Step::Ask(next) => request = next,
            Step::Done => break,
            Step::Nonsense => panic!("it is bounded like an honest answer"),
        }
    }
    assert!(trails > 0 && !other.iter().any(|op| taker.authority.contains(&op.id())));
    round(&mut taker, &mut giver, 2000);
    assert!(taker.authority.contains(&revoke), "a liar costs a round");
}

#[test]
fn headers_that_lead_nowhere_end_a_trail() {
    let mut town = Town::new();
    let mut taker = full(&mut town);
    let flood = chained(&mut town, 4);
    let (mut giver, revoke) = giver(&mut town, &flood);
    let strange = town.flood(1, false)[0].header().to_bytes();
    let epochs = Epochs::default();
    let wrong = [vec![], vec![strange], vec![vec![1, 2, 3]]];
    for wrong in wrong {
        let (mut pull, mut request) = Pull::start(&mut taker, super::super::Asked::Member);
        let mut trails = 0;
        loop {
            let mut answer = giver.answer(&request, &epochs).unwrap();
            if let SyncAnswer::Headers(headers) = &mut answer {
                trails += 1;
                headers.clone_from(&wrong);
            }
            match pull.answer(answer, &mut taker, &epochs, &arrival(1000)).1 {
                Step::Ask(next) => request = next,
                Step::Done => break,
                Step::Nonsense => panic!("it fits the question"),
            }
        }
        assert_eq!((trails, taker.authority.contains(&revoke)), (1, false));
    }
}

#[test]
fn a_question_for_the_past_of_too_much_is_not_answered() {
    let mut ledger = Town::new().ledger;
    let epochs = Epochs::default();
    let mut answered = |of: usize, known: usize| {
        let request = SyncRequest::Past {
            of: vec![Digest::ZERO; of],
            known: vec![OpId::ZERO; known],
        };
        ledger.answer(&request, &epochs).is_some()
    };
    assert!(answered(KEYS_ASKED_MAX, 64));
    assert!(!answered(KEYS_ASKED_MAX + 1, 0) && !answered(1, 65));
}

/// Ids can be made up: whoever fills the memory of what was turned away hides nothing by that.
#[test]
fn a_memory_full_of_made_up_items_hides_no_revocation() {
    let mut town = Town::new();
    let mut taker = full(&mut town);
    let flood = chained(&mut town, 40);
    let (mut giver, revoke) = giver(&mut town, &flood);
    let mut made_up = 0_u64;
    while taker.quota.remembers_one_more() {
        let key = crate::identity::hash(&made_up.to_le_bytes());
        taker.quota.turn_away(key, u64::MAX, 500);
        made_up += 1;
    }
    round(&mut taker, &mut giver, 1000);
    assert!(taker.authority.contains(&revoke));
}
