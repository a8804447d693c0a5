//! Who is bound, what passes, what is lost; and that floods find bounded tables.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of all answers a test wants one"
)]

use proptest::prelude::*;

use super::*;
use crate::id::TransportKey;
use crate::identity::Secret;
use crate::limits::RELAY_SOURCE_BINDINGS_MAX;
use crate::relay::frame::Txid;
use crate::time::Timestamp;

const RELAY: u8 = 99;

fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

fn key(seed: u8) -> TransportKey {
    TransportKey::new(secret(seed).public())
}

fn mailbox(seed: u8) -> Mailbox {
    mailbox_of(&key(seed))
}

fn at(ms: u64) -> Moment {
    Moment {
        uptime_us: ms * 1000,
        wall: Timestamp::from_ms(1_700_000_000_000 + ms),
    }
}

fn home(seed: u8) -> SocketAddr {
    ([192, 0, 2, seed], 41_641).into()
}

fn terms() -> CarryTerms {
    CarryTerms {
        key: key(RELAY),
        clients: None,
        rate: (10_000_000, 1_000_000),
        pairs: 8,
        month_bytes: None,
    }
}

fn exchange(terms: CarryTerms) -> Exchange {
    Exchange::new(terms, [7; 32])
}

/// What a HELLO is answered.
fn hello(exchange: &mut Exchange, from: SocketAddr, now: Moment) -> (Standing, Cookie) {
    let question = Question::Hello([1; 12]).to_bytes();
    match exchange.on_word(now, from, &question) {
        Some(Answer::Cookie {
            txid,
            standing,
            cookie,
        }) => {
            assert_eq!(txid, [1; 12]);
            (standing, cookie)
        }
        other => panic!("no cookie but {other:?}"),
    }
}

fn bind_with(
    exchange: &mut Exchange,
    seed: u8,
    from: SocketAddr,
    txid: Txid,
    now: Moment,
) -> Option<Standing> {
    let (_, cookie) = hello(exchange, from, now);
    let bind = Bind::sign(&secret(seed), &key(RELAY), cookie, txid);
    match exchange.on_word(now, from, &Question::Bind(bind).to_bytes())? {
        Answer::Bound {
            txid: said,
            standing,
        } => {
            assert_eq!((said, standing.seen), (txid, from));
            Some(standing)
        }
        other => panic!("not bound but {other:?}"),
    }
}

/// Binds a client at its home.
fn bind(exchange: &mut Exchange, seed: u8, now: Moment) -> Option<Reason> {
    let Some(standing) = bind_with(exchange, seed, home(seed), [seed; 12], now) else {
        panic!("no answer");
    };
    assert_eq!(standing.bound, standing.reason.is_none());
    standing.reason
}

fn two(terms: CarryTerms) -> Exchange {
    let mut exchange = exchange(terms);
    assert_eq!(bind(&mut exchange, 1, at(0)), None);
    assert_eq!(bind(&mut exchange, 2, at(0)), None);
    exchange
}

fn words(exchange: &mut Exchange) -> Vec<(SocketAddr, Answer)> {
    std::iter::from_fn(|| exchange.poll_word()).collect()
}

#[test]
fn a_datagram_passes_between_two_that_are_bound() {
    let mut exchange = two(terms());
    let there = exchange.pass(at(1), home(1), mailbox(2), 100);
    assert_eq!(there, Ok((home(2), mailbox(1))));
    let back = exchange.pass(at(2), home(2), mailbox(1), 300);
    assert_eq!(back, Ok((home(1), mailbox(2))));
    let report = exchange.report(at(10_000));
    let first = mailbox(1) < mailbox(2);
    let bytes = if first { (100, 300) } else { (300, 100) };
    assert_eq!(report.pairs.len(), 1);
    assert_eq!(report.pairs[0].bytes, bytes);
    assert!(!report.pairs[0].limited);
    assert_eq!((report.clients, report.volume.bytes), (2, 400));
    assert_eq!(report.rate_bps, 320);
}

