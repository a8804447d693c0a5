//! How long the packets may be that go to a peer: proven while traffic flows, and no longer true when the way changes.

use meshnode::lab::World;
use serde_json::Value;

use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually};
use crate::stream::Stream;

/// Bytes of the longest packet of every path, and of one that fills an Ethernet frame.
const EVERYWHERE: u64 = 1280;
const FRAME: u64 = 1420;

/// Bytes that a node knows to pass to the only other.
fn passes(node: &Node) -> Option<u64> {
    node.status()["peers"][0]["path"]["mtu_bytes"].as_u64()
}

/// Whether a packet of so many bytes that nobody may cut is answered.
fn echoes(node: &Node, other: &Node, bytes: u64) -> bool {
    let (to, size) = (other.addresses()[0].to_string(), (bytes - 28).to_string());
    let words = ["-n", "-M", "do", "-c", "1", "-w", "2", "-s", &size, &to];
    let ping = node.machine().command("ping").args(words);
    ping.output(PATIENCE).unwrap().status.success()
}

/// Makes a node deaf for longer frames.
fn shorten(node: &Node, bytes: u64) {
    let size = bytes.to_string();
    let words = ["link", "set", "eth0", "mtu", &size];
    let ip = node.machine().command("ip").args(words);
    assert!(ip.output(PATIENCE).unwrap().status.success());
}

pub(crate) fn packets_are_as_long_as_the_path_is_proven_to_carry(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    carries(&nas, &pi);
    assert_eq!(
        nas.status()["peers"][0]["path"]["kind"],
        Value::from("direct")
    );
    assert!(echoes(&nas, &pi, EVERYWHERE));
    let streams = [Stream::start(&nas, &pi), Stream::start(&pi, &nas)];
    for (node, other) in [(&nas, &pi), (&pi, &nas)] {
        eventually("a full frame is proven to pass", PATIENCE, || {
            passes(node) == Some(FRAME)
        });
        eventually("and does", PATIENCE, || echoes(node, other, FRAME));
    }
    // From here on less passes, and nobody says so.
    shorten(&pi, 1400);
    eventually("less is known to pass", PATIENCE, || {
        passes(&nas).is_some_and(|bytes| (EVERYWHERE..FRAME).contains(&bytes))
    });
    eventually("and does", PATIENCE, || echoes(&nas, &pi, EVERYWHERE));
    streams.into_iter().for_each(|stream| {
        stream.longest_gap();
    });
}
