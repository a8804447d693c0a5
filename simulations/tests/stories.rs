//! Every story, small, from fixed seeds; and that a seed is all there is to a run.

use simulations::report::Report;
use simulations::scenarios::{self, find};
use simulations::trace::Trace;

fn tell(name: &str, seed: u64, nodes: usize) -> Report {
    let scenario = find(name).expect("the story exists");
    scenarios::run(scenario, seed, nodes, Trace::default())
}

/// Runs a story from three seeds; a broken invariant names the command that replays it.
fn holds(name: &str, nodes: usize) {
    for seed in 1..=3 {
        let report = tell(name, seed, nodes);
        let broken = &report.broken;
        assert!(broken.is_none(), "{broken:?}\n{}", report.replay());
    }
}

#[test]
fn newcomers_get_in_at_any_member_while_the_founder_comes_and_goes() {
    holds("join-storm", 10);
}

#[test]
fn two_halves_that_both_grew_agree_after_they_hear_each_other_again() {
    holds("partition", 11);
}

#[test]
fn a_blackout_in_the_middle_of_writes_costs_nobody_its_membership() {
    holds("restart", 8);
}

#[test]
fn an_invite_for_one_never_lets_in_two() {
    holds("single-use", 8);
}

#[test]
fn a_lying_member_neither_stops_nor_changes_the_others() {
    holds("liars", 10);
}

#[test]
fn wrong_clocks_lose_no_record_and_widen_no_right() {
    holds("skew", 6);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let [once, again] = [(); 2].map(|()| tell("join-storm", 7, 6));
    assert_eq!(once.trace, again.trace);
    assert_eq!(once.events, again.events);
    assert_ne!(once.trace, tell("join-storm", 8, 6).trace);
}
