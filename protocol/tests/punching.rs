//! Two nodes behind every pair of routers, with a relay between them: what can be direct becomes direct in time,
//! everything else goes by the relay at once, and nobody who never answered is sent more than the budget.
//!
//! `MESHNODE_CASES` raises the number of seeds for each pair; a failing case prints the seed that repeats it.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first surprise, and most kinds of routers are alike in most respects"
)]

#[path = "punching/faults.rs"]
mod faults;
#[path = "punching/router.rs"]
mod router;
#[path = "punching/world.rs"]
mod world;

use faults::{Faults, Sight};
use router::Kind;
use world::{Outcome, World};

/// Seeds for each pair of routers.
fn seeds() -> u64 {
    let cases = std::env::var("MESHNODE_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(6)
}

/// What two routers allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Both send to where the other was seen.
    Plain,
    /// The ports of one are foretold.
    Foretold,
    /// Ports meet by chance.
    Chance,
    /// Nothing but a relay.
    Relay,
}

impl Reach {
    fn of(a: Kind, b: Kind) -> Self {
        let hard = |kind| matches!(kind, Kind::SymAddr | Kind::Sym);
        let strict = |kind| {
            matches!(
                kind,
                Kind::PubFw | Kind::Port | Kind::PortRand | Kind::Early
            )
        };
        match (a, b) {
            _ if (hard(a) && strict(b)) || (hard(b) && strict(a)) => Self::Chance,
            (Kind::SymSeq, Kind::SymSeq) => Self::Foretold,
            _ if (a == Kind::SymSeq && strict(b)) || (b == Kind::SymSeq && strict(a)) => {
                Self::Foretold
            }
            _ if (hard(a) && (hard(b) || b == Kind::SymSeq)) || (hard(b) && a == Kind::SymSeq) => {
                Self::Relay
            }
            _ => Self::Plain,
        }
    }

    /// Within which time both ends are to be direct, milliseconds.
    const fn target_ms(self) -> u64 {
        match self {
            Self::Plain => 1000,
            Self::Foretold => 1500,
            Self::Chance => 6000,
            Self::Relay => 8000,
        }
    }
}

fn pairs() -> impl Iterator<Item = (Kind, Kind)> {
    let from = |first: usize| {
        Kind::ALL[first..]
            .iter()
            .map(move |b| (Kind::ALL[first], *b))
    };
    (0..Kind::ALL.len()).flat_map(from)
}

fn run(a: Kind, b: Kind, seed: u64, faults: Faults, for_ms: u64) -> Outcome {
    let mut world = World::new(a, b, seed, faults);
    world.meet();
    world.run_for(for_ms);
    world.outcome()
}

#[test]
fn what_two_routers_allow_is_direct_in_time_and_the_rest_is_relayed_at_once() {
    let (mut tried, mut met) = (0, 0);
    for (a, b) in pairs() {
        let reach = Reach::of(a, b);
        for seed in 0..seeds() {
            let outcome = run(a, b, seed, Faults::NONE, reach.target_ms() + 2000);
            let case = format!("{a:?} x {b:?}, seed {seed}: {outcome:?}");
            assert!(outcome.first_packet_ms.unwrap() <= 100, "{case}");
            let direct = outcome.direct_ms.is_some_and(|ms| ms <= reach.target_ms());
            match reach {
                Reach::Plain | Reach::Foretold => assert!(direct, "{case}"),
                Reach::Chance => {
                    tried += 1;
                    met += usize::from(direct);
                }
                Reach::Relay => {}
            }
        }
    }
    // 1024 ports to 256 sockets meet in 98 of 100 runs.
    assert!(met * 100 >= tried * 93, "{met} of {tried}");
}

#[test]
fn with_loss_delay_and_disorder_it_takes_a_little_longer() {
    let faults = Faults {
        loss_permille: 20,
        late_us: 60_000,
    };
    let (mut tried, mut late) = (0, Vec::new());
    for (a, b) in pairs() {
        let reach = Reach::of(a, b);
        if !matches!(reach, Reach::Plain | Reach::Foretold) {
            continue;
        }
        for seed in 0..seeds() {
            let outcome = run(a, b, seed, faults, 14_000);
            tried += 1;
            if outcome.direct_ms.is_none_or(|ms| ms > 2500) {
                late.push((a, b, seed, outcome.direct_ms));
            }
            // The relay's packets are lost like any others.
            assert!(
                outcome.first_packet_ms.unwrap() <= 2000,
                "{a:?} x {b:?}, {seed}"
            );
        }
    }
    assert!(
        late.len() * 20 <= tried,
        "{} of {tried}: {late:?}",
        late.len()
    );
}

