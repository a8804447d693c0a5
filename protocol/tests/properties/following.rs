//! A view that follows every change is the view that is computed from scratch.

use std::collections::{BTreeMap, BTreeSet};

use meshnode_protocol::authority::Authority;
use meshnode_protocol::id::NodeId;
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::{Pinned, Turn, View, ViewMember};
use proptest::prelude::*;

use crate::cases;
use crate::scenario::{ACTORS, NOW, Scenario};

/// Networks of each kind that are followed each time.
const NETWORKS: u64 = 150;

/// One thing that a replica hears.
#[derive(Clone)]
enum News {
    Op(Vec<u8>),
    Admit(Vec<u8>),
    Left(NodeId),
    Pins(BTreeMap<NodeId, Pinned>),
}

/// A replica that hears one thing after the other.
struct Replica {
    authority: Authority,
    left: BTreeSet<NodeId>,
    pins: BTreeMap<NodeId, Pinned>,
    view: View,
    /// How often it followed, and how often it began anew.
    turns: [usize; 2],
}

impl Replica {
    fn new(scenario: &Scenario) -> Self {
        let (authority, left) = (scenario.replica(), BTreeSet::new());
        Self {
            view: View::compute(&authority, &left, NOW),
            authority,
            left,
            pins: BTreeMap::new(),
            turns: [0, 0],
        }
    }

    fn hear(&mut self, news: &News) {
        // What is refused changes nothing.
        match news {
            News::Op(bytes) => drop(self.authority.insert_op(bytes)),
            News::Admit(bytes) => drop(self.authority.insert_admit(bytes)),
            News::Left(device) => drop(self.left.insert(*device)),
            News::Pins(pins) => {
                self.pins.clone_from(pins);
                let old = self.view.members().clone();
                let before = self.view.pin(pins.clone());
                told(before.iter(), &old, self.view.members());
            }
        }
    }

    /// Computed from scratch.
    fn scratch(&self, wall: Timestamp) -> View {
        let mut view = View::compute(&self.authority, &self.left, wall);
        view.pin(self.pins.clone());
        view
    }

    fn follow(&mut self, wall: Timestamp, seed: u64) {
        let old = self.view.clone();
        let turn = self.view.follow(&self.authority, &self.left, wall);
        let scratch = self.scratch(wall);
        assert_eq!(self.view, scratch, "seed {seed}, {turn:?}");
        assert_eq!(self.view.digest(), scratch.digest(), "seed {seed}");
        assert!(
            turn.changed || old.digest() == scratch.digest(),
            "seed {seed}"
        );
        told(turn.before.iter(), old.members(), self.view.members());
        let Turn { anew, .. } = turn;
        self.turns[usize::from(anew)] += 1;
    }
}

/// What is told of the members before is true and complete.
fn told<'a>(
    before: impl Iterator<Item = (&'a NodeId, Option<&'a ViewMember>)>,
    old: &BTreeMap<NodeId, ViewMember>,
    new: &BTreeMap<NodeId, ViewMember>,
) {
    let before: BTreeMap<_, _> = before.collect();
    let all: BTreeSet<&NodeId> = old.keys().chain(new.keys()).collect();
    let differ = all.into_iter().filter(|id| old.get(id) != new.get(id));
    let differ: BTreeMap<_, _> = differ.map(|id| (id, old.get(id))).collect();
    assert_eq!(before, differ);
}

impl Scenario {
    /// A network with a history without many quarrels.
    fn calm(seed: u64) -> Self {
        let mut scenario = Self::founded(seed);
        scenario.calm = true;
        scenario.with_a_history()
    }
}

/// Everything that was said, in some order: ops as they were said or anyhow, the rest among them.
fn news(scenario: &mut Scenario) -> Vec<News> {
    let mut ops: Vec<News> = scenario.ops.iter().cloned().map(News::Op).collect();
    if scenario.one_in(3) {
        for place in (1..ops.len()).rev() {
            let other = scenario.below(place + 1);
            ops.swap(place, other);
        }
    }
    let admits: Vec<News> = scenario.admits.iter().cloned().map(News::Admit).collect();
    let left = scenario.left.iter().copied().map(News::Left);
    let mut rest: Vec<News> = admits.iter().cloned().chain(left).collect();
    for _ in 0..6 {
        rest.push(News::Pins(pins(scenario)));
    }
    for one in rest {
        // Mostly late: who has no title yet, and what has no invite yet, is less to follow.
        let from = scenario.below(ops.len() + 1);
        let place = from + scenario.below(ops.len() + 1 - from);
        ops.insert(place, one);
    }
    ops.extend(admits);
    ops
}

