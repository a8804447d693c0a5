//! The packet engine between real kernels' ends: network namespaces, `ping`, `iperf3` and a stock WireGuard.
//!
//! Needs root, or user namespaces; `ip`, `ping`, `iperf3`, `wg` and `wireguard-go`.
//! With `MESHNODE_LONG=1` the load test runs for ten minutes, across rekeys; with `MESHNODE_RULES=N` under a policy.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "tunnel/bulk.rs"]
mod bulk;
#[path = "tunnel/filter.rs"]
mod filter;
#[path = "tunnel/lab.rs"]
mod lab;
#[path = "tunnel/load.rs"]
mod load;
#[path = "tunnel/node.rs"]
mod node;
#[path = "tunnel/rekey.rs"]
mod rekey;
#[path = "tunnel/relay.rs"]
mod relay;
#[path = "tunnel/stock.rs"]
mod stock;
#[path = "tunnel/ways.rs"]
mod ways;

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use lab::{Namespace, as_root, eventually};
use meshnode::endpoints::Changes;
use meshnode::host::{Held, Host};
use meshnode::tunnel::Offloads;
use meshnode_protocol::peering::{PeerChange, Roaming, TunnelInput};
use meshnode_protocol::probe::{MAGIC, PROBE_BYTES_MIN};
use node::{Node, config, ipv4, key};

/// Nodes 1 and 2 with a cable between, acquainted; 1 knows the way to 2, not the other way round.
fn pair(roaming: Roaming) -> (Namespace, Namespace, Node, Node) {
    pair_with(roaming, Offloads::All)
}

/// The same, asking so much of their hosts.
fn pair_with(roaming: Roaming, offloads: Offloads) -> (Namespace, Namespace, Node, Node) {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.cable(&right, "cable", 2);
    let (one, two) = (
        Node::start_with(&left, 1, &[2, 3], offloads),
        Node::start_with(&right, 2, &[1, 3], offloads),
    );
    one.meet(2, roaming);
    two.meet(1, roaming);
    one.path(2, Some(two.at("192.0.2.2")));
    (left, right, one, two)
}

#[test]
fn both_families_cross_inside_over_both_families_outside() {
    as_root(
        "both_families_cross_inside_over_both_families_outside",
        || {
            let (left, right, one, mut two) = pair(Roaming::Told);
            for outer in ["192.0.2.2", "fd00:2::2"] {
                one.path(2, Some(two.at(outer)));
                two.path(1, None);
                left.ping("100.64.0.2");
                left.ping("fd77::2");
                right.ping("100.64.0.1");
                left.sh("ping -n -c 3 -i 0.1 -s 1232 -w 5 -M do fd77::2");
                left.sh("ping -n -c 3 -i 0.1 -s 1252 -w 5 -M do 100.64.0.2");
            }
            eventually("a report of traffic with a handshake", || {
                two.drain().iter().any(|event| {
                matches!(event, TunnelInput::Traffic { handshake: Some(_), rx_bytes, .. } if *rx_bytes > 0)
            })
            });
        },
    );
}

#[test]
fn a_spoofed_inner_source_is_dropped_and_counted() {
    as_root("a_spoofed_inner_source_is_dropped_and_counted", || {
        let (left, _right, one, two) = pair(Roaming::Told);
        left.ping("100.64.0.2");
        left.ip(&format!(
            "addr add {}/32 dev {}",
            ipv4(3),
            one.tunnel.device()
        ));
        let before = two.tunnel.losses().spoofed;
        let (answered, _) = left.try_sh("ping -n -c 3 -i 0.1 -w 1 -I 100.64.0.3 100.64.0.2");
        assert!(!answered);
        assert!(two.tunnel.losses().spoofed >= before + 3);
        left.ping("100.64.0.2");
    });
}

#[test]
fn an_authentic_packet_to_a_foreign_address_does_not_come_in() {
    as_root(
        "an_authentic_packet_to_a_foreign_address_does_not_come_in",
        || {
            let (left, right, one, two) = pair(Roaming::Told);
            right.ip("addr add 10.9.9.9/32 dev lo");
            left.ip(&format!("route add 10.9.9.9 dev {}", one.tunnel.device()));
            let mut greedy = config(2, Roaming::Told);
            greedy.allowed_ips.push([10, 9, 9, 9].into());
            one.tunnel.apply(PeerChange::Set(greedy));
            left.ping("100.64.0.2");
            let (answered, _) = left.try_sh("ping -n -c 2 -i 0.1 -w 1 10.9.9.9");
            assert!(!answered);
            assert!(two.tunnel.losses().unroutable >= 2);
        },
    );
}