#[test]
fn a_hello_says_how_one_is_seen_and_whether_one_is_bound() {
    let mut exchange = exchange(terms());
    let (standing, _) = hello(&mut exchange, home(1), at(0));
    let stranger = Standing {
        seen: home(1),
        bound: false,
        reason: None,
    };
    assert_eq!(standing, stranger);
    assert_eq!(bind(&mut exchange, 1, at(0)), None);
    assert!(hello(&mut exchange, home(1), at(1)).0.bound);
    let other_port = ([192, 0, 2, 1], 5).into();
    assert!(!hello(&mut exchange, other_port, at(1)).0.bound);
}

#[test]
fn a_cookie_is_of_one_address_and_holds_two_to_four_minutes() {
    let mut exchange = exchange(terms());
    let (_, cookie) = hello(&mut exchange, home(1), at(119_000));
    let word = |seed| Question::Bind(Bind::sign(&secret(seed), &key(RELAY), cookie, [3; 12]));
    let mut try_from = |from, ms| exchange.on_word(at(ms), from, &word(1).to_bytes());
    assert_eq!(try_from(home(2), 119_000), None);
    assert_eq!(try_from(([192, 0, 2, 1], 5).into(), 119_000), None);
    assert!(try_from(home(1), 119_000).is_some());
    assert!(try_from(home(1), 239_000).is_some());
    assert_eq!(try_from(home(1), 240_000), None);
}

#[test]
fn a_spoofed_binding_costs_the_relay_no_signature() {
    let mut exchange = exchange(terms());
    let forged = Bind::sign(&secret(1), &key(RELAY), [0; 16], [3; 12]);
    for _ in 0..1000 {
        let word = Question::Bind(forged.clone()).to_bytes();
        assert_eq!(exchange.on_word(at(1), home(1), &word), None);
    }
    // The budget of that address is whole.
    for txid in 0..5 {
        let standing = bind_with(&mut exchange, 1, home(1), [txid; 12], at(1));
        assert!(standing.is_some_and(|standing| standing.bound));
    }
    let standing = bind_with(&mut exchange, 1, home(1), [6; 12], at(1));
    assert_eq!(standing, None);
    assert!(bind_with(&mut exchange, 1, home(1), [6; 12], at(201)).is_some());
}

#[test]
fn signatures_of_all_addresses_together_are_bounded() {
    let mut exchange = exchange(terms());
    let mut answers = 0;
    for host in 0..=u8::MAX {
        let from = ([198, 51, 100, host], 7).into();
        answers += usize::from(bind_with(&mut exchange, 1, from, [host; 12], at(1)).is_some());
    }
    assert_eq!(answers, 200);
}

#[test]
fn a_client_that_moves_is_found_at_its_new_address_alone() {
    let mut exchange = two(terms());
    let moved = ([203, 0, 113, 1], 9).into();
    let standing = bind_with(&mut exchange, 2, moved, [9; 12], at(5));
    assert!(standing.is_some_and(|standing| standing.bound));
    let there = exchange.pass(at(6), home(1), mailbox(2), 100);
    assert_eq!(there, Ok((moved, mailbox(1))));
    let old = exchange.pass(at(6), home(2), mailbox(1), 100);
    assert_eq!(old, Err(Reason::NotBound));
}

#[test]
fn an_old_binding_that_is_said_again_moves_nothing_back() {
    let mut exchange = exchange(terms());
    let (_, cookie) = hello(&mut exchange, home(2), at(0));
    let old = Bind::sign(&secret(2), &key(RELAY), cookie, [1; 12]);
    let old = Question::Bind(old).to_bytes();
    assert!(exchange.on_word(at(0), home(2), &old).is_some());
    // Said again from where it is, as when its answer was lost, it is answered.
    let Some(Answer::Bound { standing, .. }) = exchange.on_word(at(1), home(2), &old) else {
        panic!("no answer");
    };
    assert!(standing.bound);
    let moved = ([203, 0, 113, 1], 9).into();
    assert!(bind_with(&mut exchange, 2, moved, [2; 12], at(2)).is_some());
    let Some(Answer::Bound { standing, .. }) = exchange.on_word(at(3), home(2), &old) else {
        panic!("no answer");
    };
    assert_eq!(standing.reason, Some(Reason::NotAdmitted));
    assert!(hello(&mut exchange, moved, at(4)).0.bound);
    assert!(!hello(&mut exchange, home(2), at(4)).0.bound);
}

