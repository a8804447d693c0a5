//! A thief of the founder's key puts everybody out; the recovery phrase on one of those machines brings all back.

use meshnode_protocol::body::Kind;
use meshnode_protocol::io::{Command, RecoveryOptions, Reply, Roots, Since, State};

use super::revoke::{ACT, act, id_of, is_out, revoke};
use super::town;
use crate::invariants::agree;
use crate::machine::MachineId;
use crate::world::{Broken, World};

/// How long it may take until all know that they are out, or in again. Some never heard where the thief is.
const TURN_MS_MAX: u64 = 120_000;

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let thief = town::grow(world, nodes.max(6))?;
    let others: Vec<_> = world.all().into_iter().filter(|id| *id != thief).collect();
    let options = revoke(world, &others)?;
    let number = world.command(thief, Command::Revoke(Box::new(options)));
    let took = world.run_until("everybody is out", TURN_MS_MAX, |world| {
        others.iter().all(|id| is_out(world, *id))
    })?;
    world.milestone("all know that they are out", took);
    let replies = world.machine(thief).replies.iter();
    let acted = replies.rev().find_map(|(command, reply)| {
        let Reply::Acted(acted) = reply else {
            return None;
        };
        (*command == number).then(|| acted.clone())
    });
    let first = acted.and_then(|acted| {
        let mut ops = acted.ops.into_iter();
        ops.find(|op| op.kind == Kind::REVOKE)?.id
    });
    let Some(first) = first else {
        return Err(Broken("the thief signed nothing".to_owned()));
    };

    let rescuer = others[0];
    let phrase = world.phrase.clone().expect("the network was founded");
    let options = RecoveryOptions {
        roots: Roots::new(vec![phrase.root_key()]),
        petition: None,
        lost: vec![id_of(world, thief)?],
        since: Some(Since::Op(first)),
        stolen: true,
        act: ACT,
    };
    act(world, rescuer, Command::RecoveryUse(Box::new(options)))?;
    let took = world.run_until("all are back", TURN_MS_MAX, |world| {
        let back = |id: &MachineId| {
            let state = world.snapshot(*id).map(|snapshot| snapshot.state);
            state == Some(State::Running) && world.is_in(*id)
        };
        others.iter().all(back) && agree(world, &others)
    })?;
    world.milestone("all are back by the phrase", took);
    let topic = world.machine(rescuer).topic;
    world.run_until("all but the thief have one key", TURN_MS_MAX, |world| {
        others.iter().all(|id| world.machine(*id).topic == topic)
            && world.machine(thief).topic != topic
    })?;
    Ok(())
}