#[test]
fn an_address_that_nobody_has_is_unreachable_at_once() {
    as_root("an_address_that_nobody_has_is_unreachable_at_once", || {
        let (left, _right, _one, _two) = pair(Roaming::Told);
        for (address, words) in [
            ("100.64.0.3", "Host Unreachable"),
            ("fd77::3", "unreachable"),
        ] {
            let (answered, output) = left.try_sh(&format!("ping -n -c 1 -w 3 {address}"));
            assert!(!answered);
            assert!(output.contains(words), "{output}");
        }
    });
}

#[test]
fn a_following_peer_finds_the_end_that_moved() {
    as_root("a_following_peer_finds_the_end_that_moved", || {
        let (left, right, _one, two) = pair(Roaming::Follow);
        left.ping("100.64.0.2");
        left.ip("addr del 192.0.2.1/24 dev cable");
        left.ip("addr add 192.0.2.77/24 dev cable");
        left.ping("100.64.0.2");
        right.ping("100.64.0.1");
        drop(two);
    });
}

#[test]
fn a_told_peer_reports_the_move_and_goes_where_the_core_says() {
    as_root(
        "a_told_peer_reports_the_move_and_goes_where_the_core_says",
        || {
            let (left, right, one, mut two) = pair(Roaming::Told);
            two.path(1, Some(one.at("192.0.2.1")));
            left.ping("100.64.0.2");
            two.drain();
            left.ip("addr del 192.0.2.1/24 dev cable");
            left.ip("addr add 192.0.2.77/24 dev cable");
            left.try_sh("ping -n -c 2 -i 0.2 -w 1 100.64.0.2");
            let moved = one.at("192.0.2.77");
            let report = TunnelInput::Moved {
                key: key(1),
                path: moved,
            };
            let events = two.drain();
            assert!(events.contains(&report), "{events:?}");
            two.path(1, Some(moved));
            left.ping("100.64.0.2");
            right.ping("100.64.0.1");
        },
    );
}

#[test]
fn a_peer_without_a_path_is_wanted() {
    as_root("a_peer_without_a_path_is_wanted", || {
        let (left, _right, mut one, _two) = pair(Roaming::Told);
        one.path(2, None);
        one.drain();
        left.try_sh("ping -n -c 3 -i 0.1 -w 1 100.64.0.2");
        assert!(one.drain().contains(&TunnelInput::Wanted { key: key(2) }));
    });
}

#[test]
fn a_mebibyte_of_noise_does_not_disturb_a_ping() {
    as_root("a_mebibyte_of_noise_does_not_disturb_a_ping", || {
        let (left, _right, _one, two) = pair(Roaming::Told);
        left.ping("100.64.0.2");
        let target = two.at("192.0.2.2").remote().unwrap();
        let noise = left.run(move || {
            std::thread::spawn({
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                move || send_noise(&socket, target)
            })
        });
        let output = left.sh("ping -n -c 20 -i 0.05 -w 10 100.64.0.2");
        noise.join().unwrap();
        assert!(output.contains(" 0% packet loss"), "{output}");
        assert!(two.tunnel.losses().unauthentic > 0);
    });
}

#[test]
fn the_core_hears_probes_with_a_peers_tag_and_no_strangers() {
    as_root(
        "the_core_hears_probes_with_a_peers_tag_and_no_strangers",
        || {
            let (left, _right, _one, mut two) = pair(Roaming::Told);
            let mut known = config(1, Roaming::Told);
            known.probe_tag = Some([7; 8]);
            two.tunnel.apply(PeerChange::Set(known));
            two.drain();
            let target = two.at("192.0.2.2").remote().unwrap();
            let before = two.tunnel.losses();
            left.run(move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for stranger in 0..200_u8 {
                    socket
                        .send_to(&probe([stranger, 9, 9, 9, 9, 9, 9, 9]), target)
                        .unwrap();
                }
                socket.send_to(&probe([7; 8]), target).unwrap();
            });
            let mut heard = Vec::new();
            eventually("the peer's probe", || {
                let events = two.drain().into_iter();
                heard.extend(events.filter_map(|event| match event {
                    TunnelInput::Datagram { bytes, .. } => Some(bytes),
                    TunnelInput::Moved { .. }
                    | TunnelInput::Relay { .. }
                    | TunnelInput::Traffic { .. }
                    | TunnelInput::Wanted { .. } => None,
                }));
                !heard.is_empty()
            });
            assert_eq!(heard, [probe([7; 8])]);
            let after = two.tunnel.losses();
            assert!(after.unauthentic >= before.unauthentic + 100, "{after:?}");
            assert_eq!(after.overflow, before.overflow);
        },
    );
}

/// The shortest datagram that can be a probe with this tag; its seal is noise.
fn probe(tag: [u8; 8]) -> Vec<u8> {
    let mut bytes = [MAGIC.as_slice(), &tag].concat();
    bytes.resize(PROBE_BYTES_MIN, 5);
    bytes
}

