//! A device comes back after a year: the others moved, came and went meanwhile.

use meshnode_protocol::io::{Command, Reply};

use super::town::{self, AGREE_MS_MAX, JOIN_MS_MAX, converge};
use crate::chance::index;
use crate::machine::{MachineId, Stop};
use crate::people::Terms;
use crate::world::{Broken, World};

const MONTHS: u32 = 12;
const MONTH_MS: i64 = 365 * 24 * 3600 * 1000 / 12;
/// How long a network lives between two sleeps of a month.
const AWAKE_MS: u64 = 30_000;
/// The device that is away.
const AWAY: MachineId = MachineId(1);

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.max(5))?;
    world.stop(AWAY, Stop::Kill);
    let movers: Vec<_> = world
        .running()
        .into_iter()
        .filter(|id| *id != founder)
        .collect();
    let mut gone = Vec::new();
    for month in 0..MONTHS {
        world.let_clocks_pass(MONTH_MS);
        world.run_for(AWAKE_MS)?;
        // In the course of the year everybody but the founder moves.
        for id in movers.iter().skip(month as usize).step_by(MONTHS as usize) {
            if !gone.contains(id) {
                world.relocate(*id);
                world.run_for(500)?;
            }
        }
        let code = world.invite(founder, Terms::uses(1))?;
        let site = world.network.add_public();
        let newcomer = world.join(site, &code, &[founder]);
        world.run_until("a newcomer is in during the year", JOIN_MS_MAX, |world| {
            world.is_in(newcomer)
        })?;
        if month % 4 == 0 {
            gone.push(leave(world, &movers, &gone)?);
        }
    }
    converge(world, "all agree after a year")?;
    // It is elsewhere, too: all that it knows of the others is old, but for one that stayed where it was.
    world.move_off(AWAY);
    world.boot(AWAY);
    let took = converge(world, "the device that was away agrees with the others")?;
    world.milestone("back after a year", took);
    let took = world.run_until("it has a way to everybody", AGREE_MS_MAX, |world| {
        let snapshot = world.snapshot(AWAY);
        snapshot.is_some_and(|s| s.peers.iter().all(|peer| peer.online))
    })?;
    world.milestone("everybody reached after a year", took);
    town::rest(world)
}

/// Somebody says goodbye for ever.
fn leave(world: &mut World, movers: &[MachineId], gone: &[MachineId]) -> Result<MachineId, Broken> {
    let mut here = movers.to_vec();
    here.retain(|id| !gone.contains(id));
    let id = here[index(&mut world.rng, here.len())];
    let command = Command::Leave {
        wait_ms: 2000,
        force: false,
    };
    let number = world.command(id, command);
    world.run_until("a goodbye is heard", 5000, |world| {
        matches!(world.reply(id, number), Some(Reply::Left { .. }))
    })?;
    Ok(id)
}
