//! Every story, small, from fixed seeds; and that a seed is all there is to a run.

use simulations::picture;
use simulations::report::Report;
use simulations::scenarios::{self, Camera, find};
use simulations::trace::Trace;

fn tell(name: &str, seed: u64, nodes: usize) -> Report {
    let scenario = find(name).expect("the story exists");
    scenarios::run(scenario, seed, nodes, Trace::default(), Camera::Off)
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
fn two_halves_that_edited_the_policy_agree_and_name_what_both_of_them_wrote() {
    holds("policy", 12);
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
fn skew_matrix() {
    holds("skew", 6);
}

#[test]
fn who_is_put_out_is_out_everywhere_and_has_no_later_key() {
    holds("revoke", 9);
}

#[test]
fn the_phrase_brings_back_whom_a_thief_put_out() {
    holds("recovery", 6);
}

#[test]
fn admins_approve_deny_promote_cancel_and_replace() {
    holds("people", 5);
}

#[test]
fn a_bad_network_delays_and_no_more() {
    holds("loss", 9);
}

#[test]
fn who_comes_back_after_a_year_finds_everybody() {
    holds("year", 6);
}

#[test]
fn a_newcomer_to_a_large_network_finds_the_few_that_run() {
    holds("bootstrap", 60);
}

#[test]
fn behind_hard_routers_all_who_talk_are_heard_by_relays_and_one_relay_may_die() {
    holds("relays", 10);
}

#[test]
fn a_film_changes_nothing_and_ends_in_agreement() {
    let scenario = find("partition").expect("the story exists");
    let filmed = scenarios::run(scenario, 7, 10, Trace::default(), Camera::On);
    assert_eq!(filmed.trace, tell("partition", 7, 10).trace);
    let last = filmed.moments.last().expect("there are pictures");
    assert!(last.heads == 1.0 && last.running == 10, "{last:?}");
    assert!(filmed.moments.iter().any(|moment| moment.heads < 1.0));
    let svg = picture::svg(&filmed);
    assert!(svg.starts_with("<svg") && svg.matches("<polyline").count() == 4);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let [once, again] = [(); 2].map(|()| tell("join-storm", 7, 6));
    assert_eq!(once.trace, again.trace);
    assert_eq!(once.events, again.events);
    assert_ne!(once.trace, tell("join-storm", 8, 6).trace);
}
