//! One random network put to the test: model and code agree, and whoever should be powerless is.

use std::collections::BTreeSet;

use meshnode_protocol::body::{Body, Caps, Cut, Level};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::view::View;

use crate::model::Model;
use crate::scenario::{ACTORS, NOW, Scenario};

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Ops that were stored.
    pub(crate) ops: usize,
    /// Ops of those who were put out, or who reach above themselves.
    pub(crate) hostile: usize,
    /// Titles that a revocation ended.
    pub(crate) ended: usize,
    /// Attempts to bring a revoked device back by juniors and friends.
    pub(crate) laundered: usize,
    /// Names and addresses of seniors' giving that a junior claimed for another.
    pub(crate) displaced: usize,
}

impl Tally {
    /// What was tried in two networks.
    pub(crate) fn add(&mut self, more: Self) {
        self.ops += more.ops;
        self.hostile += more.hostile;
        self.ended += more.ended;
        self.laundered += more.laundered;
        self.displaced += more.displaced;
    }
}

/// Puts the network of a seed to the test.
pub(crate) fn trial(seed: u64) -> Tally {
    let mut scenario = Scenario::random(seed);
    let mut tally = Tally::default();
    agree(&scenario);
    converge(&mut scenario);
    backdate_no_effect(&mut scenario, &mut tally);
    no_laundering(&mut scenario, &mut tally);
    seniors_untouched(&mut scenario, &mut tally);
    no_displacement(&mut scenario, &mut tally);
    agree(&scenario);
    assert!(
        Model::new(&scenario.authority, &scenario.left, None).stores(&scenario),
        "the stored sets differ"
    );
    tally.ops = scenario.authority.op_count();
    tally.hostile += scenario.late;
    tally
}

/// Model and code say the same of the stored set.
pub(crate) fn agree(scenario: &Scenario) {
    let model = Model::new(&scenario.authority, &scenario.left, None);
    let difference = model.difference(&scenario.view());
    assert_eq!(difference, None, "seed {}", scenario.seed);
}

/// Another order of arrival, and another place to stop on the way, change nothing.
pub(crate) fn converge(scenario: &mut Scenario) {
    let mut ops = scenario.ops.clone();
    for place in (1..ops.len()).rev() {
        let other = scenario.below(place + 1);
        ops.swap(place, other);
    }
    let mut replica = scenario.replica();
    let half = ops.len() / 2;
    for op in &ops[..half] {
        let _ = replica.insert_op(op);
    }
    let old: Vec<OpId> = replica.ops().map(|op| op.id()).collect();
    for op in &ops[half..] {
        let _ = replica.insert_op(op);
    }
    let new: Vec<OpId> = replica.ops().map(|op| op.id()).collect();
    let mut later = new.iter();
    let kept = old.iter().all(|id| later.any(|op| op == id));
    assert!(kept, "the order moved");
    for admit in scenario.admits.iter().rev() {
        let _ = replica.insert_admit(admit);
    }
    let theirs = View::compute(&replica, &scenario.left, NOW);
    assert_eq!(theirs, scenario.view());
}

/// What a revoked admin says later over what it knew before changes nothing, however often it says it.
pub(crate) fn backdate_no_effect(scenario: &mut Scenario, tally: &mut Tally) {
    let before = scenario.view();
    let mut counted = 0;
    for (device, revoke) in scenario.revocations(0) {
        let revoker = scenario.authority.level_of(&revoke).unwrap();
        let clear = !scenario
            .authority
            .op(&revoke)
            .unwrap()
            .body()
            .ext()
            .must_understand();
        if !clear {
            continue;
        }
        for _ in 0..3 {
            // What the unreached among them said may have put the revoker out by now.
            if scenario.view().voids().contains_key(&revoke) {
                break;
            }
            let known: BTreeSet<OpId> = scenario.authority.ops().map(|op| op.id()).collect();
            scenario.backdate(0, device, revoke);
            let new = scenario
                .authority
                .ops()
                .find(|op| !known.contains(&op.id()));
            let Some(new) = new.map(|op| op.id()) else {
                continue;
            };
            tally.hostile += 1;
            let struck = scenario.authority.level_of(&new).unwrap() > revoker;
            if struck {
                assert!(scenario.view().voids().contains_key(&new), "{new} counts");
            } else {
                counted += 1;
            }
        }
    }
    if counted == 0 {
        assert_eq!(
            scenario.view().digest(),
            before.digest(),
            "a void op had an effect"
        );
    }
}

/// Admins whose effective title is of a level above `level`, with the cap to let in.
fn juniors(scenario: &Scenario, view: &View, level: Level) -> Vec<(usize, Level, OpId)> {
    let actors = 0..ACTORS;
    let juniors = actors.filter_map(|actor| {
        let member = view.live(&scenario.nodes[actor])?;
        let able = member.level.is_admin() && member.caps.contains(Caps::MEMBERS);
        let title = member.authority.filter(|_| able && member.level > level)?;
        Some((actor, member.level, title))
    });
    juniors.collect()
}

