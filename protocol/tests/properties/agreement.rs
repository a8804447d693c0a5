//! Code and model agree, in random networks; and a model that slips in a rule does not.

use proptest::prelude::*;

use crate::cases;
use crate::model::Model;
use crate::scenario::Scenario;
use crate::slips::Slip;
use crate::trial::{
    Tally, agree, backdate_no_effect, converge, no_displacement, no_laundering, seniors_untouched,
    trial,
};

/// Networks that are put to every test each time.
const NETWORKS: u64 = 400;
/// Networks in which a slip must show.
const SLIP_NETWORKS: u64 = 2000;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_view_is_what_the_naive_model_says(seed: u64) {
        let mut scenario = Scenario::random(seed);
        agree(&scenario);
        converge(&mut scenario);
    }

    #[test]
    fn prop_backdate_no_effect(seed: u64) {
        backdate_no_effect(&mut Scenario::random(seed), &mut Tally::default());
    }

    #[test]
    fn prop_no_laundering(seed: u64) {
        no_laundering(&mut Scenario::random(seed), &mut Tally::default());
    }

    #[test]
    fn prop_senior_untouchable(seed: u64) {
        seniors_untouched(&mut Scenario::random(seed), &mut Tally::default());
    }

    #[test]
    fn prop_junior_displaces_nobody(seed: u64) {
        no_displacement(&mut Scenario::random(seed), &mut Tally::default());
    }
}

#[test]
fn the_same_networks_each_time_stand_every_test() {
    let mut all = Tally::default();
    for seed in 0..NETWORKS {
        all.add(trial(seed));
    }
    // The probes are no empty words.
    let networks = NETWORKS as usize;
    assert!(all.hostile > networks && all.ended > networks, "{all:?}");
    assert!(
        all.laundered > networks / 4 && all.displaced > networks / 4,
        "{all:?}"
    );
}

#[test]
fn every_rule_told_wrongly_shows_in_some_network() {
    let mut left: Vec<Slip> = Slip::ALL.to_vec();
    for seed in 0..SLIP_NETWORKS {
        let scenario = Scenario::random(seed);
        let view = scenario.view();
        left.retain(|slip| {
            let model = Model::new(&scenario.authority, &scenario.left, Some(*slip));
            model.difference(&view).is_none() && model.stores(&scenario)
        });
        if left.is_empty() {
            return;
        }
    }
    panic!("no network shows {left:?}");
}
