//! Admins at work: who waits is approved or denied, admins come and go, invites are cancelled, a machine is replaced.

use meshnode_protocol::body::Tags;
use meshnode_protocol::io::{
    Approval, Command, InviteOptions, InviteRefusal, InviteState, Refusal, Reply, Standing,
};

use super::revoke::{ACT, act, id_of, is_out};
use super::town::{self, AGREE_MS_MAX, JOIN_MS_MAX, converge};
use crate::machine::{MachineId, Stop};
use crate::people::Terms;
use crate::world::{Broken, World};

pub(super) fn run(world: &mut World, nodes: usize) -> Result<(), Broken> {
    let founder = town::grow(world, nodes.max(5))?;
    approve_and_deny(world, founder)?;
    admins(world, founder)?;
    cancel(world, founder)?;
    replace(world, founder)?;
    converge(world, "all agree at the end").map(|_| ())
}

fn approve_and_deny(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let terms = Terms {
        approve: true,
        ..Terms::uses(4)
    };
    let code = world.invite(founder, terms)?;
    let mut joiners = Vec::new();
    for name in ["wanted", "unwanted"] {
        let site = world.network.add_public();
        joiners.push(world.join_as((name, 0), site, &code, founder));
    }
    world.run_until("both wait", JOIN_MS_MAX, |world| {
        waiting(world, founder) == 2
    })?;
    let Reply::Pending(pending) = act(world, founder, Command::Pending)? else {
        return Err(Broken("no list of those who wait".to_owned()));
    };
    let id = |name: &str| {
        let mut pending = pending.iter();
        pending
            .find(|info| info.name.as_str() == name)
            .map(|info| info.id)
    };
    let (Some(wanted), Some(unwanted)) = (id("wanted"), id("unwanted")) else {
        return Err(Broken(format!("not the two who wait: {pending:?}")));
    };
    let approval = Approval {
        device: wanted,
        name: None,
        tags: None,
        owner: None,
    };
    let joiners_in = vec![approval];
    let command = Command::Approve {
        joiners: joiners_in,
        act: ACT,
    };
    act(world, founder, command)?;
    let command = Command::Deny {
        joiners: vec![unwanted],
        reason: "unknown".to_owned(),
        act: ACT,
    };
    act(world, founder, command)?;
    world.run_until("the approved one is in", JOIN_MS_MAX, |world| {
        world.is_in(joiners[0])
    })?;
    let declined = |world: &mut World| {
        let mut replies = world.machine(joiners[1]).replies.iter();
        replies.any(|(_, reply)| {
            matches!(
                reply,
                Reply::Refused(Refusal::Invite(InviteRefusal::Declined { by: Some(_) }))
            )
        })
    };
    world.run_until("the denied one is told by whom", JOIN_MS_MAX, declined)?;
    world.stop(joiners[1], Stop::Kill);
    world.machine_mut(joiners[1]).erased = true;
    Ok(())
}

fn waiting(world: &World, at: MachineId) -> usize {
    let peers = world.snapshot(at).map(|s| s.peers).unwrap_or_default();
    let waits = peers
        .iter()
        .filter(|peer| peer.member.standing == Standing::Pending);
    waits.count()
}

fn admins(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let deputy = world.all()[1];
    let node = id_of(world, deputy)?;
    act(world, founder, Command::AdminAdd { node, act: ACT })?;
    world.run_until("the deputy knows that it is one", AGREE_MS_MAX, |world| {
        world.snapshot(deputy).is_some_and(|s| s.this.level.0 == 2)
    })?;
    // What an admin let in stays when it is one no longer.
    let code = world.invite(deputy, Terms::uses(1))?;
    let site = world.network.add_public();
    let guest = world.join_as(("guest", 0), site, &code, deputy);
    world.run_until("the deputy lets somebody in", JOIN_MS_MAX, |world| {
        world.is_in(guest)
    })?;
    converge(world, "all know the newcomer")?;
    act(world, founder, Command::AdminRemove { node, act: ACT })?;
    converge(world, "all know that the deputy is a member")?;
    let level = world.snapshot(deputy).map(|s| s.this.level.is_admin());
    if level != Some(false) || !world.is_in(deputy) || !world.is_in(guest) {
        world.fail("an admin that was removed is no plain member".to_owned());
    }
    world.broken.clone().map_or(Ok(()), Err)
}

fn cancel(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let code = world.invite(founder, Terms::uses(1))?;
    let Reply::Invites(invites) = act(world, founder, Command::InviteList)? else {
        return Err(Broken("no list of invites".to_owned()));
    };
    let open: Vec<_> = invites
        .iter()
        .filter(|invite| invite.state == InviteState::Open && invite.used == 0 && !invite.approve)
        .map(|invite| invite.id)
        .collect();
    let command = Command::InviteCancel {
        invites: open,
        act: ACT,
    };
    act(world, founder, command)?;
    let site = world.network.add_public();
    let late = world.join_as(("late", 0), site, &code, founder);
    let closed = |world: &mut World| {
        let mut replies = world.machine(late).replies.iter();
        replies.any(|(_, reply)| *reply == Reply::Refused(Refusal::Invite(InviteRefusal::Closed)))
    };
    world.run_until("a cancelled code is refused", JOIN_MS_MAX, closed)?;
    world.stop(late, Stop::Kill);
    world.machine_mut(late).erased = true;
    Ok(())
}

fn replace(world: &mut World, founder: MachineId) -> Result<(), Broken> {
    let old = world.all()[3];
    let node = id_of(world, old)?;
    let before = world.snapshot(old).map(|s| (s.this.name, s.this.ipv4));
    let options = InviteOptions {
        name: None,
        tags: Tags::default(),
        owner: None,
        ttl_ms: 3_600_000,
        uses: 1,
        approve: Some(false),
        hints: Vec::new(),
        replaces: Some(node),
        member_for_ms: None,
        dry_run: false,
    };
    let number = world.command(founder, Command::Invite(options));
    world.run_until("the invite is made", 5000, |world| {
        world.reply(founder, number).is_some()
    })?;
    let Some(Reply::Invited(invited)) = world.reply(founder, number).cloned() else {
        return Err(Broken("no invite for a replacement".to_owned()));
    };
    let site = world.network.add_public();
    let code = invited
        .code
        .map(|code| code.reveal().to_owned())
        .unwrap_or_default();
    let new = world.join_as(("fresh", 0), site, &code, founder);
    world.run_until("the replacement is in", JOIN_MS_MAX, |world| {
        world.is_in(new)
    })?;
    world.run_until("the old one is out", AGREE_MS_MAX * 8, |world| {
        is_out(world, old)
    })?;
    let after = world.snapshot(new).map(|s| (s.this.name, s.this.ipv4));
    if before != after {
        world.fail(format!(
            "the new machine is {after:?}, the old one was {before:?}"
        ));
    }
    world.stop(old, Stop::Kill);
    world.broken.clone().map_or(Ok(()), Err)
}
