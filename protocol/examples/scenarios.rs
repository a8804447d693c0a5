//! Puts very many random networks to every test of the view, and prints what was tried.
//!
//! Run with `cargo run --release -p meshnode-protocol --example scenarios -- 100000 [first seed]`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a measurement for people: it reads the clock, takes threads and prints"
)]

#[path = "../tests/properties/acts.rs"]
mod acts;
#[path = "../tests/properties/admission.rs"]
mod admission;
#[path = "../tests/properties/charter.rs"]
mod charter;
#[path = "../tests/properties/joins.rs"]
mod joins;
#[path = "../tests/properties/model.rs"]
mod model;
#[path = "../tests/properties/naming.rs"]
mod naming;
#[path = "../tests/properties/scenario.rs"]
mod scenario;
#[path = "../tests/properties/slips.rs"]
#[expect(dead_code, reason = "no rule is told wrongly here")]
mod slips;
#[path = "../tests/properties/standing.rs"]
mod standing;
#[path = "../tests/properties/trial.rs"]
mod trial;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use trial::{Tally, trial};

const THREADS: u64 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        let given = arguments.next();
        given.map_or(default, |given| given.parse().unwrap())
    };
    let (count, first) = (number(1000), number(0));
    let started = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| thread::spawn(move || run(first + thread, first + count)))
        .collect();
    let (mut all, mut broken) = (Tally::default(), 0);
    for thread in threads {
        let (tally, violations) = thread.join().unwrap();
        all.add(tally);
        broken += violations;
    }
    println!(
        "{count} networks from seed {first}: {} ops, {} hostile, {} devices put out, {} attempts to bring one back, \
         {} claims on seniors' names and addresses, {broken} violations, {} s",
        all.ops,
        all.hostile,
        all.ended,
        all.laundered,
        all.displaced,
        started.elapsed().as_secs()
    );
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(first: u64, end: u64) -> (Tally, u64) {
    let (mut all, mut broken) = (Tally::default(), 0);
    for seed in (first..end).step_by(THREADS as usize) {
        match catch_unwind(|| trial(seed)) {
            Ok(tally) => all.add(tally),
            Err(_) => {
                println!("seed {seed} breaks a rule");
                broken += 1;
            }
        }
    }
    (all, broken)
}