#[test]
fn an_address_that_another_client_has_now_is_its_alone() {
    let mut exchange = two(terms());
    assert_eq!(bind(&mut exchange, 3, at(0)), None);
    let standing = bind_with(&mut exchange, 3, home(2), [8; 12], at(1));
    assert!(standing.is_some_and(|standing| standing.bound));
    let gone = exchange.pass(at(2), home(1), mailbox(2), 100);
    assert_eq!(gone, Err(Reason::NotBound));
    let there = exchange.pass(at(2), home(1), mailbox(3), 100);
    assert_eq!(there, Ok((home(2), mailbox(1))));
    assert_eq!(exchange.report(at(2)).clients, 2);
}

#[test]
fn whoever_is_not_admitted_binds_nothing_and_whoever_is_put_out_is_unbound_at_once() {
    let members = |seeds: &[u8]| CarryTerms {
        clients: Some(seeds.iter().copied().map(key).collect()),
        ..terms()
    };
    let mut exchange = two(members(&[1, 2]));
    let stranger = bind(&mut exchange, 3, at(0));
    assert_eq!(stranger, Some(Reason::NotAdmitted));
    assert!(exchange.pass(at(1), home(1), mailbox(2), 100).is_ok());
    exchange.set_terms(members(&[1, 3]));
    let after = exchange.pass(at(2), home(1), mailbox(2), 100);
    assert_eq!(after, Err(Reason::NotBound));
    assert_eq!(
        exchange.pass(at(2), home(2), mailbox(1), 100),
        Err(Reason::NotBound)
    );
    assert!(exchange.report(at(3)).pairs.is_empty());
    assert_eq!(bind(&mut exchange, 3, at(3)), None);
}

#[test]
fn another_key_of_the_relay_binds_everybody_anew() {
    let mut exchange = two(terms());
    let key = key(98);
    exchange.set_terms(CarryTerms { key, ..terms() });
    assert!(!hello(&mut exchange, home(1), at(1)).0.bound);
    // A binding at the old key does not hold either.
    assert_eq!(bind_with(&mut exchange, 1, home(1), [4; 12], at(1)), None);
}

#[test]
fn a_binding_lives_by_what_its_client_says_and_five_minutes_longer() {
    let mut exchange = two(terms());
    for minute in 1..10 {
        let now = at(minute * 60_000);
        assert!(hello(&mut exchange, home(1), now).0.bound);
        let passed = exchange.pass(now, home(1), mailbox(2), 100);
        // What comes for a client does not keep it.
        assert_eq!(passed.is_ok(), minute < 5, "minute {minute}");
    }
    assert!(!hello(&mut exchange, home(2), at(600_000)).0.bound);
    assert_eq!(exchange.report(at(600_000)).clients, 1);
}

#[test]
fn a_pair_that_is_too_fast_loses_and_both_ends_hear_it_once_a_second() {
    let mut exchange = two(terms());
    let mut send = |ms: u64| {
        let passed = exchange.pass(at(ms), home(1), mailbox(2), 1000);
        (passed, words(&mut exchange))
    };
    let mut passed = 0;
    let mut told = Vec::new();
    for ms in 0..2000 {
        for _ in 0..4 {
            let (result, mut heard) = send(ms);
            match result {
                Ok(_) => passed += 1000,
                Err(reason) => assert_eq!(reason, Reason::PairRate),
            }
            told.append(&mut heard);
        }
    }
    assert!((2_000_000..=2_300_000).contains(&passed), "{passed}");
    let limited = |seed| Answer::Limited {
        mailbox: mailbox(seed),
        reason: Reason::PairRate,
    };
    assert_eq!(told.len(), 4, "{told:?}");
    for pair in told.chunks(2) {
        assert_eq!(pair, [(home(1), limited(2)), (home(2), limited(1))]);
    }
    assert!(exchange.report(at(2000)).pairs[0].limited);
}

