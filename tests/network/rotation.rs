//! A node takes a new tunnel key while packets flow.

use std::time::Duration;

use meshnode::lab::World;

use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually, measured, names, spread, text};
use crate::paths::Town;
use crate::stream::Stream;

/// How long traffic with a node may pause for its new key.
const GAP_LIMIT: Duration = Duration::from_secs(2);
/// How often a key changes in one story.
const ROTATIONS: usize = 3;

fn key_of(node: &str, at: &Node) -> String {
    text(&at.ask(&["whois", node]), "/keys/wireguard")
}

/// The kernel's number of the node's device: another one would be another device.
fn device(node: &Node) -> String {
    let tun = text(&node.status(), "/network/tun");
    let path = format!("/sys/class/net/{tun}/ifindex");
    let shown = node.machine().command("cat").arg(path);
    shown.output(PATIENCE).unwrap().stdout
}

/// One node takes a new key while both send to each other; the longest gap.
fn rotate(node: &Node, other: &Node) -> Duration {
    let before = key_of(node.name(), other);
    let streams = [Stream::start(node, other), Stream::start(other, node)];
    streams.iter().for_each(Stream::one_more);
    let told = node.ask(&["rotate"]);
    assert_eq!(told["restart_needed"], false, "{told}");
    eventually("the other knows the new key", PATIENCE, || {
        key_of(node.name(), other) != before
    });
    assert_eq!(key_of(node.name(), other), key_of(node.name(), node));
    let gaps = streams.map(Stream::longest_gap);
    gaps.into_iter().max().unwrap()
}

pub(crate) fn a_new_tunnel_key_is_in_force_at_once_and_traffic_goes_on(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, mut pi, desk] = home(&lab, &lan, ["nas", "pi", "desk"]);
    agree(&[&nas, &pi, &desk], 3);
    carries(&nas, &pi);
    carries(&desk, &pi);
    let before = (device(&pi), names(&nas.status()));
    let gaps: Vec<_> = (0..ROTATIONS).map(|_| rotate(&pi, &nas)).collect();
    let longest = gaps.iter().max().copied();
    measured(
        "a new tunnel key: longest gap in traffic, LAN",
        spread(gaps),
    );
    assert!(longest < Some(GAP_LIMIT), "{longest:?}");
    assert_eq!((device(&pi), names(&nas.status())), before);
    carries(&desk, &pi);
    carries(&pi, &desk);
    // The key of the file is the one in force: the next start changes nothing.
    let key = key_of("pi", &nas);
    pi.kill();
    pi.switch_on();
    pi.reaches("nas");
    assert_eq!(key_of("pi", &nas), key);
    agree(&[&nas, &pi, &desk], 3);
    carries(&nas, &pi);
}

pub(crate) fn a_new_tunnel_key_is_told_through_the_tunnel_itself_where_nothing_else_leads(
    world: &World,
) {
    let lab = lab(world);
    let mut town = Town::new(&lab);
    town.nas.reaches("pi");
    town.pi.reaches("nas");
    carries(&town.nas, &town.pi);
    town.vps.switch_off();
    let gap = rotate(&town.nas, &town.pi);
    measured(
        "a new tunnel key: longest gap in traffic, two NATs and nobody else",
        spread(vec![gap]),
    );
    assert!(gap < GAP_LIMIT, "{gap:?}");
    carries(&town.pi, &town.nas);
}
