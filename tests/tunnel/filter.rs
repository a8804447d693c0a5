//! The policy's filter between real programs: what is allowed works, what is not is refused at once, changes hit home.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use meshnode::tunnel::Denied;
use meshnode_protocol::access::{Access, Allow, Filter, Ports, number};
use meshnode_protocol::peering::Roaming;
use nix::errno::Errno;

use crate::lab::{Namespace, as_root, eventually};
use crate::node::{CONTROL, Node, device, ipv4, ipv6, key};
use crate::pair;

/// How long a program waits that should have been told long before.
const PATIENCE: Duration = Duration::from_secs(5);

/// The two families' addresses of a node at a port.
fn at(number: u8, port: u16) -> [SocketAddr; 2] {
    [(ipv4(number), port).into(), (ipv6(number), port).into()]
}

pub(crate) const fn allow(protocol: u8, port: u16) -> Allow {
    Allow {
        protocol: Some(protocol),
        ports: Ports {
            first: port,
            last: port,
        },
    }
}

const fn all_of(protocol: u8) -> Allow {
    Allow {
        protocol: Some(protocol),
        ports: Ports::ALL,
    }
}

/// What some peers may do here, and this node there.
pub(crate) fn closed(peers: &[(u8, &[Allow], &[Allow])]) -> Arc<Filter> {
    let access = |(number, inbound, outbound): &(u8, &[Allow], &[Allow])| {
        let access = Access {
            inbound: inbound.to_vec(),
            outbound: outbound.to_vec(),
        };
        (device(*number), access)
    };
    Arc::new(Filter::Closed(BTreeMap::from_iter(
        peers.iter().map(access),
    )))
}

/// A program that takes connections of both families and holds them, until the process ends.
fn listen(place: &Namespace, port: u16) {
    let listener = place.run(move || TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        let _held: Vec<_> = listener.incoming().collect();
    });
}

/// Connects; the kind of error when that failed.
fn connect(place: &Namespace, to: SocketAddr) -> Result<TcpStream, ErrorKind> {
    place.run(move || TcpStream::connect_timeout(&to, PATIENCE).map_err(|error| error.kind()))
}

