//! Nobody gets through to anybody but by two public machines: all who talk are heard soon, and one relay may die.

use meshnode_protocol::peering::Path;

use super::revoke::put_out;
use super::town::{self, converge};
use crate::chance::index;
use crate::machine::{MachineId, Stop};
use crate::people::Terms;
use crate::world::{Broken, World};

/// How long the first packet of a pair may take.
const FIRST_MS_MAX: u64 = 1500;
/// How long a pair may be apart when its relay dies.
const GAP_MS_MAX: u64 = 3000;
/// Newcomers for one invite, and at once.
const BATCH: usize = 10;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let relays = [(); 2].map(|()| world.network.add_public());
    let founder = world.found(relays[0]);
    world.run_for(100)?;
    let code = world.invite(founder, Terms::uses(1))?;
    let other = world.join(relays[1], &code, &[founder]);
    let everybody = [founder, other];
    world.run_until("the second relay is in", town::JOIN_MS_MAX, |world| {
        world.is_in(everybody[1])
    })?;
    while world.machines.len() < nodes.max(6) {
        let count = BATCH.min(nodes.max(6) - world.machines.len());
        let code = world.invite(founder, Terms::uses(count))?;
        let join = |world: &mut World| {
            let site = world.network.add_hard_home();
            world.join(site, &code, &everybody)
        };
        let batch: Vec<_> = (0..count).map(|_| join(world)).collect();
        world.run_until("a batch of newcomers is in", town::JOIN_MS_MAX, |world| {
            batch.iter().all(|id| world.is_in(*id))
        })?;
    }
    converge(world, "all know each other")?;
    let hard: Vec<_> = world.all().into_iter().skip(2).collect();
    world.run_until("everybody is at home somewhere", 60_000, |world| {
        hard.iter().all(|id| homes(world, *id) == 2)
    })?;
    world.run_for(2000)?;

    let pairs = pairs(world, &hard);
    world.talk(&pairs, FIRST_MS_MAX)?;
    heard(world, &pairs, "within the first moments")?;
    by_relays(world, &pairs)?;

    for (a, b) in &pairs {
        world.gap_ms(*a, *b);
        world.gap_ms(*b, *a);
    }
    world.stop(other, Stop::PowerCut);
    world.talk(&pairs, 10_000)?;
    let gap = longest_gap(world, &pairs);
    world.milestone("longest silence when a relay died", gap);
    if gap > GAP_MS_MAX {
        world.fail(format!("a pair was apart for {gap} ms when a relay died"));
    }
    heard(world, &pairs, "after a relay died")?;

    world.boot(other);
    converge(world, "the relay is back")?;
    world.talk(&pairs, 5000)?;
    nobody_hears_who_is_out(world, founder, &pairs)
}

/// What is sent to and by a node that was put out reaches nobody, by whatever relay.
fn nobody_hears_who_is_out(
    world: &mut World,
    founder: MachineId,
    pairs: &[(MachineId, MachineId)],
) -> Result<(), Broken> {
    let all = world.all();
    let (out, partner) = pairs[0];
    let relays = [all[0], all[1]];
    if !relays.iter().any(|relay| world.passes(*relay, out)) {
        world.fail("a pair talks by no relay".to_owned());
    }
    put_out(world, founder, out, &all)?;
    let before = world.packets(out, partner) + world.packets(partner, out);
    world.talk(&pairs[..1], 1000)?;
    for _ in 0..20 {
        for relay in relays {
            world.force_packet(out, partner, relay);
            world.force_packet(partner, out, relay);
        }
        world.run_for(50)?;
    }
    if world.packets(out, partner) + world.packets(partner, out) != before {
        world.fail("packets pass between a member and who is out".to_owned());
    }
    if relays.iter().any(|relay| world.passes(*relay, out)) {
        world.fail("a relay passes packets of who is out".to_owned());
    }
    let mut left = pairs.to_vec();
    left.retain(|(a, b)| *a != out && *b != out);
    world.talk(&left, 2000)?;
    heard(world, &left, "after one was put out")
}

fn homes(world: &World, id: MachineId) -> usize {
    world.machine(id).homes.len()
}

/// Everybody talks with two others that chance picks.
fn pairs(world: &mut World, hard: &[MachineId]) -> Vec<(MachineId, MachineId)> {
    let mut pairs = Vec::new();
    for (at, from) in hard.iter().enumerate() {
        for _ in 0..2 {
            let other = hard[(at + 1 + index(&mut world.rng, hard.len() - 1)) % hard.len()];
            let pair = (*from.min(&other), *from.max(&other));
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

/// Fails unless every pair heard each other in the last second.
fn heard(world: &mut World, pairs: &[(MachineId, MachineId)], when: &str) -> Result<(), Broken> {
    let recent = |world: &World, at: MachineId, from: MachineId| {
        let heard = world.machine(at).heard_from.get(&from);
        heard.is_some_and(|heard| heard.last_us + 1_000_000 > world.now_us)
    };
    for (a, b) in pairs.iter().copied() {
        if !recent(world, a, b) || !recent(world, b, a) {
            let [one, two] = [a, b].map(|id| world.machine(id).name.clone());
            let paths = [world.path(a, b), world.path(b, a)];
            world.fail(format!(
                "{one} and {two} do not hear each other {when}: {paths:?}"
            ));
            return Err(world.broken.clone().expect("it was just set"));
        }
    }
    Ok(())
}

/// Nothing else gets through these routers.
fn by_relays(world: &mut World, pairs: &[(MachineId, MachineId)]) -> Result<(), Broken> {
    for (a, b) in pairs.iter().copied() {
        let path = world.path(a, b);
        if !matches!(path, Some(Path::Relayed { .. } | Path::Circuit(_))) {
            world.fail(format!("packets pass two hard routers by {path:?}"));
            return Err(world.broken.clone().expect("it was just set"));
        }
    }
    Ok(())
}

fn longest_gap(world: &mut World, pairs: &[(MachineId, MachineId)]) -> u64 {
    let both = pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
    let gaps: Vec<_> = both.map(|(at, from)| world.gap_ms(at, from)).collect();
    gaps.into_iter().max().unwrap_or(0)
}
