//! Two halves that cannot hear each other let in, put out and edit the policy, then hear each other again.

use meshnode_protocol::access::number::TCP;
use meshnode_protocol::id::NodeId;
use meshnode_protocol::io::{Command, PolicyShown, PolicyText, Reply, Warning};

use super::revoke::{ACT, act, id_of, revoke};
use super::town::{self, AGREE_MS_MAX, JOIN_MS_MAX, converge};
use crate::invariants::agree;
use crate::machine::MachineId;
use crate::people::Terms;
use crate::world::{Broken, World};

/// Who writes in the even half and who in the odd one.
const WRITERS: [MachineId; 2] = [MachineId(2), MachineId(1)];
/// What each half makes of the rule that both edit: a port.
const CONTESTED: [u16; 2] = [23, 24];
/// The port of the rule that only one half adds.
const ADDED: [u16; 2] = [8000, 8001];
/// The rule that both edit, and one that nobody does.
const BEFORE: [u16; 2] = [22, 80];
/// How long two halves may take to agree.
const HEALED_MS_MAX: u64 = 15_000;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.saturating_sub(2).max(8))?;
    for admin in WRITERS {
        let node = id_of(world, admin)?;
        act(world, founder, Command::AdminAdd { node, act: ACT })?;
    }
    set(world, founder, &BEFORE)?;
    converge(world, "all know the admins and the policy")?;

    world.cut(half);
    world.run_for(40_000)?;
    let mut live = world.all();
    let mut out = Vec::new();
    for (side, writer) in WRITERS.into_iter().enumerate() {
        // Public ones are those that the newcomer can call.
        let code = world.invite(writer, Terms::uses(1))?;
        let site = world.network.add_public();
        let door = doors(world, writer);
        let newcomer = world.join(site, &code, &door);
        world.run_until("a newcomer is in during the partition", JOIN_MS_MAX, |w| {
            w.is_in(newcomer)
        })?;
        let plain = |id: &&MachineId| id.0 > 2 && half(**id) == half(writer);
        let victim = live.iter().filter(plain).max().copied();
        let victim = victim.ok_or_else(|| Broken("a half has nobody to put out".to_owned()))?;
        let options = revoke(world, &[victim])?;
        act(world, writer, Command::Revoke(Box::new(options)))?;
        live.retain(|id| *id != victim);
        live.push(newcomer);
        out.push(victim);
        set(world, writer, &[CONTESTED[side], BEFORE[1], ADDED[side]])?;
    }
    world.heal();
    let took = world.run_until("both halves agree after healing", AGREE_MS_MAX, |world| {
        agree(world, &live)
    })?;
    world.milestone("agreement on members and policy after healing", took);
    if took > HEALED_MS_MAX {
        world.fail(format!("healing took {took} ms, over {HEALED_MS_MAX}"));
    }
    contested(world, &live)?;
    nobody_has(world, &live, &out)?;
    settled(world, &live)
}

const fn half(id: MachineId) -> u32 {
    if id.0.is_multiple_of(2) { 0 } else { 1 }
}

/// Machines of an admin's half that the whole internet can call.
fn doors(world: &World, near: MachineId) -> Vec<MachineId> {
    let mut doors = town::settled_public(world);
    let group = world.machine(near).place.group;
    doors.retain(|id| world.machine(*id).place.group == group);
    doors
}

/// The whole policy: machine 3 may open these ports at the founder's.
fn text(ports: &[u16]) -> String {
    let rule = |port: &u16| {
        format!("{{\"src\": [\"n003\"], \"dst\": [\"n000\"], \"ip\": [\"tcp:{port}\"]}}")
    };
    let rules: Vec<_> = ports.iter().map(rule).collect();
    format!("{{\"grants\": [{}]}}", rules.join(",\n"))
}

fn set(world: &mut World, by: MachineId, ports: &[u16]) -> Result<(), Broken> {
    let wanted = PolicyText {
        text: text(ports),
        expect: None,
        act: ACT,
    };
    let reply = act(world, by, Command::PolicySet(Box::new(wanted)))?;
    if !matches!(reply, Reply::HeardDone { .. }) {
        return Err(Broken(format!("a policy was not set: {reply:?}")));
    }
    Ok(())
}