/// Bytes that came out of the tunnel, as the host counts them.
fn received(place: &Namespace, node: &Node) -> u64 {
    let output = place.ip(&format!("-j -s link show dev {}", node.tunnel.device()));
    let links: serde_json::Value = serde_json::from_str(&output).unwrap();
    links[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
}

#[test]
fn what_is_allowed_works_and_what_is_not_is_refused_at_once() {
    as_root(
        "filter::what_is_allowed_works_and_what_is_not_is_refused_at_once",
        || {
            let (left, right, one, two) = pair(Roaming::Told);
            left.ping("100.64.0.2");
            listen(&right, 22);
            listen(&right, 23);
            let rules = [allow(number::TCP, 22)];
            one.tunnel.filter(closed(&[(2, &[], &rules)]));
            two.tunnel.filter(closed(&[(1, &rules, &[])]));
            for (allowed, denied) in at(2, 22).into_iter().zip(at(2, 23)) {
                connect(&left, allowed).unwrap();
                assert_eq!(
                    connect(&left, denied).unwrap_err(),
                    ErrorKind::ConnectionRefused
                );
            }
            for (to, told) in at(2, 22)
                .into_iter()
                .zip([Errno::EHOSTUNREACH, Errno::EACCES])
            {
                let answer = left.run(move || {
                    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(any).unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    socket.connect(to).unwrap();
                    socket.send(&[1]).unwrap();
                    socket.recv(&mut [0; 8]).unwrap_err().raw_os_error()
                });
                assert_eq!(answer, Some(told as i32));
            }
            // What the sender refused, the receiver never saw.
            assert_eq!(two.tunnel.denied(key(1)), Some(Denied::default()));
            assert_eq!(one.tunnel.denied(key(2)).unwrap().outbound, 4);
            assert_eq!(one.tunnel.losses().denied, 4);
            assert_eq!(
                connect(&right, at(1, 22)[0]).unwrap_err(),
                ErrorKind::ConnectionRefused
            );
        },
    );
}

#[test]
fn a_ping_is_answered_where_icmp_is_allowed_also_in_fragments_and_else_filtered() {
    as_root(
        "filter::a_ping_is_answered_where_icmp_is_allowed_also_in_fragments_and_else_filtered",
        || {
            let (left, right, one, two) = pair(Roaming::Told);
            left.ping("100.64.0.2");
            let rules = [all_of(number::ICMP), all_of(number::ICMPV6)];
            one.tunnel.filter(closed(&[(2, &[], &rules)]));
            two.tunnel.filter(closed(&[(1, &rules, &[])]));
            for to in ["100.64.0.2", "fd77::2"] {
                left.ping(to);
                let large = format!("ping -n -c 3 -i 0.1 -w 5 -s 4000 {to}");
                if to.contains(':') {
                    // Both hosts hear how long a fragment may be: nobody on the way may cut it.
                    left.try_sh(&large);
                    left.try_sh(&large);
                }
                left.sh(&large);
            }
            // The other direction was not allowed, though every reply comes that way.
            for (to, words) in [
                ("100.64.0.1", "Packet filtered"),
                ("fd77::1", "Administratively prohibited"),
            ] {
                let (answered, output) = right.try_sh(&format!("ping -n -c 1 -w 3 {to}"));
                assert!(!answered && output.contains(words), "{output}");
            }
            assert_eq!(one.tunnel.denied(key(2)), Some(Denied::default()));
        },
    );
}

#[test]
fn members_reach_each_others_control_plane_when_everything_is_denied() {
    as_root(
        "filter::members_reach_each_others_control_plane_when_everything_is_denied",
        || {
            let (left, right, one, two) = pair(Roaming::Told);
            left.ping("100.64.0.2");
            listen(&right, CONTROL);
            let nothing = Arc::new(Filter::deny_all());
            one.tunnel.filter(Arc::clone(&nothing));
            two.tunnel.filter(nothing);
            let (answered, _) = left.try_sh("ping -n -c 1 -w 1 100.64.0.2");
            assert!(!answered);
            let to = at(2, CONTROL)[1];
            let refused = connect(&left, to).unwrap_err();
            assert_eq!(refused, ErrorKind::ConnectionRefused, "not called yet");
            one.tunnel.calls(to);
            connect(&left, to).unwrap();
            assert_eq!(two.tunnel.denied(key(1)), Some(Denied::default()));
        },
    );
}

#[test]
fn a_running_transfer_goes_on_while_it_is_allowed_and_ends_at_once_when_not() {
    as_root(
        "filter::a_running_transfer_goes_on_while_it_is_allowed_and_ends_at_once_when_not",
        || {
            let (left, right, one, two) = pair(Roaming::Told);
            left.ping("100.64.0.2");
            let mut server = Command::new("iperf3");
            server.args(["-s", "-1"]).stdout(Stdio::null());
            let _server = right.start(server);
            eventually("iperf3's server", || right.sh("ss -ltn").contains(":5201"));
            let mut client = Command::new("iperf3");
            client
                .args(["-c", "100.64.0.2", "-t", "60", "-l", "16K"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let mut client = left.start(client);
            let carried = || received(&right, &two);
            eventually("the first megabytes", || carried() > 10_000_000);
            // The first policy, then others: each time another list, each time with this rule.
            for round in 0..20_u16 {
                let rules = [allow(number::TCP, 100 + round), allow(number::TCP, 5201)];
                one.tunnel.filter(closed(&[(2, &[], &rules)]));
                two.tunnel.filter(closed(&[(1, &rules, &[])]));
                let before = carried();
                eventually("more bytes", || carried() > before + 1_000_000);
            }
            for (node, peer) in [(&one, 2), (&two, 1)] {
                let denied = node.tunnel.denied(key(peer));
                assert_eq!(denied, Some(Denied::default()));
            }
            assert!(client.0.try_wait().unwrap().is_none(), "it still runs");
            let others = [allow(number::TCP, 5202)];
            one.tunnel.filter(closed(&[(2, &[], &others)]));
            two.tunnel.filter(closed(&[(1, &others, &[])]));
            let mut ended = None;
            eventually("the end of the transfer", || {
                ended = client.0.try_wait().unwrap();
                ended.is_some()
            });
            assert!(!ended.unwrap().success());
        },
    );
}

#[test]
fn the_receiver_decides_alone_and_lets_a_sender_that_knows_no_policy_wait() {
    as_root(
        "filter::the_receiver_decides_alone_and_lets_a_sender_that_knows_no_policy_wait",
        || {
            let (left, right, node) = crate::stock::places();
            let stock = crate::stock::device("c");
            let endpoint = format!("endpoint [fd00:2::1]:{}", node.tunnel.port());
            let _guard = crate::stock::stock(&right, &stock, &endpoint);
            right.ping("100.64.0.1");
            listen(&left, 22);
            listen(&left, 23);
            let rules = [allow(number::TCP, 22)];
            node.tunnel
                .filter(closed(&[(crate::stock::STOCK, &rules, &[])]));
            for (allowed, denied) in at(1, 22).into_iter().zip(at(1, 23)) {
                connect(&right, allowed).unwrap();
                assert_eq!(connect(&right, denied).unwrap_err(), ErrorKind::TimedOut);
            }
            let (answered, output) = right.try_sh("ping -n -c 3 -i 0.1 -w 1 100.64.0.1");
            assert!(!answered && !output.contains("From"), "{output}");
            let denied = node.tunnel.denied(key(crate::stock::STOCK)).unwrap();
            assert!(denied.inbound >= 5 && denied.outbound == 0, "{denied:?}");
        },
    );
}

#[test]
fn a_flood_of_flows_from_one_peer_leaves_anothers_alive() {
    as_root(
        "filter::a_flood_of_flows_from_one_peer_leaves_anothers_alive",
        || {
            let (left, right, one, _two) = pair(Roaming::Told);
            let third = Namespace::new();
            left.cable(&third, "second", 4);
            let three = Node::start(&third, 3, &[1]);
            one.meet(3, Roaming::Told);
            three.meet(1, Roaming::Told);
            one.path(3, Some(three.at("192.0.4.2")));
            left.ping("100.64.0.2");
            left.ping("100.64.0.3");
            // This node may open at 3, not 3 here: what 3 sends passes only as long as the flow is remembered.
            let web = [allow(number::TCP, 443)];
            let everything = [Allow::ALL];
            one.tunnel
                .filter(closed(&[(3, &[], &web), (2, &everything, &[])]));
            let listener = third.run(|| TcpListener::bind((ipv4(3), 443)).unwrap());
            let mut ours = connect(&left, at(3, 443)[0]).unwrap();
            let (mut theirs, _) = listener.accept().unwrap();
            let before = received(&left, &one);
            right.run(|| {
                let socket = UdpSocket::bind((ipv4(2), 0)).unwrap();
                for port in 1..=20_000_u16 {
                    // Nobody listens; the kernel tells that with the next packet.
                    let _refused = socket.send_to(&[0; 4], (ipv4(1), port));
                    if port.is_multiple_of(100) {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            });
            eventually("most of the flood", || {
                received(&left, &one) > before + 10_000 * 32
            });
            theirs.write_all(b"still here").unwrap();
            ours.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = [0; 10];
            ours.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"still here");
            assert_eq!(one.tunnel.denied(key(3)), Some(Denied::default()));
        },
    );
}