#[test]
fn all_pairs_together_keep_the_rate_of_the_relay() {
    let mut exchange = two(CarryTerms {
        rate: (1_000_000, 1_000_000),
        ..terms()
    });
    for seed in [3, 4] {
        assert_eq!(bind(&mut exchange, seed, at(0)), None);
    }
    let mut passed = 0;
    for ms in 0..1000 {
        for (from, to) in [(1, 2), (3, 4)] {
            let result = exchange.pass(at(ms), home(from), mailbox(to), 1000);
            match result {
                Ok(_) => passed += 1000,
                Err(reason) => assert!(matches!(reason, Reason::Rate), "{reason:?}"),
            }
        }
    }
    assert!((1_000_000..=1_300_000).contains(&passed), "{passed}");
}

#[test]
fn the_volume_of_the_month_is_kept_and_told_to_whoever_asks() {
    let mut exchange = two(CarryTerms {
        month_bytes: Some(2500),
        ..terms()
    });
    // November 2023, in which the clock of these tests stands.
    exchange.resume(Volume {
        month: 646,
        bytes: 1000,
    });
    assert!(exchange.pass(at(1), home(1), mailbox(2), 1500).is_ok());
    let passed = exchange.pass(at(2), home(1), mailbox(2), 1);
    assert_eq!(passed, Err(Reason::Volume));
    let (standing, _) = hello(&mut exchange, home(1), at(3));
    assert_eq!(standing.reason, Some(Reason::Volume));
    let next_month = at(20 * 86_400_000);
    assert_eq!(bind(&mut exchange, 1, next_month), None);
    assert_eq!(bind(&mut exchange, 2, next_month), None);
    assert!(exchange.pass(next_month, home(1), mailbox(2), 1500).is_ok());
}

#[test]
fn a_mailbox_that_nobody_holds_is_told_to_the_sender_alone() {
    let mut exchange = two(terms());
    let passed = exchange.pass(at(1), home(1), mailbox(9), 100);
    assert_eq!(passed, Err(Reason::NotBound));
    let limited = Answer::Limited {
        mailbox: mailbox(9),
        reason: Reason::NotBound,
    };
    assert_eq!(words(&mut exchange), [(home(1), limited)]);
    let to_itself = exchange.pass(at(5000), home(1), mailbox(1), 100);
    assert_eq!(to_itself, Err(Reason::NotBound));
    let _told = words(&mut exchange);
    // A stranger hears nothing: the address may be another's.
    let stranger = exchange.pass(at(9000), home(7), mailbox(1), 100);
    assert_eq!(stranger, Err(Reason::NotBound));
    assert_eq!(words(&mut exchange), []);
}

#[test]
fn a_relay_that_only_introduces_binds_nobody_and_passes_nothing() {
    let mut exchange = exchange(CarryTerms {
        pairs: 0,
        ..terms()
    });
    let reason = Some(Reason::IntroducesOnly);
    assert_eq!(hello(&mut exchange, home(1), at(0)).0.reason, reason);
    assert_eq!(bind(&mut exchange, 1, at(0)), reason);
}

