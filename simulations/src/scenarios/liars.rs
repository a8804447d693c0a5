//! One member in ten sends malformed and foreign items, bogus summaries and replays: the others agree all the same.

use meshnode_protocol::io::Standing;

use super::town::{self, JOIN_MS_MAX, converge};
use crate::chance::index;
use crate::machine::Stop;
use crate::people::Terms;
use crate::world::{Broken, World};

/// Of so many members one lies.
const LIARS_ONE_IN: usize = 10;
/// Newcomers while there are lies.
const NEWCOMERS: usize = 3;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.saturating_sub(NEWCOMERS).max(4))?;
    world.memory.foreign = world.foreign_ops();
    let mut members = world.running();
    members.retain(|id| *id != founder);
    for _ in 0..nodes.div_ceil(LIARS_ONE_IN) {
        let chosen = index(&mut world.rng, members.len());
        let liar = members.swap_remove(chosen);
        world.machine_mut(liar).liar = true;
    }
    let code = world.invite(founder, Terms::uses(NEWCOMERS))?;
    converge(world, "all honest know the invite")?;
    for _ in 0..NEWCOMERS {
        let site = world.network.add_public();
        let mut doors = town::settled_public(world);
        doors.retain(|door| !world.machine(*door).liar);
        let door = doors[index(&mut world.rng, doors.len())];
        let id = world.join(site, &code, &[door]);
        world.run_until("a newcomer is in among lies", JOIN_MS_MAX, |world| {
            world.is_in(id)
        })?;
    }
    // Those that start have most to ask, and may ask a liar.
    let honest: Vec<_> = world
        .running()
        .into_iter()
        .filter(|id| !world.machine(*id).liar)
        .collect();
    for id in honest.iter().skip(1).step_by(3) {
        world.stop(*id, Stop::PowerCut);
        world.run_for(5000)?;
        world.boot(*id);
    }
    let took = converge(world, "all honest agree among lies")?;
    world.milestone("agreement among lies", took);
    world.run_for(180_000)?;
    let ops = world.snapshot(founder).map(|s| s.ops);
    converge(world, "all honest still agree among lies")?;
    if world.snapshot(founder).map(|s| s.ops) != ops {
        world.fail("lies became ops".to_owned());
    }
    town::all_are(world, founder, Standing::Settled)
}
