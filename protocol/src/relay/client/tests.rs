//! A client and a real exchange, with the way between them in the test's hands.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::io::CarryTerms;
use crate::relay::exchange::Exchange;
use crate::relay::frame::mailbox_of;
use crate::time::Timestamp;

const WAY_MS: u64 = 10;

fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

fn key(seed: u8) -> TransportKey {
    TransportKey::new(secret(seed).public())
}

fn at(ms: u64) -> Moment {
    Moment {
        uptime_us: ms * 1000,
        wall: Timestamp::from_ms(ms),
    }
}

fn relay_at() -> SocketAddr {
    ([198, 51, 100, 1], 443).into()
}

fn terms() -> CarryTerms {
    CarryTerms {
        key: key(99),
        clients: None,
        rate: (1_000_000, 1_000_000),
        pairs: 8,
        month_bytes: None,
    }
}

/// A client, a relay and the time.
struct Stage {
    client: Client,
    exchange: Option<Exchange>,
    rng: ChaCha20Rng,
    own: SocketAddr,
    now_ms: u64,
    /// Words on their way: when they arrive, and whether at the relay.
    way: Vec<(u64, bool, Vec<u8>)>,
    sent: usize,
    seen: Vec<ClientEvent>,
}

impl Stage {
    fn new(hold: Hold) -> Self {
        let mut client = Client::new(key(99), hold, at(0));
        client.set_addresses(&[relay_at()], at(0));
        Self {
            client,
            exchange: Some(Exchange::new(terms(), [1; 32])),
            rng: ChaCha20Rng::seed_from_u64(1),
            own: ([203, 0, 113, 5], 41_641).into(),
            now_ms: 0,
            way: Vec::new(),
            sent: 0,
            seen: Vec::new(),
        }
    }

    /// Lets time pass, every millisecond of it.
    fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 1;
            self.step();
        }
    }

    fn step(&mut self) {
        let now = at(self.now_ms);
        let (due, later) = std::mem::take(&mut self.way)
            .into_iter()
            .partition(|(when, ..)| *when <= self.now_ms);
        self.way = later;
        for (_, at_relay, bytes) in due {
            if !at_relay {
                let word = (relay_at(), bytes.as_slice());
                self.client.on_word(word, &secret(1), now, &mut self.rng);
                continue;
            }
            let exchange = self.exchange.as_mut();
            let answer = exchange.and_then(|relay| relay.on_word(now, self.own, &bytes));
            if let Some(answer) = answer {
                let arrives = self.now_ms + WAY_MS;
                self.way.push((arrives, false, answer.to_bytes()));
            }
        }
        self.client.timeout(now, &mut self.rng);
        while let Some(event) = self.client.poll_event() {
            if let ClientEvent::Send(address, bytes) = &event {
                assert_eq!(*address, relay_at());
                self.sent += 1;
                self.way.push((self.now_ms + WAY_MS, true, bytes.clone()));
            } else {
                self.seen.push(event);
            }
        }
    }

    fn passes_to_client(&mut self) -> bool {
        let now = at(self.now_ms);
        let Some(exchange) = &mut self.exchange else {
            return false;
        };
        // Another client, that binds for the occasion.
        let other = ([192, 0, 2, 77], 7).into();
        let hello = Question::Hello([5; 12]).to_bytes();
        let Some(Answer::Cookie { cookie, .. }) = exchange.on_word(now, other, &hello) else {
            return false;
        };
        let mut txid = [0; 12];
        txid[..8].copy_from_slice(&self.now_ms.to_le_bytes());
        let bind = Bind::sign(&secret(2), &key(99), cookie, txid);
        let _bound = exchange.on_word(now, other, &Question::Bind(bind).to_bytes());
        let passed = exchange.pass(now, other, mailbox_of(&key(1)), 100);
        passed.is_ok_and(|(address, _)| address == self.own)
    }
}

#[test]
fn a_client_is_bound_after_two_round_trips_and_knows_its_address_and_theirs() {
    let mut stage = Stage::new(Hold::Bound);
    stage.run(41);
    assert!(stage.client.is_bound());
    assert!(stage.passes_to_client());
    let own = stage.own;
    assert!(stage.seen.contains(&ClientEvent::Seen(own)));
    assert!(stage.seen.contains(&ClientEvent::Bound(true)));
    assert_eq!(stage.client.rtt_us(), Some(20_000));
}

#[test]
fn a_binding_is_kept_for_hours_by_a_word_every_25_seconds() {
    let mut stage = Stage::new(Hold::Bound);
    stage.run(1000);
    let before = stage.sent;
    stage.run(2 * 3_600_000);
    assert!(stage.client.is_bound() && stage.passes_to_client());
    let words = stage.sent - before;
    assert!((280..=290).contains(&words), "{words}");
    let bounds = stage.seen.iter();
    let bounds = bounds.filter(|event| matches!(event, ClientEvent::Bound(_)));
    assert_eq!(bounds.count(), 1);
}

