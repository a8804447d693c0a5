//! Messages are lost, doubled and late, connections break in the middle of an answer: all agree all the same.

use meshnode_protocol::io::Standing;

use super::town::{self, AGREE_MS_MAX, JOIN_MS_MAX, converge};
use crate::chance::index;
use crate::invariants::equal;
use crate::machine::Stop;
use crate::network::Faults;
use crate::people::Terms;
use crate::world::{Broken, World};

/// Newcomers while the network is bad.
const NEWCOMERS: usize = 4;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.saturating_sub(NEWCOMERS).max(4))?;
    world.network.faults = Faults::BAD;
    let code = world.invite(founder, Terms::uses(NEWCOMERS))?;
    for _ in 0..NEWCOMERS {
        let site = town::site(world);
        let doors = town::settled_public(world);
        let door = doors[index(&mut world.rng, doors.len())];
        let id = world.join(site, &code, &[founder, door]);
        world.run_until(
            "a newcomer is in over a bad network",
            JOIN_MS_MAX,
            |world| world.is_in(id),
        )?;
    }
    let took = converge(world, "all agree on the newcomers over a bad network")?;
    world.milestone("agreement over a bad network", took);
    for id in world.running().into_iter().skip(1).step_by(2) {
        world.stop(id, Stop::PowerCut);
        world.run_for(300)?;
        world.boot(id);
    }
    let everybody = world.running();
    let took = world.run_until("all have heard the same", AGREE_MS_MAX, |world| {
        equal(world, &everybody)
    })?;
    world.milestone("new lives heard over a bad network", took);
    town::all_are(world, founder, Standing::Settled)
}
