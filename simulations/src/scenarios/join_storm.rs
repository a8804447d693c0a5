//! Machines join one after another at random members while the founder goes off and on.

use meshnode_protocol::io::Standing;

use super::town::{self, JOIN_MS_MAX, converge, rest};
use crate::chance::{index, permille};
use crate::machine::{MachineId, Stop};
use crate::people::Terms;
use crate::world::{Broken, World};

/// Newcomers for one invite.
const USES: usize = 8;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.min(4))?;
    let mut code = String::new();
    let mut left = 0;
    let mut slowest = 0;
    while world.machines.len() < nodes {
        if left == 0 {
            world.boot(founder);
            world.run_for(2000)?;
            code = world.invite(founder, Terms::uses(USES))?;
            left = USES;
        } else {
            toggle(world, founder)?;
        }
        left -= 1;
        slowest = slowest.max(join_somewhere(world, &code)?);
    }
    world.milestone("slowest join", slowest);
    world.boot(founder);
    let took = converge(world, "all agree after the storm")?;
    world.milestone("agreement after the storm", took);
    town::all_are(world, founder, Standing::Settled)?;
    rest(world)
}

fn toggle(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    if world.machine(founder).node.is_none() {
        world.boot(founder);
        return world.run_for(1000);
    }
    if permille(&mut world.rng, 500) {
        let stop = if permille(&mut world.rng, 500) {
            Stop::Kill
        } else {
            Stop::PowerCut
        };
        world.stop(founder, stop);
    }
    Ok(())
}

/// Someone joins where a settled member can be reached.
fn join_somewhere(world: &mut World, code: &str) -> Result<u64, Broken> {
    let site = town::site(world);
    let reachable: Vec<_> = world
        .running()
        .into_iter()
        .filter(|id| {
            let place = world.machine(*id).place;
            let settled = world
                .snapshot(*id)
                .is_some_and(|s| s.this.standing == Standing::Settled);
            settled && (world.network.is_public(place.site) || place.site == site)
        })
        .collect();
    let chosen = reachable[index(&mut world.rng, reachable.len())];
    let id = world.join(site, code, &[chosen]);
    world.run_until("a newcomer is in", JOIN_MS_MAX, |world| world.is_in(id))
}