fn heads(scenario: &Scenario, title: OpId) -> Vec<OpId> {
    let heads = scenario.authority.heads();
    heads.into_iter().take(15).chain([title]).collect()
}

/// Who is junior to a revoker, friend or not, brings nobody back.
pub(crate) fn no_laundering(scenario: &mut Scenario, tally: &mut Tally) {
    let view = scenario.view();
    tally.ended += view.revoked().len();
    let revoked: Vec<(NodeId, OpId)> = view.revoked().iter().map(|(d, r)| (*d, *r)).collect();
    for (device, revoke) in revoked {
        let revoker = scenario.authority.level_of(&revoke).unwrap();
        let actor = scenario.nodes.iter().position(|node| *node == device);
        let actor = actor.unwrap();
        for (junior, level, title) in juniors(scenario, &view, revoker).into_iter().take(2) {
            let mut grant = plain(scenario, actor, Level(level.0 + 1));
            if grant.level.is_admin() {
                grant.caps = Caps::NONE;
            }
            let parents = heads(scenario, title);
            let body = Body::Grant(Box::new(grant));
            // What the founder's machine signs may be the root set's.
            if junior != 0 && scenario.say_over(0, (junior, title), parents, body) {
                tally.laundered += 1;
                assert!(scenario.view().live(&device).is_none(), "{device} is back");
            }
        }
    }
}

fn plain(scenario: &mut Scenario, actor: usize, level: Level) -> meshnode_protocol::body::Grant {
    let mut grant = scenario.grant(actor, level);
    (grant.owner, grant.tags, grant.may_tag) = Default::default();
    (grant.expires, grant.ext) = (None, Ext::NONE);
    grant
}

/// Whatever a junior signs against its seniors and equals leaves them and their ops as they are.
pub(crate) fn seniors_untouched(scenario: &mut Scenario, tally: &mut Tally) {
    let before = scenario.view();
    let Some((junior, level, title)) = juniors(scenario, &before, Level(1)).pop() else {
        return;
    };
    for victim in 0..ACTORS {
        let node = scenario.nodes[victim];
        if victim == junior {
            continue;
        }
        let mut body = scenario.revocation(0, node);
        if let Body::Revoke(revoke) = &mut body {
            (revoke.cut, revoke.ext) = (Cut::Nothing, Ext::NONE);
        }
        let parents = heads(scenario, title);
        tally.hostile += usize::from(scenario.say_over(0, (junior, title), parents, body));
    }
    let after = scenario.view();
    let senior = |id: &OpId| scenario.authority.level_of(id).unwrap() <= level;
    let void = |view: &View| -> Vec<OpId> {
        let voids = view.voids().keys().filter(|id| senior(id));
        voids.copied().collect()
    };
    assert_eq!(void(&before), void(&after), "a senior's op fell");
    for (id, member) in before.members().iter().filter(|(_, m)| m.level <= level) {
        let now = after.members().get(id);
        let same =
            now.is_some_and(|now| (now.level, now.authority) == (member.level, member.authority));
        assert!(same, "a senior was moved");
    }
}

/// A name or an address that a senior gave stays, whatever a junior claims.
pub(crate) fn no_displacement(scenario: &mut Scenario, tally: &mut Tally) {
    let before = scenario.view();
    let Some((junior, _, title)) = juniors(scenario, &before, Level(1)).pop() else {
        return;
    };
    let level = before.live(&scenario.nodes[junior]).unwrap().level;
    let held: Vec<(NodeId, bool, bool)> = before
        .members()
        .values()
        .filter_map(|member| {
            let op = member.authority?;
            let grant = scenario.authority.op(&op)?.body().grant()?;
            let senior = scenario.authority.level_of(&op)? < level;
            let (name, ipv4) = (grant.name == member.name, Some(grant.ipv4) == member.ipv4);
            senior.then_some((member.id, name, ipv4))
        })
        .collect();
    for (device, _, _) in &held {
        let member = &before.members()[device];
        let actor = scenario.below(ACTORS);
        if scenario.nodes[actor] == *device {
            continue;
        }
        let mut grant = plain(scenario, actor, Level::MEMBER);
        grant.name = member.name.clone();
        grant.ipv4 = member.ipv4.unwrap_or(grant.ipv4);
        let parents = heads(scenario, title);
        let body = Body::Grant(Box::new(grant));
        tally.displaced += usize::from(scenario.say_over(0, (junior, title), parents, body));
    }
    let after = scenario.view();
    for (device, name, ipv4) in held {
        let (old, new) = (&before.members()[&device], &after.members()[&device]);
        assert!(!name || old.name == new.name, "a name was taken");
        assert!(!ipv4 || old.ipv4 == new.ipv4, "an address was taken");
    }
}