#[test]
fn an_address_that_never_answered_gets_no_more_than_its_budget() {
    for (a, b) in pairs() {
        let mut world = World::new(a, b, 7, Faults::NONE);
        world.mute_directly();
        world.meet();
        world.run_for(120_000);
        let outcome = world.outcome();
        assert_eq!(outcome.direct_ms, None);
        // Three ladders of eight, and what a run aims from 256 sockets, twice.
        let random = |kind| matches!(kind, Kind::SymAddr | Kind::Sym);
        let run = if random(a) == random(b) { 0 } else { 512 };
        for (to, count) in &outcome.unanswered {
            let most = if outcome.aimed.contains(to) {
                24 + run
            } else {
                24
            };
            assert!(*count <= most, "{a:?} x {b:?}: {count} to {to}");
        }
        assert!(
            outcome.strangers <= 1024 + 24,
            "{a:?} x {b:?}: {}",
            outcome.strangers
        );
    }
}

#[test]
fn a_router_that_reboots_is_met_again() {
    for (a, b) in pairs() {
        if Reach::of(a, b) != Reach::Plain {
            continue;
        }
        for seed in 0..seeds().div_ceil(3) {
            let mut world = World::new(a, b, seed, Faults::NONE);
            world.meet();
            world.run_for(8000);
            assert!(world.is_direct(), "{a:?} x {b:?}, {seed}");
            world.reboot();
            world.run_for(10_000);
            let case = format!("{a:?} x {b:?}, seed {seed}: {:?}", world.outcome());
            assert!(world.longest_gap_ms() <= 3000, "{case}");
            assert!(world.is_direct(), "{case}");
        }
    }
}

#[test]
fn packets_that_come_before_the_first_went_out_close_no_way() {
    for other in Kind::ALL {
        if !matches!(Reach::of(Kind::Early, other), Reach::Plain) {
            continue;
        }
        for seed in 0..seeds() {
            let outcome = run(Kind::Early, other, seed, Faults::NONE, 40_000);
            assert!(
                outcome.direct_ms.is_some(),
                "{other:?}, seed {seed}: {outcome:?}"
            );
        }
    }
}

#[test]
fn a_router_that_is_known_late_is_met_soon_after() {
    for (a, b) in pairs() {
        let reach = Reach::of(a, b);
        if reach == Reach::Relay {
            continue;
        }
        let (mut tried, mut met) = (0, 0);
        for seed in 0..seeds() {
            let late_ms = 300 + 400 * seed;
            let sight = Sight {
                late_ms,
                ..Sight::FULL
            };
            let mut world = World::with_sight(a, b, seed, Faults::NONE, sight);
            world.meet();
            world.run_for(late_ms + reach.target_ms() + 2000);
            let outcome = world.outcome();
            let direct = outcome
                .direct_ms
                .is_some_and(|ms| ms <= late_ms + reach.target_ms());
            tried += 1;
            met += u64::from(direct);
            assert!(
                direct || reach == Reach::Chance,
                "{a:?} x {b:?}, seed {seed}: {outcome:?}"
            );
        }
        assert!(met * 2 > tried, "{a:?} x {b:?}: {met} of {tried}");
    }
}

#[test]
fn one_that_tells_where_it_sees_them_is_enough_where_one_router_keeps_its_port() {
    let sight = Sight {
        tellers: 1,
        ..Sight::FULL
    };
    for a in [Kind::Port, Kind::PubFw] {
        for b in [Kind::SymSeq, Kind::SymAddr, Kind::Sym] {
            let met = (0..seeds()).filter(|seed| {
                let mut world = World::with_sight(a, b, *seed, Faults::NONE, sight);
                world.meet();
                world.run_for(Reach::Chance.target_ms());
                world.outcome().direct_ms.is_some()
            });
            let met = met.count() as u64;
            assert!(met * 10 >= seeds() * 8, "{a:?} x {b:?}: {met}");
        }
    }
}
