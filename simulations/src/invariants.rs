//! What must never be otherwise, and what must be so when all is quiet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use meshnode_protocol::io::{Snapshot, Standing, State};

use crate::machine::MachineId;
use crate::world::World;

/// One machine against its own view: its engine, the names and addresses that it believes in, its state.
pub(crate) fn check_machine(world: &mut World, id: MachineId) {
    let machine = world.machine(id);
    let fault = match world.snapshot(id) {
        Some(snapshot) => fault_of(&snapshot, world, id),
        // Not a member (yet, or any more): the engine must be empty.
        None if machine.engine.is_empty() => None,
        None => Some("has peers, but is not in".to_owned()),
    };
    if let Some(fault) = fault {
        let name = world.machine(id).name.clone();
        world.fail(format!("{name} {fault}"));
    }
}

fn fault_of(snapshot: &Snapshot, world: &World, id: MachineId) -> Option<String> {
    let machine = world.machine(id);
    let live = |standing: Standing| matches!(standing, Standing::Settled | Standing::Provisional);
    let admitted: BTreeSet<IpAddr> = snapshot
        .peers
        .iter()
        .filter(|peer| live(peer.member.standing))
        .map(|peer| IpAddr::V6(peer.member.ipv6))
        .collect();
    for peer in machine.engine.values() {
        let own = peer
            .config
            .allowed_ips
            .iter()
            .any(|ip| admitted.contains(ip));
        if !own {
            return Some(format!(
                "has a peer in its engine that its view does not admit: {:?}",
                peer.config.allowed_ips
            ));
        }
    }
    let mut addresses = BTreeSet::new();
    let mut names = BTreeSet::new();
    let members = snapshot.peers.iter().map(|peer| &peer.member);
    // Who is out is told under its old name, which may be somebody else's by now.
    let own = (snapshot.state != State::Revoked).then_some(&snapshot.this);
    for member in members.chain(own) {
        if !names.insert(&member.name) {
            return Some(format!("sees two members named {}", member.name.as_str()));
        }
        if member.ipv4.is_some_and(|ipv4| !addresses.insert(ipv4)) {
            return Some(format!("sees two members at {:?}", member.ipv4));
        }
    }
    let mut allowed = BTreeSet::new();
    let ips = machine.engine.values().flat_map(|p| &p.config.allowed_ips);
    for ip in ips {
        if !allowed.insert(ip) {
            return Some(format!("has two peers in its engine at {ip}"));
        }
    }
    let recovering = snapshot.state == State::Recovering;
    (recovering && !machine.damaged).then(|| "is recovering without a cause".to_owned())
}

/// Whether machines agree: equal heads, equal views, and everybody's keys known to everybody.
pub(crate) fn agree(world: &World, machines: &[MachineId]) -> bool {
    let Some(first) = machines.first() else {
        return true;
    };
    let heads = world.machine(*first).disk.heads();
    if machines
        .iter()
        .any(|id| world.machine(*id).disk.heads() != heads)
    {
        return false;
    }
    let Some(reference) = world.snapshot(*first) else {
        return false;
    };
    machines.iter().all(|id| {
        let Some(snapshot) = world.snapshot(*id) else {
            return false;
        };
        let knows = snapshot.peers.iter().all(|peer| {
            let standing = peer.member.standing;
            peer.member.version.is_some() || standing == Standing::Pending
        });
        snapshot.view == reference.view && snapshot.ops == reference.ops && knows
    })
}
