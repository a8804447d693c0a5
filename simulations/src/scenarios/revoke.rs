//! Nodes are put out: with everybody there, then by two admins that cannot hear each other.

use meshnode_protocol::io::{Act, Command, Reply, RevokeOptions, State};

use super::town::{self, AGREE_MS_MAX, converge};
use crate::invariants::agree;
use crate::machine::MachineId;
use crate::world::{Broken, World};

/// How long an act waits to be heard.
const WAIT_MS: u64 = 10_000;

pub(super) const ACT: Act = Act {
    dry_run: false,
    wait_ms: WAIT_MS,
};

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.max(8))?;
    let all = world.all();
    let admins = [all[1], all[2]];
    for admin in admins {
        let node = id_of(world, admin)?;
        act(world, founder, Command::AdminAdd { node, act: ACT })?;
    }
    converge(world, "all know the admins")?;

    let old = all[all.len() - 1];
    let took = put_out(world, founder, old, &all)?;
    world.milestone("a revocation is heard by all", took);
    let live: Vec<_> = all.iter().copied().filter(|id| *id != old).collect();
    same_epoch(world, &live, &[old], 1)?;

    // Two admins start one epoch each of one number, and neither knows whom the other put out.
    world.cut(half);
    world.run_for(40_000)?;
    let victims = victims(world, &live, founder, admins)?;
    for (admin, victim) in admins.into_iter().zip(victims) {
        let options = revoke(world, &[victim])?;
        act(world, admin, Command::Revoke(Box::new(options)))?;
    }
    world.heal();
    let live: Vec<_> = live
        .into_iter()
        .filter(|id| !victims.contains(id))
        .collect();
    let took = world.run_until("both halves agree who is out", AGREE_MS_MAX, |world| {
        agree(world, &live)
    })?;
    world.milestone("agreement on two revocations", took);
    // The winner of the two epochs had not heard of one of the victims: a clean one follows by itself.
    world.run_until("a clean epoch is in force", AGREE_MS_MAX, |world| {
        let epoch = |id: &MachineId| world.snapshot(*id).map_or(0, |snapshot| snapshot.epoch);
        live.iter().all(|id| epoch(id) >= 3)
    })?;
    let out = [old, victims[0], victims[1]];
    world.run_until("who is out knows it", 700_000, |world| {
        out.iter().all(|id| is_out(world, *id))
    })?;
    same_epoch(world, &live, &out, 3)
}

/// One member of each half that is neither founder nor admin, public, so that it is told at once.
fn victims(
    world: &mut World,
    live: &[MachineId],
    founder: MachineId,
    admins: [MachineId; 2],
) -> Result<[MachineId; 2], Broken> {
    let mut found = Vec::new();
    for side in admins.map(half) {
        let plain = |id: &&MachineId| **id != founder && !admins.contains(id);
        let victim = live.iter().filter(plain).find(|id| half(**id) == side);
        match victim {
            Some(victim) => found.push(*victim),
            None => world.fail("a half has nobody to put out".to_owned()),
        }
    }
    match (world.broken.clone(), found.as_slice()) {
        (None, [a, b]) => Ok([*a, *b]),
        (broken, _) => Err(broken.unwrap_or(Broken("no victims".to_owned()))),
    }
}

const fn half(id: MachineId) -> u32 {
    if id.0.is_multiple_of(2) { 0 } else { 1 }
}

/// A revocation as a person types it.
pub(super) fn revoke(world: &World, targets: &[MachineId]) -> Result<RevokeOptions, Broken> {
    let mut nodes = Vec::new();
    for target in targets {
        nodes.push(id_of(world, *target)?);
    }
    Ok(RevokeOptions {
        nodes,
        owner: None,
        reason: "sold".to_owned(),
        since: None,
        stolen: false,
        recovery: None,
        act: ACT,
    })
}

/// Puts one out and waits until everybody obeys, within [`WAIT_MS`]; gives how long that took.
pub(crate) fn put_out(
    world: &mut World,
    by: MachineId,
    target: MachineId,
    all: &[MachineId],
) -> Result<u64, Broken> {
    let options = revoke(world, &[target])?;
    let node = options.nodes[0];
    let start = world.now_ms();
    let done = act(world, by, Command::Revoke(Box::new(options)))?;
    let others = all.len() - 2;
    if !matches!(done, Reply::HeardDone { heard, of, .. } if heard == others && of == others) {
        world.fail(format!(
            "of {others} nodes not all heard a revocation: {done:?}"
        ));
        return Err(world.broken.clone().expect("it was just set"));
    }
    let took = world.now_ms() - start;
    for id in all.iter().filter(|id| **id != target) {
        let peers = world.snapshot(*id).map(|s| s.peers).unwrap_or_default();
        if peers.iter().any(|peer| peer.member.id == node) {
            world.fail("a node that acknowledged a revocation does not obey it".to_owned());
        }
    }
    world.run_until("the revoked one knows it", AGREE_MS_MAX, |world| {
        is_out(world, target)
    })?;
    world.broken.clone().map_or(Ok(took), Err)
}

/// Whether a machine says that it was put out, and carries nothing any more.
pub(super) fn is_out(world: &World, id: MachineId) -> bool {
    let machine = world.machine(id);
    let snapshot = world.snapshot(id);
    snapshot.is_some_and(|s| s.state == State::Revoked && s.revoked.is_some())
        && machine.interface.is_none()
        && machine.engine.is_empty()
}

/// All live ones speak under one key of at least this epoch; no other speaks under it.
fn same_epoch(
    world: &mut World,
    live: &[MachineId],
    out: &[MachineId],
    least: u32,
) -> Result<(), Broken> {
    let live = live.to_vec();
    world.run_until("all live nodes have one epoch key", AGREE_MS_MAX, |world| {
        let topic = world.machine(live[0]).topic;
        live.iter().all(|id| {
            let epoch = world.snapshot(*id).map_or(0, |snapshot| snapshot.epoch);
            epoch >= least && world.machine(*id).topic == topic
        })
    })?;
    let topic = world.machine(live[0]).topic;
    if out.iter().any(|id| world.machine(*id).topic == topic) {
        world.fail("a node that is out has the key of the epoch".to_owned());
    }
    world.broken.clone().map_or(Ok(()), Err)
}

/// Carries out an act and waits for its last word.
pub(super) fn act(world: &mut World, id: MachineId, command: Command) -> Result<Reply, Broken> {
    let number = world.command(id, command);
    let over = |reply: &Reply| {
        matches!(
            reply,
            Reply::HeardDone { .. } | Reply::Refused(_) | Reply::Pending(_) | Reply::Invites(_)
        )
    };
    world.run_until("an act comes to its end", WAIT_MS + 5000, |world| {
        world.reply(id, number).is_some_and(over)
    })?;
    match world.reply(id, number).cloned() {
        Some(Reply::Refused(refusal)) => {
            world.fail(format!("an act was refused: {refusal:?}"));
            Err(world.broken.clone().expect("it was just set"))
        }
        Some(reply) => Ok(reply),
        None => Err(Broken("an act without an end".to_owned())),
    }
}

pub(super) fn id_of(world: &World, id: MachineId) -> Result<meshnode_protocol::id::NodeId, Broken> {
    let node = world.machine(id).node.as_ref().map(|node| node.id());
    node.ok_or_else(|| Broken("a machine is off".to_owned()))
}
