//! An invite for one machine is redeemed in two partitions.

use meshnode_protocol::io::Standing;

use super::town::{self, AGREE_MS_MAX, JOIN_MS_MAX, converge};
use crate::machine::{MachineId, Stop};
use crate::people::Terms;
use crate::world::{Broken, World};

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.saturating_sub(4).max(6))?;
    without_an_admin(world, founder)?;
    with_an_admin(world, founder)
}

/// Nobody can settle: both wait for an admin's decision, and no engine has either.
fn without_an_admin(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let code = world.invite(founder, Terms::uses(1))?;
    converge(world, "all know the invite")?;
    world.stop(founder, Stop::Kill);
    let [one, two] = redeem_twice(world, &code)?;
    world.heal();
    let took = converge(world, "all agree on the two")?;
    world.milestone("agreement without an admin", took);
    for id in [one, two] {
        expect(world, id, Standing::Quarantined)?;
    }
    world.boot(founder);
    world.run_for(10_000)?;
    converge(world, "all agree with the founder")?;
    for id in [one, two] {
        expect(world, id, Standing::Quarantined)?;
    }
    Ok(())
}

/// The founder settles the one on its side: the other waits.
fn with_an_admin(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let code = world.invite(founder, Terms::uses(1))?;
    converge(world, "all know the invite")?;
    let [one, two] = redeem_twice(world, &code)?;
    world.run_until(
        "the founder settles the one it hears",
        AGREE_MS_MAX,
        |world| {
            let standing = standing(world, founder, one);
            standing == Some(Standing::Settled)
        },
    )?;
    world.heal();
    let took = converge(world, "all agree on the one")?;
    world.milestone("agreement with an admin", took);
    expect(world, one, Standing::Settled)?;
    expect(world, two, Standing::Pending)
}

/// Cuts the world and redeems the code on both sides: on the founder's first.
fn redeem_twice(world: &mut World, code: &str) -> Result<[MachineId; 2], Broken> {
    world.cut(|id| if id.0.is_multiple_of(2) { 0 } else { 1 });
    world.run_for(40_000)?;
    let doors = town::settled_public(world);
    let door = |group: u32| {
        let mut doors = doors.iter().copied();
        doors.find(|id| world.machine(*id).place.group == group)
    };
    let (Some(first), Some(second)) = (door(0), door(1)) else {
        world.fail("one side has no public member".to_owned());
        return Err(world.broken.clone().expect("it was just set"));
    };
    let mut newcomers = [first, second];
    for (at, door) in [first, second].into_iter().enumerate() {
        let site = world.network.add_public();
        let id = world.join(site, code, &[door]);
        world.run_until(
            "a code for one is redeemed on each side",
            JOIN_MS_MAX,
            |w| w.is_in(id),
        )?;
        newcomers[at] = id;
    }
    Ok(newcomers)
}

fn standing(world: &World, witness: MachineId, of: MachineId) -> Option<Standing> {
    let key = world.machine(of).key;
    let snapshot = world.snapshot(witness)?;
    let mut members = snapshot
        .peers
        .iter()
        .map(|p| &p.member)
        .chain([&snapshot.this]);
    let member = members.find(|member| member.transport == Some(key))?;
    Some(member.standing)
}

/// Every machine sees a newcomer in this standing, and has it in its engine only if that admits it.
fn expect(world: &mut World, of: MachineId, expected: Standing) -> Result<(), Broken> {
    for witness in world.running() {
        let seen = standing(world, witness, of);
        if seen != Some(expected) {
            let (of, witness) = (world.machine(of), world.machine(witness));
            let what = format!("{} sees {} as {seen:?}", witness.name, of.name);
            world.fail(format!("{what}, not as {expected:?}"));
        }
    }
    world.broken.clone().map_or(Ok(()), Err)
}
