//! What must never be otherwise, and what must be so when all is quiet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use meshnode_protocol::io::Standing;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::node::Node;
use meshnode_protocol::view::View;

use crate::machine::{EnginePeer, Machine, MachineId};
use crate::world::World;

/// One machine against its own view: its engine, the names and addresses that it believes in, its state.
pub(crate) fn check_machine(world: &mut World, id: MachineId) {
    let machine = world.machine(id);
    let view = machine.node.as_ref().and_then(Node::view);
    let fault = match view {
        Some(view) => strange_peer(machine, view)
            .or_else(|| (!world.sound.contains(&view.digest())).then(|| shared(names_of(view)))?)
            .or_else(|| recovers_without_cause(machine)),
        // Not a member (yet, or any more): the engine must be empty.
        None if machine.engine.is_empty() => None,
        None => Some("has peers, but is not in".to_owned()),
    };
    let sound = view.map(View::digest);
    match fault {
        Some(fault) => {
            let name = machine.name.clone();
            world.fail(format!("{name} {fault}"));
        }
        None => world.sound.extend(sound),
    }
}

/// A peer in the engine that the view does not admit.
fn strange_peer(machine: &Machine, view: &View) -> Option<String> {
    let live = |standing: Standing| matches!(standing, Standing::Settled | Standing::Provisional);
    let members = view.members().values();
    let admitted: BTreeSet<IpAddr> = members
        .filter(|member| live(member.standing))
        .map(|member| IpAddr::V6(member.ipv6))
        .collect();
    let own = |peer: &&EnginePeer| {
        let mut allowed = peer.config.allowed_ips.iter();
        !allowed.any(|ip| admitted.contains(ip))
    };
    let strange = machine.engine.values().find(own)?;
    let ips = &strange.config.allowed_ips;
    Some(format!(
        "has a peer in its engine that its view does not admit: {ips:?}"
    ))
}

/// Two members with one name or one address.
fn shared<'a>(members: impl Iterator<Item = (&'a NodeName, Option<Ipv4Addr>)>) -> Option<String> {
    let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (name, ipv4) in members {
        if !names.insert(name) {
            return Some(format!("sees two members named {}", name.as_str()));
        }
        if ipv4.is_some_and(|ipv4| !addresses.insert(ipv4)) {
            return Some(format!("sees two members at {ipv4:?}"));
        }
    }
    None
}

fn names_of(view: &View) -> impl Iterator<Item = (&NodeName, Option<Ipv4Addr>)> {
    let members = view.members().values();
    members.map(|member| (&member.name, member.ipv4))
}

fn recovers_without_cause(machine: &Machine) -> Option<String> {
    let recovering = machine.node.as_ref().is_some_and(Node::is_recovering);
    (recovering && !machine.damaged).then(|| "is recovering without a cause".to_owned())
}

/// Whether machines agree: equal heads, equal views, and everybody's keys known to everybody.
pub(crate) fn agree(world: &World, machines: &[MachineId]) -> bool {
    let Some(first) = machines.first() else {
        return true;
    };
    let heads = world.machine(*first).disk.heads();
    let view = |id: &MachineId| world.machine(*id).node.as_ref()?.view();
    let Some(reference) = view(first).map(View::digest) else {
        return false;
    };
    let alike = |id: &MachineId| world.machine(*id).disk.heads() == heads;
    let same = |id: &MachineId| view(id).is_some_and(|view| view.digest() == reference);
    let knows = |id: &MachineId| {
        let node = world.machine(*id).node.as_ref();
        node.is_some_and(Node::knows_all)
    };
    // The digest of a view costs most, and is the last to differ.
    machines.iter().all(alike) && machines.iter().all(knows) && machines.iter().all(same)
}

/// Whether machines have heard the same of everything: ops, admits and records.
pub(crate) fn equal(world: &mut World, machines: &[MachineId]) -> bool {
    let mut digests = machines.iter().map(|id| {
        let node = world.machines[id.0].node.as_mut();
        node.and_then(Node::digests)
    });
    let Some(first) = digests.next() else {
        return true;
    };
    first.is_some() && digests.all(|other| other == first)
}

#[cfg(test)]
mod tests;