/// A mebibyte in datagrams of all kinds: random, and random behind the four types of WireGuard.
fn send_noise(socket: &UdpSocket, target: std::net::SocketAddr) {
    let mut sent = 0;
    let mut state = 1_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for round in 0_u32.. {
        let length = match round % 5 {
            1 => 148,
            2 => 92,
            3 => 64,
            _ => 32 + random() as usize % 1400,
        };
        let mut bytes: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        if !round.is_multiple_of(5) {
            bytes[..4].copy_from_slice(&(round % 5).to_le_bytes());
        }
        let _ = socket.send_to(&bytes, target);
        sent += length;
        if sent > 1 << 20 {
            return;
        }
        if round.is_multiple_of(16) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn after_kill_9_neither_device_nor_route_is_left() {
    as_root("after_kill_9_neither_device_nor_route_is_left", || {
        let place = Namespace::new();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "held_until_killed", "--nocapture"])
            .env("MESHNODE_HOLD", "1")
            .stdout(Stdio::null());
        let mut held = place.start(command);
        eventually("the other process's route", || {
            place.ip("-6 route show").contains("fd77::2 dev mn-test1")
        });
        assert!(place.ip("route show").contains("100.64.0.2 dev mn-test1"));
        held.0.kill().unwrap();
        held.0.wait().unwrap();
        for left in [
            place.ip("link"),
            place.ip("route show table all"),
            place.ip("-6 route show table all"),
        ] {
            assert!(!left.contains("mn-test1"), "{left}");
        }
    });
}

/// No claim of its own: what the test above kills.
#[test]
fn held_until_killed() {
    if std::env::var_os("MESHNODE_HOLD").is_some() {
        let _held = Node::start_here(1, &[2], Offloads::All);
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

#[test]
fn what_another_device_holds_is_left_to_it() {
    as_root("what_another_device_holds_is_left_to_it", || {
        let place = Namespace::new();
        place.ip("link add other type veth peer name beyond");
        place.ip("link set beyond up");
        place.ip("link set other up");
        place.ip("addr add 100.64.0.8/32 dev other");
        place.ip("route add 100.64.0.9/32 dev other");
        place.ip("route add 100.64.0.0/10 dev other");
        let held = place.run(|| {
            let (node, _) = Node::start_here(1, &[], Offloads::All);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let host = Host::open().unwrap();
                let mut held = Vec::new();
                for number in [8, 9, 10, 10] {
                    let route = host
                        .route_add(node.tunnel.device(), ipv4(number).into())
                        .await;
                    held.push(route.unwrap());
                }
                for _ in 0..2 {
                    host.route_remove(node.tunnel.device(), ipv4(10).into())
                        .await
                        .unwrap();
                }
                held
            })
        });
        assert_eq!(
            held,
            [Held::Shadowed, Held::Shadowed, Held::Ours, Held::Ours]
        );
        assert!(place.ip("route show").contains("100.64.0.9 dev other"));
    });
}

#[test]
fn candidates_are_neither_loopback_nor_link_local_nor_overlay() {
    as_root(
        "candidates_are_neither_loopback_nor_link_local_nor_overlay",
        || {
            let (left, _right, _one, _two) = pair(Roaming::Told);
            let found = left.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async { Host::open().unwrap().addresses(&[]).await.unwrap() })
            });
            assert_eq!(found, [lab::outer("192.0.2.1"), lab::outer("fd00:2::1")]);
        },
    );
}

#[test]
fn where_ipv6_is_switched_off_ipv4_goes_on() {
    as_root("where_ipv6_is_switched_off_ipv4_goes_on", || {
        let (left, right) = (Namespace::new(), Namespace::new());
        left.cable(&right, "cable", 2);
        left.sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
        left.sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
        let (one, two) = (Node::start(&left, 1, &[2]), Node::start(&right, 2, &[1]));
        one.meet(2, Roaming::Told);
        two.meet(1, Roaming::Told);
        one.path(2, Some(two.at("192.0.2.2")));
        left.ping("100.64.0.2");
        left.ping("fd77::2");
    });
}

#[test]
fn a_new_address_is_noticed() {
    as_root("a_new_address_is_noticed", || {
        let place = Namespace::new();
        let noticed = place.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut changes = Changes::watch().unwrap();
                let mut add = Command::new("ip");
                add.args(["addr", "add", "10.1.1.1/32", "dev", "lo"]);
                assert!(add.status().unwrap().success());
                tokio::time::timeout(std::time::Duration::from_secs(5), changes.next()).await
            })
        });
        assert_eq!(noticed, Ok(Some(())));
    });
}
