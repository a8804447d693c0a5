//! Two halves that cannot hear each other take in newcomers, then hear each other again.

use meshnode_protocol::io::Standing;

use super::town::{self, AGREE_MS_MAX, JOIN_MS_MAX, converge, rest};
use crate::invariants::agree;
use crate::machine::MachineId;
use crate::people::Terms;
use crate::world::{Broken, World};

/// How long two halves may take to agree. Somebody who missed the news and waited for a random round took a minute.
const HEALED_MS_MAX: u64 = 15_000;
/// Newcomers on each side.
const NEWCOMERS: usize = 3;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let before = nodes.saturating_sub(2 * NEWCOMERS).max(4);
    let founder = town::grow(world, before)?;
    let codes = [
        world.invite(founder, Terms::uses(NEWCOMERS))?,
        world.invite(founder, Terms::uses(NEWCOMERS))?,
    ];
    converge(world, "all know the invites")?;

    world.cut(half);
    world.run_for(40_000)?;
    let mut sides: [Vec<MachineId>; 2] = [Vec::new(), Vec::new()];
    for id in world.all() {
        sides[half(id) as usize].push(id);
    }
    for (side, code) in sides.iter_mut().zip(&codes) {
        let doors = town::public(world, side);
        for at in 0..NEWCOMERS {
            let site = world.network.add_public();
            // Both halves give out the same names.
            let name = format!("laptop{at}");
            let door = doors[at % doors.len()];
            let id = world.join_as((&name, 0), site, code, door);
            world.run_until("a newcomer is in during the partition", JOIN_MS_MAX, |w| {
                w.is_in(id)
            })?;
            side.push(id);
        }
    }
    for side in &sides {
        world.run_until("each half agrees with itself", AGREE_MS_MAX, |world| {
            agree(world, side)
        })?;
    }
    world.heal();
    let took = converge(world, "both halves agree after healing")?;
    world.milestone("agreement after healing", took);
    if took > HEALED_MS_MAX {
        world.fail(format!("healing took {took} ms, over {HEALED_MS_MAX}"));
    }
    town::all_are(world, founder, Standing::Settled)?;
    rest(world)
}

const fn half(id: MachineId) -> u32 {
    if id.0.is_multiple_of(2) { 0 } else { 1 }
}
