//! What the stories share: a network of homes and public machines, and the wait for agreement.

use meshnode_protocol::node::Node;

use crate::chance::{below, index};
use crate::invariants::{agree, check_machine};
use crate::machine::{MachineId, Sent};
use crate::network::SiteId;
use crate::people::Terms;
use crate::world::{Broken, World};

/// Machines in one home.
const HOME: usize = 4;
/// Newcomers for one invite, and at once.
const BATCH: usize = 16;
/// The largest network that grows join by join; a larger one has been for long.
const GROWN_MAX: usize = 24;
/// How long a join may take, even with losses.
pub(super) const JOIN_MS_MAX: u64 = 40_000;
/// How long all who hear each other may take to agree.
pub(super) const AGREE_MS_MAX: u64 = 90_000;
/// How long a network at rest is measured.
const REST_MS: u64 = 120_000;
/// What one node may send on the control plane in a minute at rest, whatever the size of the network: below 1 kbit/s.
const REST_BYTES_MAX: u64 = 7_000;

/// A machine in three stands in public, the others in homes.
pub(crate) fn site(world: &mut World) -> SiteId {
    let number = world.machines.len();
    if number < 3 || number.is_multiple_of(3) {
        return world.network.add_public();
    }
    let homes: Vec<_> = (0..world.network.sites.len())
        .map(SiteId)
        .filter(|site| !world.network.is_public(*site))
        .collect();
    let full = number.is_multiple_of(HOME) || homes.is_empty();
    if full {
        world.network.add_home()
    } else {
        homes[index(&mut world.rng, homes.len())]
    }
}

/// A network of so many machines that all run and know each other: a small one really grows.
pub(super) fn grow(world: &mut World, nodes: usize) -> Result<MachineId, Broken> {
    if nodes <= GROWN_MAX {
        return grow_by_joins(world, nodes);
    }
    let founder = world.charter(nodes)?;
    boot_all(world)?;
    let took = converge(world, "all members agree after the first start")?;
    world.milestone("grown", took);
    Ok(founder)
}

/// Boots everything that is off, in any order, close together.
pub(super) fn boot_all(world: &mut World) -> Result<(), Broken> {
    let mut off = world.all();
    off.retain(|id| world.machine(*id).node.is_none());
    while !off.is_empty() {
        let chosen = index(&mut world.rng, off.len());
        let id = off.swap_remove(chosen);
        world.boot(id);
        let pause = below(&mut world.rng, 50);
        world.run_for(pause)?;
    }
    Ok(())
}

fn grow_by_joins(world: &mut World, nodes: usize) -> Result<MachineId, Broken> {
    let site_of_founder = world.network.add_public();
    let founder = world.found(site_of_founder);
    world.run_for(100)?;
    while world.machines.len() < nodes {
        let count = BATCH.min(nodes - world.machines.len());
        let code = world.invite(founder, Terms::uses(count))?;
        // A member lets only so many in a minute knock: the newcomers spread over all that can be called.
        let doors = settled_public(world);
        let mut batch = Vec::new();
        for _ in 0..count {
            let site = site(world);
            let door = doors[index(&mut world.rng, doors.len())];
            batch.push(world.join(site, &code, &[founder, door]));
        }
        world.run_until("a batch of newcomers is in", JOIN_MS_MAX, |world| {
            batch.iter().all(|id| world.is_in(*id))
        })?;
    }
    let took = converge(world, "all members agree after growing")?;
    world.milestone("grown", took);
    Ok(founder)
}

/// Waits until all running honest machines agree.
pub(super) fn converge(world: &mut World, what: &'static str) -> Result<u64, Broken> {
    let machines = honest(world);
    let took = world.run_until(what, AGREE_MS_MAX, |world| agree(world, &machines));
    let Ok(took) = took else {
        explain(world, &machines);
        return Err(world.broken.clone().expect("what is explained is broken"));
    };
    for id in machines {
        check_machine(world, id);
    }
    match world.broken.clone() {
        Some(broken) => Err(broken),
        None => Ok(took),
    }
}

fn honest(world: &World) -> Vec<MachineId> {
    let running = world.running().into_iter();
    running.filter(|id| !world.machine(*id).liar).collect()
}