/// What a policy may pin: also one name to two.
fn pins(scenario: &mut Scenario) -> BTreeMap<NodeId, Pinned> {
    let mut pins = BTreeMap::new();
    for _ in 0..scenario.below(4) {
        let view = scenario.view();
        let taken: Vec<_> = view.members().values().map(|m| m.name.clone()).collect();
        let name = match scenario.below(3) {
            0 => None,
            1 => Some(scenario.name()),
            _ => taken.get(scenario.below(1 + taken.len())).cloned(),
        };
        let actor = scenario.below(ACTORS);
        let pinned = Pinned {
            name,
            tags: scenario.one_in(2).then(|| scenario.tags()),
            owner: scenario.owner(),
        };
        pins.insert(scenario.nodes[actor], pinned);
    }
    pins
}

fn followed(mut scenario: Scenario) -> [usize; 2] {
    let mut replica = Replica::new(&scenario);
    let news = news(&mut scenario);
    for one in &news {
        replica.hear(one);
        if scenario.one_in(12) {
            continue;
        }
        let walls = [1, 5, 6, NOW.ms(), NOW.ms(), NOW.ms() + 1];
        let wall = walls[scenario.below(walls.len())];
        replica.follow(Timestamp::from_ms(wall), scenario.seed);
    }
    replica.turns
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_view_that_follows_is_the_view_from_scratch(seed: u64) {
        followed(Scenario::random(seed));
        followed(Scenario::calm(seed));
    }
}

#[test]
fn the_same_networks_are_followed_each_time_both_ways() {
    let mut all = [0, 0];
    for seed in 0..NETWORKS {
        for scenario in [Scenario::random(seed), Scenario::calm(seed)] {
            let turns = followed(scenario);
            all = [all[0] + turns[0], all[1] + turns[1]];
        }
    }
    let [followed, anew] = all;
    assert!(
        followed > 4 * NETWORKS as usize && anew > 4 * NETWORKS as usize,
        "{all:?}"
    );
}

#[test]
fn a_pinned_name_wins_and_who_had_it_gets_a_variant() {
    let mut scenario = Scenario::founded(1);
    scenario.calm = true;
    let genesis = scenario.authority.realm().genesis;
    for actor in [1, 2] {
        let mut grant = scenario.grant(actor, meshnode_protocol::body::Level::MEMBER);
        (grant.expires, grant.ext) = Default::default();
        let body = meshnode_protocol::body::Body::Grant(Box::new(grant));
        scenario.say_over(0, (0, genesis), vec![genesis], body);
    }
    let mut view = scenario.view();
    let plain = view.clone();
    let name = |view: &View, actor: usize| view.members()[&scenario.nodes[actor]].name.clone();
    let (old, wanted) = (name(&view, 1), name(&view, 2));
    let pin = |actors: &[usize]| -> BTreeMap<NodeId, Pinned> {
        let pinned = Pinned {
            name: Some(wanted.clone()),
            ..Pinned::default()
        };
        let pins = actors
            .iter()
            .map(|actor| (scenario.nodes[*actor], pinned.clone()));
        pins.collect()
    };
    view.pin(pin(&[1]));
    let suffix = &scenario.nodes[2].short()[..4];
    assert_eq!(name(&view, 1), wanted);
    assert_eq!(name(&view, 2), wanted.with_suffix(suffix));
    // What was granted stands: nobody claims it, and the digest is of that.
    assert_eq!(view.granted(&scenario.nodes[1]).unwrap().name, old);
    assert_eq!(view.digest(), plain.digest());
    // Of two devices with one pinned name neither gets it.
    view.pin(pin(&[0, 1]));
    assert_eq!(view, plain);
    view.pin(pin(&[1]));
    view.pin(BTreeMap::new());
    assert_eq!(view, plain);
}

#[test]
fn a_view_that_misses_something_is_noticed() {
    let mut noticed = [0; 3];
    for seed in 0..8 {
        let mut scenario = Scenario::calm(seed);
        let mut replica = Replica::new(&scenario);
        for one in news(&mut scenario) {
            replica.hear(&one);
            let kind = match one {
                News::Op(_) => 0,
                News::Admit(_) => 1,
                News::Left(_) => 2,
                News::Pins(_) => continue,
            };
            noticed[kind] += usize::from(replica.view != replica.scratch(NOW));
            replica.follow(NOW, seed);
        }
    }
    assert!(noticed.iter().all(|times| *times > 0), "{noticed:?}");
}
