//! Each invariant sees the fault that it is there for: planted here by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

use meshnode_protocol::id::{NodeId, WireGuardKey};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::io::Write;
use meshnode_protocol::peering::{PeerChange, PeerConfig, Roaming};

use super::*;
use crate::machine::Stop;
use crate::people::Terms;
use crate::scenarios::{overspent, put_out};
use crate::trace::Trace;

/// A founder and two members that agree.
fn three() -> World {
    let mut world = World::new(5, Trace::default());
    let site = world.network.add_public();
    let founder = world.found(site);
    let code = world.invite(founder, Terms::uses(2)).unwrap();
    for _ in 0..2 {
        let site = world.network.add_public();
        world.join(site, &code, &[founder]);
    }
    let all = world.all();
    let agreed = |world: &mut World| all.iter().all(|id| world.is_in(*id)) && agree(world, &all);
    world.run_until("three agree", 40_000, agreed).unwrap();
    world
}

fn broken(world: &World) -> &str {
    &world.broken.as_ref().expect("the fault is seen").0
}

fn peer(address: IpAddr) -> PeerConfig {
    PeerConfig {
        key: WireGuardKey::new([7; 32]),
        device: NodeId::new(Secret::from_seed(&[7; 32]).public()),
        allowed_ips: vec![address],
        roaming: Roaming::Told,
        keepalive_s: 0,
        probe_tag: None,
    }
}

#[test]
fn a_peer_that_the_view_does_not_admit_is_seen() {
    let mut world = three();
    let id = MachineId(1);
    check_machine(&mut world, id);
    assert_eq!(world.broken, None);
    let strange = peer(IpAddr::V6(Ipv6Addr::LOCALHOST));
    world
        .machine_mut(id)
        .change_peer(PeerChange::Set(strange))
        .unwrap();
    check_machine(&mut world, id);
    assert!(broken(&world).contains("its view does not admit"));
}

#[test]
fn peers_of_one_that_is_not_in_are_seen() {
    let mut world = three();
    let id = MachineId(1);
    world.stop(id, Stop::Kill);
    let strange = peer(IpAddr::V6(Ipv6Addr::LOCALHOST));
    world
        .machine_mut(id)
        .change_peer(PeerChange::Set(strange))
        .unwrap();
    check_machine(&mut world, id);
    assert!(broken(&world).contains("is not in"));
}

#[test]
fn two_peers_with_one_address_are_seen() {
    let mut world = three();
    let machine = world.machine_mut(MachineId(1));
    let taken = *machine.allowed.keys().next().unwrap();
    let refused = machine.change_peer(PeerChange::Set(peer(taken)));
    assert_eq!(refused, Err("two peers in the engine have one address"));
}

#[test]
fn a_shared_name_and_a_shared_address_are_seen() {
    let world = three();
    let view = world.machine(MachineId(0)).node.as_ref().unwrap().view();
    let members: Vec<_> = view.unwrap().members().values().collect();
    let honest = || members.iter().map(|member| (&member.name, member.ipv4));
    assert_eq!(shared(honest()), None);
    let [first, second] = [0, 1].map(|at: usize| (&members[at].name, members[at].ipv4));
    let name = shared(honest().chain([(first.0, Some(Ipv4Addr::LOCALHOST))]));
    assert!(name.unwrap().contains("two members named"));
    let twice = [(first.0, first.1), (second.0, first.1)];
    assert!(
        shared(twice.into_iter())
            .unwrap()
            .contains("two members at")
    );
}

#[test]
fn a_recovery_without_a_cause_is_seen() {
    let mut world = three();
    let id = MachineId(1);
    world.stop(id, Stop::Kill);
    assert!(world.machine_mut(id).disk.lose_newest_op());
    world.boot(id);
    check_machine(&mut world, id);
    assert!(broken(&world).contains("recovering without a cause"));
}

#[test]
fn other_heads_and_other_records_are_no_agreement() {
    let mut world = three();
    let all = world.all();
    world
        .run_until("all have heard the same", 90_000, |world| {
            equal(world, &all)
        })
        .unwrap();
    assert!(agree(&world, &all));
    let disk = &mut world.machines[2].disk;
    disk.write(vec![Write::Heads(Vec::new())], true, &mut world.pages);
    assert!(!agree(&world, &all));
    world.stop(MachineId(1), Stop::Kill);
    assert!(!equal(&mut world, &all));
}

#[test]
fn a_revocation_that_somebody_did_not_hear_in_time_is_seen() {
    let mut world = three();
    let all = world.all();
    world.cut(|id| u32::from(id == MachineId(1)));
    world.run_for(40_000).unwrap();
    let told = put_out(&mut world, MachineId(0), MachineId(2), &all);
    assert!(told.is_err());
    assert!(broken(&world).contains("not all heard a revocation"));
}

#[test]
fn a_network_that_chatters_at_rest_is_seen() {
    let mut world = three();
    let machines = world.all();
    world.count_anew();
    assert_eq!(overspent(&world, &machines, 1), None);
    world.machine_mut(MachineId(1)).sent.gossip_bytes = 60_000;
    assert!(overspent(&world, &machines, 1).unwrap().contains("at rest"));
}
