//! Clocks between 1970 and 2099: all records are taken, no right is widened.

use meshnode_protocol::io::Reply;

use super::town::{self, AGREE_MS_MAX, converge};
use crate::chance::below;
use crate::machine::{MachineId, Stop, WALL_START_MS};
use crate::people::Terms;
use crate::world::{Broken, World};

/// How long the invite holds that must not be honoured afterwards.
const TTL_MS: u64 = 60_000;
/// 2099-12-31.
const LATEST_MS: u64 = 4_102_358_400_000;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.saturating_sub(2).max(4))?;
    let terms = Terms {
        ttl_ms: TTL_MS,
        ..Terms::uses(5)
    };
    let code = world.invite(founder, terms)?;
    converge(world, "all know the invite")?;
    skew_all(world, founder)?;
    records_arrive(world, "2")?;
    skew_all(world, founder)?;
    records_arrive(world, "3")?;
    world.run_for(TTL_MS)?;
    // The first has the oldest clock that there is, the second the latest.
    for (door, skew) in [(MachineId(1), oldest()), (MachineId(2), latest())] {
        refused(world, &code, door, skew)?;
        refused(world, &code, door, 0)?;
    }
    converge(world, "all agree at the end").map(|_| ())
}

fn oldest() -> i64 {
    -i64::try_from(WALL_START_MS).unwrap_or(i64::MAX)
}

fn latest() -> i64 {
    i64::try_from(LATEST_MS - WALL_START_MS).unwrap_or(i64::MAX)
}

/// All but the founder start again, each with another clock.
fn skew_all(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let version: u32 = world.version.parse().unwrap_or(0);
    world.version = (version + 1).to_string();
    for id in world.running() {
        world.stop(id, Stop::Kill);
        let skew = match id.0 {
            _ if id == founder => 0,
            1 => oldest(),
            2 => latest(),
            _ => {
                let wall = below(&mut world.rng, LATEST_MS);
                i64::try_from(wall).unwrap_or(0) + oldest()
            }
        };
        world.machine_mut(id).skew_ms = skew;
        world.run_for(200)?;
        world.boot(id);
    }
    Ok(())
}

/// Everybody hears of everybody's new version, whatever the clocks say.
fn records_arrive(world: &mut World, version: &'static str) -> Result<(), Broken> {
    let took = world.run_until("all records arrive", AGREE_MS_MAX, |world| {
        world.running().into_iter().all(|id| {
            world.snapshot(id).is_some_and(|snapshot| {
                let mut peers = snapshot.peers.iter();
                peers.all(|peer| peer.member.version.as_deref() == Some(version))
            })
        })
    })?;
    world.milestone("records arrive", took);
    Ok(())
}

/// The invite is over: nobody gets in by a witness whose clock is wrong.
fn refused(world: &mut World, code: &str, door: MachineId, skew: i64) -> Result<(), Broken> {
    let site = world.network.add_public();
    let id = world.join_as(("late", skew), site, code, door);
    world.run_for(20_000)?;
    let in_already = world.is_in(id);
    let told = world.machine(id).replies.iter();
    let joined = told
        .clone()
        .any(|(_, reply)| matches!(reply, Reply::Joined(_)));
    if in_already || joined {
        let door = world.machine(door).name.clone();
        world.fail(format!("{door} let somebody in by an invite that is over"));
    }
    world.stop(id, Stop::Kill);
    world.machine_mut(id).erased = true;
    world.broken.clone().map_or(Ok(()), Err)
}
