//! What the laboratory's NATs do to packets: the ground on which hole punching stands.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Router, Switch, World};

use crate::lab;

/// How long a packet may take before it counts as lost; in here nothing is slower than the scheduler.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often a datagram is sent before its path counts as closed; a busy machine and an unanswered
/// ARP request cost a second.
const ATTEMPTS: usize = 10;

pub(crate) fn a_nat_keeps_the_port_when_it_is_free(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let (inside, outside) = (socket(&town.nas, 7000), socket(&town.vps, 4000));
    assert_eq!(
        seen_from(&inside, "203.0.113.1:4000", &outside),
        Some("203.0.113.2:7000".parse().unwrap())
    );
    // A second machine with the same port in the same LAN gets another one towards the same place.
    let second = lab.machine("second").unwrap();
    second
        .attach(town.home.lan(), "192.168.1.11/24", Some("192.168.1.1"))
        .unwrap();
    let second = socket(&second, 7000);
    let seen = seen_from(&second, "203.0.113.1:4000", &outside).expect("it gets through");
    assert_eq!(seen.ip().to_string(), "203.0.113.2");
    assert_ne!(seen.port(), 7000);
}

pub(crate) fn a_router_drops_what_nobody_asked_for(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let (inside, outside) = (socket(&town.nas, 7000), socket(&town.vps, 4000));
    assert!(is_lost(&outside, "203.0.113.2:7000", &inside));
    // Neither may somebody who routes the private range through the router's outer address.
    let refused = town
        .vps
        .inside(|| TcpStream::connect_timeout(&"203.0.113.2:22".parse().unwrap(), PATIENCE));
    assert_eq!(
        refused.unwrap().unwrap_err().kind(),
        ErrorKind::TimedOut,
        "silence, not a refusal"
    );
    assert!(arrives(&inside, "203.0.113.1:4000", &outside));
    assert!(
        arrives(&outside, "203.0.113.2:7000", &inside),
        "an answer comes in"
    );
    let another_port = socket(&town.vps, 4001);
    assert!(
        is_lost(&another_port, "203.0.113.2:7000", &inside),
        "filtered by port, too"
    );
}

pub(crate) fn two_machines_behind_two_nats_do_not_reach_each_other_unsolicited(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let (nas, pi) = (socket(&town.nas, 7000), socket(&town.pi, 7000));
    assert!(is_lost(&nas, "203.0.113.3:7000", &pi));
    assert!(is_lost(&nas, "192.168.2.10:7000", &pi));
}

pub(crate) fn two_machines_behind_two_nats_punch_when_both_send(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let (nas, pi) = (socket(&town.nas, 7000), socket(&town.pi, 7000));
    assert!(
        is_lost(&nas, "203.0.113.3:7000", &pi),
        "the first is lost, and opens the way back"
    );
    assert!(arrives(&pi, "203.0.113.2:7000", &nas));
    assert!(arrives(&nas, "203.0.113.3:7000", &pi));
}

pub(crate) fn an_early_packet_does_not_spoil_the_mapping(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let (nas, pi) = (socket(&town.nas, 7000), socket(&town.pi, 7000));
    for _ in 0..3 {
        assert!(is_lost(&nas, "203.0.113.3:7000", &pi));
    }
    let watcher = socket(&town.vps, 4000);
    let seen = seen_from(&pi, "203.0.113.1:4000", &watcher);
    assert_eq!(seen, Some("203.0.113.3:7000".parse().unwrap()));
    assert_eq!(
        seen_from(&pi, "203.0.113.2:7000", &nas),
        Some("203.0.113.3:7000".parse().unwrap())
    );
}

pub(crate) fn tcp_goes_out_through_a_nat_and_back(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let server = town
        .vps
        .inside(|| TcpListener::bind("203.0.113.1:80").unwrap())
        .unwrap();
    let mut client = town
        .nas
        .inside(|| TcpStream::connect("203.0.113.1:80").unwrap())
        .unwrap();
    let (mut accepted, from) = server.accept().unwrap();
    assert_eq!(from.ip().to_string(), "203.0.113.2");
    accepted.write_all(b"back").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"back");
}

/// The smallest internet worth the name: a public machine and two homes behind NATs.
struct Town {
    vps: Machine,
    nas: Machine,
    pi: Machine,
    home: Router,
    _cabin: Router,
    _inet: Switch,
}

impl Town {
    fn new(lab: &Lab) -> Self {
        let inet = lab.switch("inet").unwrap();
        let router = |name: &str, wan: &str, lan: &str| {
            lab.router(name).wan(&inet, wan).lan(lan).build().unwrap()
        };
        let home = router("home", "203.0.113.2/24", "192.168.1.1/24");
        let cabin = router("cabin", "203.0.113.3/24", "192.168.2.1/24");
        let [vps, nas, pi] = ["vps", "nas", "pi"].map(|name| lab.machine(name).unwrap());
        vps.attach(&inet, "203.0.113.1/24", None).unwrap();
        nas.attach(home.lan(), "192.168.1.10/24", Some("192.168.1.1"))
            .unwrap();
        pi.attach(cabin.lan(), "192.168.2.10/24", Some("192.168.2.1"))
            .unwrap();
        Self {
            vps,
            nas,
            pi,
            home,
            _cabin: cabin,
            _inet: inet,
        }
    }
}

/// A UDP socket inside `machine`, on this port of every IPv4 address; 0 takes any.
pub(crate) fn socket(machine: &Machine, port: u16) -> UdpSocket {
    let socket = machine
        .inside(move || UdpSocket::bind(("0.0.0.0", port)).unwrap())
        .unwrap();
    listen(&socket);
    socket
}

/// Gives a socket the patience of this file.
pub(crate) fn listen(socket: &UdpSocket) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Whether datagrams from `from` to `address` come out of `to`; sent again and again, as any program over UDP does.
pub(crate) fn arrives(from: &UdpSocket, address: &str, to: &UdpSocket) -> bool {
    seen_from(from, address, to).is_some()
}

/// Whether one datagram from `from` to `address` does not come out of `to`.
pub(crate) fn is_lost(from: &UdpSocket, address: &str, to: &UdpSocket) -> bool {
    let token = token();
    send(from, address, &token);
    receive(to, &token).is_none()
}

/// From where `to` sees datagrams come that `from` sends to `address`; `None`: they do not come.
pub(crate) fn seen_from(from: &UdpSocket, address: &str, to: &UdpSocket) -> Option<SocketAddr> {
    let token = token();
    (0..ATTEMPTS).find_map(|_| {
        send(from, address, &token);
        receive(to, &token)
    })
}

pub(crate) fn send(from: &UdpSocket, address: &str, token: &str) {
    // An ICMP answer to an earlier datagram surfaces as an error of the next one, which is not sent then.
    let sent = from.send_to(token.as_bytes(), address);
    sent.or_else(|_| from.send_to(token.as_bytes(), address))
        .expect("there is a route");
}

pub(crate) fn receive(to: &UdpSocket, token: &str) -> Option<SocketAddr> {
    let mut buffer = [0; 64];
    loop {
        match to.recv_from(&mut buffer) {
            Ok((length, sender)) if buffer[..length] == *token.as_bytes() => return Some(sender),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return None;
            }
            Err(error) => panic!("receiving fails: {error}"),
        }
    }
}

/// A text that no other datagram of this run has.
pub(crate) fn token() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("datagram {}", NEXT.fetch_add(1, Ordering::Relaxed))
}
