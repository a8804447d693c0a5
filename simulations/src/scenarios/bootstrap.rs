//! Newcomers to a large network of which only a few members run: what they must fetch, and how long that takes.

use super::town::{JOIN_MS_MAX, converge};
use crate::machine::{MachineId, Sent};
use crate::people::Terms;
use crate::world::{Broken, World};

/// Members that run.
const RUNNING: usize = 12;
/// Newcomers.
const NEWCOMERS: usize = 3;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let members = nodes.saturating_sub(NEWCOMERS).max(4);
    let founder = world.charter(members)?;
    // The first of them stand in public.
    for number in 0..RUNNING.min(members) {
        world.boot(MachineId(number));
        world.run_for(200)?;
    }
    converge(world, "the members that run agree")?;
    let code = world.invite(founder, Terms::uses(NEWCOMERS))?;
    let mut slowest = 0;
    let mut bytes = 0;
    for _ in 0..NEWCOMERS {
        world.count_anew();
        let site = world.network.add_public();
        let id = world.join(site, &code, &[founder]);
        let took = world.run_until("a newcomer is in", JOIN_MS_MAX, |world| world.is_in(id))?;
        slowest = slowest.max(took);
        let of = |sent: &Sent| sent.control_bytes + sent.gossip_bytes;
        let all = world.machines.iter().map(|machine| of(&machine.sent));
        bytes = bytes.max(all.sum());
        let took = converge(world, "all that run agree on the newcomer")?;
        world.milestone("one change known by all that run", took);
    }
    world.milestone("slowest join", slowest);
    world
        .figures
        .push(("bytes on the control plane during one join", bytes));
    Ok(())
}