#[test]
fn a_relay_that_is_only_measured_gets_three_words_in_five_minutes_and_no_binding() {
    let mut stage = Stage::new(Hold::Measured);
    stage.run(290_000);
    assert_eq!((stage.sent, stage.client.is_measured()), (3, true));
    assert!(!stage.client.is_bound());
    assert_eq!(stage.client.rtt_us(), Some(20_000));
    stage.client.set_hold(Hold::Bound, at(stage.now_ms));
    stage.run(60);
    assert!(stage.client.is_bound());
}

#[test]
fn a_used_relay_that_dies_is_noticed_within_two_seconds_and_found_again() {
    let mut stage = Stage::new(Hold::Used);
    stage.run(5000);
    assert!(stage.client.is_bound());
    stage.exchange = None;
    stage.run(1700);
    assert!(!stage.client.is_bound());
    assert_eq!(stage.client.rtt_us(), None);
    // It comes back and knows nobody.
    stage.exchange = Some(Exchange::new(terms(), [2; 32]));
    stage.run(16_000);
    assert!(stage.client.is_bound() && stage.passes_to_client());
}

#[test]
fn a_relay_that_forgot_is_bound_to_again_with_its_next_answer() {
    let mut stage = Stage::new(Hold::Bound);
    stage.run(5000);
    stage.exchange = Some(Exchange::new(terms(), [2; 32]));
    stage.client.doubt(at(stage.now_ms));
    stage.run(45);
    assert!(stage.client.is_bound() && stage.passes_to_client());
}

#[test]
fn a_node_that_moved_is_bound_at_its_new_address() {
    let mut stage = Stage::new(Hold::Bound);
    stage.run(5000);
    stage.own = ([192, 0, 2, 200], 9).into();
    stage.client.restart(at(stage.now_ms));
    assert!(!stage.client.is_bound());
    stage.run(50);
    assert!(stage.client.is_bound() && stage.passes_to_client());
    let own = stage.own;
    assert!(stage.seen.contains(&ClientEvent::Seen(own)));
}

#[test]
fn a_relay_that_refuses_is_left_alone_for_a_minute() {
    let mut stage = Stage::new(Hold::Bound);
    let clients = Some([key(7)].into());
    stage.exchange = Some(Exchange::new(CarryTerms { clients, ..terms() }, [1; 32]));
    stage.run(2000);
    assert_eq!(stage.client.refused(), Some(Reason::NotAdmitted));
    let before = stage.sent;
    stage.run(50_000);
    assert!(!stage.client.is_bound());
    assert!(stage.sent - before <= 4, "{}", stage.sent - before);
}

#[test]
fn a_relay_that_is_not_there_is_asked_ever_more_rarely() {
    let mut stage = Stage::new(Hold::Bound);
    stage.exchange = None;
    stage.run(600_000);
    assert!(!stage.client.is_bound());
    assert!((15..=20).contains(&stage.sent), "{}", stage.sent);
}

#[test]
fn answers_to_nobodys_question_change_nothing() {
    let mut stage = Stage::new(Hold::Bound);
    stage.run(1000);
    let before = stage.seen.len();
    let standing = Standing {
        seen: ([6, 6, 6, 6], 6666).into(),
        bound: false,
        reason: Some(Reason::Full),
    };
    let words = [
        Answer::Bound {
            txid: [0; 12],
            standing,
        },
        Answer::Cookie {
            txid: [0; 12],
            standing,
            cookie: [0; 16],
        },
    ];
    for word in words {
        let bytes = word.to_bytes();
        let now = at(stage.now_ms);
        let word = (relay_at(), bytes.as_slice());
        stage.client.on_word(word, &secret(1), now, &mut stage.rng);
    }
    stage.run(10);
    assert!(stage.client.is_bound());
    assert_eq!(stage.seen.len(), before);
}

#[test]
fn of_several_addresses_the_one_that_answers_is_used() {
    let mut client = Client::new(key(99), Hold::Bound, at(0));
    let dead: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
    client.set_addresses(&[dead, relay_at()], at(0));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    client.timeout(at(0), &mut rng);
    let sent: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
    let [
        ClientEvent::Send(first, _),
        ClientEvent::Send(second, hello),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!((*first, *second), (dead, relay_at()));
    let mut exchange = Exchange::new(terms(), [1; 32]);
    let own = ([203, 0, 113, 5], 41_641).into();
    let answer = exchange.on_word(at(5), own, hello).unwrap().to_bytes();
    // The dead one cannot give the other's answer.
    client.on_word((dead, &answer), &secret(1), at(10), &mut rng);
    assert_eq!(client.address(), None);
    client.on_word((relay_at(), &answer), &secret(1), at(10), &mut rng);
    assert_eq!(client.address(), Some(relay_at()));
}