fn shown(world: &mut World, id: MachineId) -> Result<PolicyShown, Broken> {
    let number = world.command(id, Command::PolicyShow { at: None });
    match world.reply(id, number) {
        Some(Reply::Policy(shown)) => Ok(PolicyShown::clone(shown)),
        other => Err(Broken(format!("no policy is shown: {other:?}"))),
    }
}

/// Which of these ports machine 3 may open at the founder's, as the founder's engine has it.
fn open(world: &World, ports: &[u16]) -> Result<Vec<u16>, Broken> {
    let node: NodeId = id_of(world, MachineId(3))?;
    let filter = world.machine(MachineId(0)).filter.clone();
    let filter = filter.ok_or_else(|| Broken("the founder's engine has no filter".to_owned()))?;
    let passes = |port: &&u16| filter.inbound(&node, TCP, Some(**port));
    Ok(ports.iter().filter(passes).copied().collect())
}

/// All show one text; the rule that both wrote is inactive and named to everybody; all others stand.
fn contested(world: &mut World, live: &[MachineId]) -> Result<(), Broken> {
    let reference = shown(world, live[0])?;
    let alarm = alarms(world, live[0]);
    for id in live {
        let (here, alarms) = (shown(world, *id)?, alarms(world, *id));
        let name = world.machine(*id).name.clone();
        if here.text != reference.text || here.conflicts != reference.conflicts {
            world.fail(format!("{name} shows another policy than the founder"));
        } else if (here.conflicts.len(), alarms.len(), here.orphans.len()) != (1, 1, 0) {
            world.fail(format!("{name} does not name the one conflict: {alarms:?}"));
        } else if alarms != alarm {
            world.fail(format!("{name} names another conflict: {alarms:?}"));
        }
    }
    let ports = [&BEFORE[..], &CONTESTED, &ADDED].concat();
    let stand = [&BEFORE[1..], &ADDED].concat();
    let passes = open(world, &ports)?;
    if passes != stand {
        world.fail(format!("ports {passes:?} are open, not {stand:?}"));
    }
    world.broken.clone().map_or(Ok(()), Err)
}

/// The conflicts that a machine names to people.
fn alarms(world: &World, id: MachineId) -> Vec<Warning> {
    let mut warnings = world.snapshot(id).map(|s| s.warnings).unwrap_or_default();
    warnings.retain(|warning| matches!(warning, Warning::PolicyConflict(_)));
    warnings
}

/// Who was put out in either half is out in both.
fn nobody_has(world: &mut World, live: &[MachineId], out: &[MachineId]) -> Result<(), Broken> {
    for victim in out {
        let node = id_of(world, *victim)?;
        for id in live {
            let peers = world.snapshot(*id).map(|s| s.peers).unwrap_or_default();
            if peers.iter().any(|peer| peer.member.id == node) {
                let name = world.machine(*id).name.clone();
                world.fail(format!("{name} still has a member that was put out"));
            }
        }
    }
    world.broken.clone().map_or(Ok(()), Err)
}

/// An admin writes what is meant: nothing is contested any more.
fn settled(world: &mut World, live: &[MachineId]) -> Result<(), Broken> {
    let ports = [CONTESTED[1], BEFORE[1], ADDED[0], ADDED[1]];
    set(world, WRITERS[1], &ports)?;
    let took = world.run_until("all know what is meant", AGREE_MS_MAX, |world| {
        agree(world, live)
    })?;
    world.milestone("a settled conflict known by all", took);
    for id in live {
        if !shown(world, *id)?.conflicts.is_empty() {
            let name = world.machine(*id).name.clone();
            world.fail(format!("{name} still names a conflict that was settled"));
        }
    }
    let mut wanted = ports.to_vec();
    wanted.sort_unstable();
    let mut passes = open(world, &ports)?;
    passes.sort_unstable();
    if passes != wanted {
        world.fail(format!("ports {passes:?} are open, not {wanted:?}"));
    }
    world.broken.clone().map_or(Ok(()), Err)
}