#[test]
fn pairs_have_an_end_and_one_address_has_only_a_share_of_them() {
    let mut exchange = exchange(terms());
    let from = |seed: u8| SocketAddr::from(([192, 0, 2, 1], u16::from(seed)));
    for seed in 11..=20 {
        assert_eq!(bind(&mut exchange, seed, at(0)), None);
    }
    for seed in 1..=4 {
        let now = at(u64::from(seed) * 1000);
        assert!(bind_with(&mut exchange, seed, from(seed), [seed; 12], now).is_some());
    }
    // Of eight pairs, two are this address's.
    assert!(exchange.pass(at(5000), from(1), mailbox(11), 9).is_ok());
    assert!(exchange.pass(at(5000), from(2), mailbox(11), 9).is_ok());
    let third = exchange.pass(at(5000), from(3), mailbox(11), 9);
    assert_eq!(third, Err(Reason::Full));
    for to in 13..=18 {
        assert!(exchange.pass(at(6000), home(12), mailbox(to), 9).is_ok() == (to < 15));
    }
    assert!(exchange.pass(at(70_000), from(3), mailbox(11), 9).is_ok());
    assert_eq!(exchange.report(at(72_000)).pairs.len(), 1);
}

#[test]
fn one_address_holds_only_so_many_mailboxes_of_a_relay_for_everybody() {
    let mut exchange = exchange(terms());
    let mut refused = 0;
    for count in 0..=RELAY_SOURCE_BINDINGS_MAX {
        let seed = u8::try_from(count).unwrap() + 1;
        let from = ([192, 0, 2, 1], 1000 + u16::from(seed)).into();
        let now = at(1000 * (count as u64 + 1));
        let standing = bind_with(&mut exchange, seed, from, [seed; 12], now).unwrap();
        if standing.reason == Some(Reason::Full) {
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    let seed = 200;
    // Of an IPv6 network of 64 bits, every address is the same customer.
    let far = |host: u16| SocketAddr::from(([0x2001, 0xDB8, 0, 1, 0, 0, 0, host], 9));
    let mut answered = 0;
    for host in 0..10 {
        answered += usize::from(
            bind_with(&mut exchange, seed, far(host), [seed; 12], at(100_000)).is_some(),
        );
    }
    assert_eq!(answered, 5);
}

impl Exchange {
    /// Every table agrees with the others and none is beyond its bound.
    fn check(&self) {
        assert!(self.pairs.len() <= self.terms.pairs.min(RELAY_PAIRS_MAX));
        assert!(self.words.len() <= WORDS_MAX);
        self.bindings.check();
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Bind { seed: u8, at: u8 },
    Pass { from: u8, to: u8, bytes: u16 },
    Terms { out: u8 },
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u8..6, 1u8..6).prop_map(|(seed, at)| Step::Bind { seed, at }),
        (1u8..6, 1u8..6, 1u16..1500).prop_map(|(from, to, bytes)| Step::Pass { from, to, bytes }),
        (1u8..6).prop_map(|out| Step::Terms { out }),
        (1u32..200_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_datagram_goes_only_to_who_proved_to_be_there_last(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut exchange = exchange(terms());
        // Who proved to be where, the last word of each client.
        let mut proved: BTreeMap<u8, SocketAddr> = BTreeMap::new();
        let (mut now_ms, mut count) = (0, 0u8);
        for step in steps {
            now_ms += 250;
            let now = at(now_ms);
            match step {
                Step::Bind { seed, at } => {
                    count += 1;
                    let address = home(at);
                    let standing = bind_with(&mut exchange, seed, address, [count; 12], now);
                    if standing.is_some_and(|standing| standing.bound) {
                        proved.retain(|_, held| *held != address);
                        proved.insert(seed, address);
                    }
                }
                Step::Pass { from, to, bytes } => {
                    let passed = exchange.pass(now, home(from), mailbox(to), bytes.into());
                    if let Ok((address, sender)) = passed {
                        prop_assert_eq!(proved.get(&to), Some(&address));
                        let who = proved.iter().find(|(_, held)| **held == home(from));
                        prop_assert_eq!(who.map(|(seed, _)| mailbox(*seed)), Some(sender));
                    }
                }
                Step::Terms { out } => {
                    let clients = (1..6).filter(|seed| *seed != out).map(key).collect();
                    exchange.set_terms(CarryTerms { clients: Some(clients), ..terms() });
                    proved.remove(&out);
                }
                Step::Wait(ms) => now_ms += u64::from(ms),
            }
            let _told = words(&mut exchange);
            exchange.check();
        }
    }
}