/// Adds to a failure to agree who stands apart.
fn explain(world: &mut World, machines: &[MachineId]) {
    let mut lines = Vec::new();
    for id in machines {
        let machine = world.machine(*id);
        let line = match world.snapshot(*id) {
            Some(s) => {
                let unknown = s.peers.iter().filter(|p| p.member.version.is_none());
                let unknown: Vec<_> = unknown.map(|p| p.member.name.as_str()).collect();
                format!(
                    "{}: view {}, {} ops, {} peers, without record {:?}, {:?}",
                    machine.name,
                    s.view.short(),
                    s.ops,
                    s.peers.len(),
                    unknown,
                    s.state
                )
            }
            None => format!("{}: no view", machine.name),
        };
        lines.push(line);
    }
    if let Some(broken) = &mut world.broken {
        broken.0 = format!("{}\n  {}", broken.0, lines.join("\n  "));
    }
}

/// Lets the network rest, and holds what it sends meanwhile against the limit.
pub(super) fn rest(world: &mut World) -> Result<(), Broken> {
    // What the last story left in flight is not rest.
    world.run_for(15_000)?;
    world.count_anew();
    world.run_for(REST_MS)?;
    let running = world.running();
    let minutes = REST_MS / 60_000;
    for (what, of) in SPENT {
        let figure = spent(world, &running, minutes, of);
        world.figures.push((what, figure));
    }
    if let Some(fault) = overspent(world, &running, minutes) {
        world.fail(fault);
    }
    world.broken.clone().map_or(Ok(()), Err)
}

type Count = fn(&Sent) -> u64;

/// What a network at rest is measured by.
const SPENT: [(&str, Count); 4] = [
    ("rest: control bytes per node-minute", |sent| {
        sent.control_bytes
    }),
    ("rest: gossip bytes per node-minute", |sent| {
        sent.gossip_bytes
    }),
    ("rest: probe bytes per node-minute", |sent| sent.probe_bytes),
    ("rest: wakes per node-minute", |sent| sent.wakes),
];

/// What a machine sent a minute, in the mean.
fn spent(world: &World, machines: &[MachineId], minutes: u64, of: Count) -> u64 {
    let sum: u64 = machines.iter().map(|id| of(&world.machine(*id).sent)).sum();
    sum / minutes / machines.len().max(1) as u64
}

/// What is wrong if machines at rest sent more than they may.
pub(crate) fn overspent(world: &World, machines: &[MachineId], minutes: u64) -> Option<String> {
    let control = spent(world, machines, minutes, |sent| sent.control_bytes);
    let gossip = spent(world, machines, minutes, |sent| sent.gossip_bytes);
    (control + gossip > REST_BYTES_MAX).then(|| {
        format!("{control} + {gossip} control bytes per node-minute at rest, over {REST_BYTES_MAX}")
    })
}

/// Fails unless one machine sees all others with this standing.
pub(super) fn all_are(
    world: &mut World,
    witness: MachineId,
    standing: meshnode_protocol::io::Standing,
) -> Result<(), Broken> {
    let Some(snapshot) = world.snapshot(witness) else {
        world.fail("the witness has no view".to_owned());
        return world.broken.clone().map_or(Ok(()), Err);
    };
    let other = snapshot
        .peers
        .iter()
        .find(|peer| peer.member.standing != standing);
    if let Some(other) = other {
        let (name, other) = (other.member.name.as_str(), other.member.standing);
        world.fail(format!("{name} is {other:?}, not {standing:?}"));
    }
    world.broken.clone().map_or(Ok(()), Err)
}

/// Those of some machines that the whole internet can call.
pub(super) fn public(world: &World, of: &[MachineId]) -> Vec<MachineId> {
    let is_public = |id: &&MachineId| world.network.is_public(world.machine(**id).place.site);
    of.iter().filter(is_public).copied().collect()
}

/// The running settled members that the whole internet can call.
pub(super) fn settled_public(world: &World) -> Vec<MachineId> {
    let settled = |id: &MachineId| {
        let node = world.machine(*id).node.as_ref();
        let settled = |node: &Node| node.view().is_some_and(|v| v.settled_witness(&node.id()));
        node.is_some_and(settled)
    };
    let mut doors = public(world, &world.running());
    doors.retain(settled);
    doors
}
