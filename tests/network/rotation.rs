//! A node takes a new tunnel key while packets flow.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Stopwatch, World};

use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually, measured, names, spread, text};
use crate::paths::Town;

/// How long traffic with a node may pause for its new key.
const GAP_LIMIT: Duration = Duration::from_secs(2);
/// Between two datagrams.
const BEAT: Duration = Duration::from_millis(5);
/// How often a key changes in one story.
const ROTATIONS: usize = 3;

/// Datagrams over the overlay, and the longest time in which none came.
struct Beats {
    stop: Arc<AtomicBool>,
    came: Arc<AtomicBool>,
    sender: thread::JoinHandle<()>,
    receiver: thread::JoinHandle<Duration>,
}

impl Beats {
    fn start(from: &Node, to: &Node) -> Self {
        let (ours, theirs) = (from.addresses()[0], to.addresses()[0]);
        let bind = |node: &Node, ip| node.machine().inside(move || UdpSocket::bind((ip, 0)));
        let sender = bind(from, ours).unwrap().unwrap();
        let receiver = bind(to, theirs).unwrap().unwrap();
        receiver.set_read_timeout(Some(BEAT)).unwrap();
        let at: SocketAddr = receiver.local_addr().unwrap();
        let (stop, came) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (mine, its, heard) = (Arc::clone(&stop), Arc::clone(&stop), Arc::clone(&came));
        let receiver = thread::spawn(move || {
            let (mut longest, mut last) = (Duration::ZERO, None::<Stopwatch>);
            while !mine.load(Ordering::Relaxed) {
                if receiver.recv_from(&mut [0; 16]).is_ok() {
                    last = Some(Stopwatch::start());
                    heard.store(true, Ordering::Relaxed);
                }
                longest = longest.max(last.as_ref().map_or(Duration::ZERO, Stopwatch::elapsed));
            }
            longest
        });
        let sender = thread::spawn(move || {
            while !its.load(Ordering::Relaxed) {
                let _ = sender.send_to(b"beat", at);
                thread::sleep(BEAT);
            }
        });
        eventually("datagrams come", PATIENCE, || came.load(Ordering::Relaxed));
        Self {
            stop,
            came,
            sender,
            receiver,
        }
    }

    /// Waits until one more comes.
    fn one_more(&self) {
        self.came.store(false, Ordering::Relaxed);
        eventually("one more datagram comes", PATIENCE, || {
            self.came.load(Ordering::Relaxed)
        });
    }

    fn longest_gap(self) -> Duration {
        self.one_more();
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        self.receiver.join().unwrap()
    }
}

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
    let beats = [Beats::start(node, other), Beats::start(other, node)];
    let told = node.ask(&["rotate"]);
    assert_eq!(told["restart_needed"], false, "{told}");
    eventually("the other knows the new key", PATIENCE, || {
        key_of(node.name(), other) != before
    });
    assert_eq!(key_of(node.name(), other), key_of(node.name(), node));
    let gaps = beats.map(Beats::longest_gap);
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
