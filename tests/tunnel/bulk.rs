//! Bulk traffic in both directions and families, whatever the host takes off the engine: what arrives is what was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use meshnode::tunnel::Offloads;
use meshnode_protocol::peering::{Path, Roaming};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::{Namespace, as_root, outer};
use crate::node::{MTU, Node, ipv4, ipv6};
use crate::pair_with;
use crate::stock;

/// Bytes of one stream: hundreds of the largest packets.
const STREAM_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of one datagram, and how many go at once.
const DATAGRAM_BYTES: usize = 1000;
const DATAGRAMS: usize = 40;

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of which each stretch looks like no other, so that none can be missed, doubled or moved.
fn noise(seed: u8) -> Vec<u8> {
    let mut bytes = vec![seed; STREAM_BYTES];
    for (number, stretch) in bytes.chunks_mut(64).enumerate() {
        stretch[..8].copy_from_slice(&(number as u64).to_be_bytes());
    }
    bytes
}

/// Sends different streams both ways at once over one connection, and compares them at the ends.
pub(crate) fn streams(client: &Namespace, server: &Namespace, to: SocketAddr) {
    let listener = server.run(move || TcpListener::bind(to).unwrap());
    let to = listener.local_addr().unwrap();
    let answering = thread::spawn(move || exchange(listener.accept().unwrap().0, 2, 1));
    let stream = client.run(move || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
    exchange(stream, 1, 2);
    answering.join().unwrap();
}

fn exchange(mut stream: TcpStream, ours: u8, theirs: u8) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut out = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        out.write_all(&noise(ours)).unwrap();
        out.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got == noise(theirs), "{} bytes came, changed", got.len());
    sending.join().unwrap();
}

/// Sends datagrams that the kernel may leave together, and compares each at the other end.
fn datagrams(sender: &Namespace, receiver: &Namespace, to: SocketAddr) {
    let inbox = receiver.run(move || UdpSocket::bind(to).unwrap());
    inbox.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = inbox.local_addr().unwrap();
    let sent = noise(7)[..DATAGRAM_BYTES * DATAGRAMS - 1].to_vec();
    let bytes = sent.clone();
    sender.run(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        let each = i32::try_from(DATAGRAM_BYTES).unwrap();
        setsockopt(&socket, sockopt::UdpGsoSegment, &each).unwrap();
        socket.send_to(&bytes, to).unwrap();
    });
    for expected in sent.chunks(DATAGRAM_BYTES) {
        let mut buffer = [0; 2 * DATAGRAM_BYTES];
        let length = inbox.recv(&mut buffer).unwrap();
        assert!(
            &buffer[..length] == expected,
            "a datagram of {length} bytes came changed"
        );
    }
}

/// Packets that the host handed to the engine so far, as it counts them.
fn handed(place: &Namespace, node: &Node) -> u64 {
    let output = place.ip(&format!("-j -s link show dev {}", node.tunnel.device()));
    let links: serde_json::Value = serde_json::from_str(&output).unwrap();
    links[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
}

#[test]
fn what_arrives_is_what_was_sent_whatever_the_host_offers() {
    as_root(
        "bulk::what_arrives_is_what_was_sent_whatever_the_host_offers",
        || {
            for offloads in [Offloads::All, Offloads::Tcp, Offloads::None] {
                let (left, right, one, two) = pair_with(Roaming::Told, offloads);
                left.ping("100.64.0.2");
                if offloads == Offloads::Tcp {
                    // The others leave the path unproven: what the host makes for the device is cut again.
                    one.mtu(2, MTU);
                    two.mtu(1, MTU);
                }
                for (to, back) in [
                    (ipv4(2).into(), ipv4(1).into()),
                    (ipv6(2).into(), ipv6(1).into()),
                ] {
                    let before = handed(&left, &one);
                    streams(&left, &right, SocketAddr::new(to, 0));
                    let packets = handed(&left, &one) - before;
                    let single = (STREAM_BYTES / usize::from(MTU)) as u64;
                    if offloads == Offloads::None {
                        assert!(packets > single, "{offloads:?}: {packets} packets");
                    } else {
                        assert!(packets < single, "{offloads:?}: {packets} packets");
                    }
                    datagrams(&left, &right, SocketAddr::new(to, 0));
                    datagrams(&right, &left, SocketAddr::new(back, 0));
                }
                for node in [&one, &two] {
                    let losses = node.tunnel.losses();
                    assert_eq!(
                        (losses.malformed, losses.unauthentic),
                        (0, 0),
                        "{offloads:?}"
                    );
                }
            }
        },
    );
}

#[test]
fn what_is_too_long_for_a_path_is_told_so_until_the_path_is_proven() {
    as_root(
        "bulk::what_is_too_long_for_a_path_is_told_so_until_the_path_is_proven",
        || {
            let (left, _right, one, two) = pair_with(Roaming::Told, Offloads::All);
            let most = usize::from(MTU);
            for (to, headers) in [("100.64.0.2", 28), ("fd77::2", 48)] {
                let ping = |bytes: usize| {
                    let bytes = bytes - headers;
                    left.try_sh(&format!("ping -n -M do -c 2 -i 0.2 -w 3 -s {bytes} {to}"))
                };
                one.mtu(2, 1280);
                assert!(ping(1280).0, "{to}");
                let (passed, output) = ping(most);
                assert!(!passed && output.contains("1280"), "{to}: {output}");
                // The host keeps in mind what it was told.
                left.ip("route flush cache");
                left.ip("-6 route flush cache");
                one.mtu(2, MTU);
                two.mtu(1, MTU);
                assert!(ping(most).0, "{to}");
                // Another path has to prove itself anew.
                let path = two.at("192.0.2.2");
                one.path(2, None);
                one.path(2, Some(path));
                assert!(!ping(most).0, "{to}");
                left.ip("route flush cache");
                left.ip("-6 route flush cache");
            }
            assert!(one.tunnel.losses().too_long >= 4);
        },
    );
}

#[test]
fn bulk_traffic_of_a_stock_wireguard_arrives_as_it_was_sent() {
    as_root(
        "bulk::bulk_traffic_of_a_stock_wireguard_arrives_as_it_was_sent",
        || {
            let (left, right, node) = stock::places();
            let device = stock::device("c");
            let _guard = stock::stock(&right, &device, "");
            let path = Path::to((outer("192.0.2.2"), stock::PORT).into());
            node.path(stock::STOCK, Some(path));
            left.ping("100.64.0.5");
            streams(&left, &right, "100.64.0.5:0".parse().unwrap());
            streams(&right, &left, "[fd77::1]:0".parse().unwrap());
            assert_eq!(node.tunnel.losses().malformed, 0);
        },
    );
}
