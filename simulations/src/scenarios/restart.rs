//! The power fails everywhere in the middle of writes; all boot together with clocks in 1970.

use meshnode_protocol::io::{Notice, State};

use super::town::{self, AGREE_MS_MAX, converge};
use crate::chance::{below, index};
use crate::invariants::{agree, equal};
use crate::machine::{MachineId, Sent, Stop, WALL_START_MS};
use crate::people::Terms;
use crate::world::{Broken, World};

/// Within which time all boot.
const STORM_MS: u64 = 4000;
/// Within how many outputs of a node its power fails.
const CRASH_OUTPUTS: u64 = 60;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.saturating_sub(1).max(3))?;
    let code = world.invite(founder, Terms::uses(2))?;
    let site = world.network.add_public();
    let joiner = world.join(site, &code, &[founder]);
    for id in world.all() {
        let left = below(&mut world.rng, CRASH_OUTPUTS);
        let left = u32::try_from(left).unwrap_or(0);
        world.machine_mut(id).crash = Some((left, Stop::PowerCut));
    }
    world.run_for(3000)?;
    blackout(world)?;

    let skew = -i64::try_from(WALL_START_MS).unwrap_or(i64::MAX);
    for id in world.all() {
        world.machine_mut(id).skew_ms = skew;
    }
    together(world, joiner)?;
    // The clocks are set: only then can a member judge whether the invite still holds.
    for id in world.all() {
        world.machine_mut(id).skew_ms = 0;
    }
    world.run_until("the interrupted join comes to its end", 120_000, |world| {
        world.is_in(joiner)
    })?;
    converge(world, "all agree with the newcomer")?;
    damage(world, founder)
}

/// All boot within two seconds: everybody has heard of everybody's new life within the limit.
fn together(world: &mut World, joiner: MachineId) -> Result<(), Broken> {
    world.count_anew();
    let mut members = world.all();
    let most = STORM_MS * 1000 / members.len() as u64;
    while !members.is_empty() {
        let chosen = index(&mut world.rng, members.len());
        let id = members.swap_remove(chosen);
        world.boot(id);
        let pause = below(&mut world.rng, most);
        world.run_for_us(pause)?;
    }
    let members: Vec<_> = world.all().into_iter().filter(|id| *id != joiner).collect();
    let took = world.run_until("all agree with clocks in 1970", AGREE_MS_MAX, |world| {
        agree(world, &members)
    })?;
    world.milestone("agreement with clocks in 1970", took);
    let took = took
        + world.run_until("all have heard the same", AGREE_MS_MAX, |world| {
            equal(world, &members)
        })?;
    world.milestone("everybody's new life heard by all", took);
    let sent: Vec<_> = members.iter().map(|id| world.machine(*id).sent).collect();
    let mean = |of: fn(&Sent) -> u64| sent.iter().map(of).sum::<u64>() / sent.len() as u64;
    world.figures.extend([
        (
            "restart: control bytes per node",
            mean(|sent| sent.control_bytes),
        ),
        (
            "restart: gossip bytes per node",
            mean(|sent| sent.gossip_bytes),
        ),
        (
            "restart: probe bytes per node",
            mean(|sent| sent.probe_bytes),
        ),
    ]);
    Ok(())
}

fn blackout(world: &mut World) -> Result<(), Broken> {
    for id in world.all() {
        world.stop(id, Stop::PowerCut);
    }
    world.run_for(60_000)
}

/// One member's disk loses an op that it had acknowledged: the others give it back.
fn damage(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let id = MachineId(1);
    world.stop(id, Stop::Kill);
    let machine = world.machine_mut(id);
    if !machine.disk.lose_newest_op() {
        world.fail("there was no op to lose".to_owned());
    }
    world.machine_mut(id).damaged = true;
    world.boot(id);
    let took = world.run_until("a damaged store is rebuilt", 60_000, |world| {
        let snapshot = world.snapshot(id);
        snapshot.is_some_and(|s| s.state == State::Running)
    })?;
    world.milestone("damaged store rebuilt", took);
    let machine = world.machine_mut(id);
    machine.damaged = false;
    if !machine.notices.contains(&Notice::Recovered) {
        world.fail("a damaged store went unnoticed".to_owned());
    }
    world.boot(founder);
    converge(world, "all agree after the rebuild").map(|_| ())
}
