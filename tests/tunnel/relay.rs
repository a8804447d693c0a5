//! Packets by a relay's UDP port: what arrives is what was sent, and nobody else is heard.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use meshnode::tunnel::Volunteer;
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::identity::Secret;
use meshnode_protocol::io::CarryTerms;
use meshnode_protocol::peering::{Mailbox, Path, Roaming, TunnelInput};
use meshnode_protocol::relay::exchange::Volume;
use meshnode_protocol::relay::frame::{Answer, Bind, Question, Reason, header, mailbox_of};

use crate::bulk::streams;
use crate::lab::{Namespace, as_root, eventually, outer};
use crate::node::{Node, ipv4, ipv6};

const PATIENCE: Duration = Duration::from_secs(10);

/// The transport key of the relay, and of client `number`.
const RELAY: u8 = 200;

fn transport(number: u8) -> Secret {
    Secret::from_seed(&[number; 32])
}

fn public(number: u8) -> TransportKey {
    TransportKey::new(transport(number).public())
}

pub(crate) fn mailbox(number: u8) -> Mailbox {
    mailbox_of(&public(number))
}

/// For these clients and as much as they like.
fn terms(clients: &[u8]) -> CarryTerms {
    CarryTerms {
        key: public(RELAY),
        clients: Some(clients.iter().map(|number| public(*number)).collect()),
        rate: (u64::MAX, u64::MAX),
        pairs: 100,
        month_bytes: None,
    }
}

/// Binds client `number`; `ask` sends a word and gives the answer.
fn bind(number: u8, mut ask: impl FnMut(&[u8]) -> Vec<u8>) {
    let hello = Question::Hello([1; 12]).to_bytes();
    let Some(Answer::Cookie { cookie, .. }) = Answer::parse(&ask(&hello)) else {
        panic!("no cookie");
    };
    // A relay takes each number once.
    static TXIDS: AtomicU8 = AtomicU8::new(2);
    let txid = [TXIDS.fetch_add(1, Ordering::Relaxed); 12];
    let bind = Bind::sign(&transport(number), &public(RELAY), cookie, txid);
    let answer = Answer::parse(&ask(&Question::Bind(bind).to_bytes()));
    let bound = matches!(answer, Some(Answer::Bound { standing, .. }) if standing.bound);
    assert!(bound, "client {number}: {answer:?}");
}

impl Node {
    /// Chooses a relay and binds there as client `number`.
    pub(crate) fn bind(&mut self, number: u8, relay: SocketAddr) {
        self.tunnel.relays(vec![relay]);
        bind(number, |word| {
            self.tunnel.send(Path::to(relay), word);
            let mut answer = None;
            eventually("the relay's answer", || {
                answer = self.drain().into_iter().find_map(|event| match event {
                    TunnelInput::Relay { bytes, .. } => Some(bytes),
                    TunnelInput::Datagram { .. }
                    | TunnelInput::Moved { .. }
                    | TunnelInput::Traffic { .. }
                    | TunnelInput::Wanted { .. } => None,
                });
                answer.is_some()
            });
            answer.unwrap()
        });
    }
}

/// A client that is no engine, bound as `number`.
fn client(place: &Namespace, number: u8, relay: SocketAddr) -> UdpSocket {
    let socket = place.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    bind(number, |word| {
        socket.send_to(word, relay).unwrap();
        let mut answer = [0; 2000];
        let length = socket.recv(&mut answer).unwrap();
        answer[..length].to_vec()
    });
    socket
}

/// A WireGuard message that carries nothing that anybody can open.
fn sealed(fill: u8, length: usize) -> Vec<u8> {
    let mut message = vec![fill; length];
    message[..4].copy_from_slice(&[4, 0, 0, 0]);
    message
}

fn framed(to: Mailbox, message: &[u8]) -> Vec<u8> {
    [&header(to), message].concat()
}

/// Nodes 1 and 2 that reach each other by nothing but what stands between them.
pub(crate) struct Apart {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    hub: Namespace,
    pub(crate) one: Node,
    pub(crate) two: Node,
}

impl Apart {
    pub(crate) fn new() -> Self {
        let (left, right, hub) = (Namespace::new(), Namespace::new(), Namespace::new());
        left.cable(&hub, "cable", 2);
        right.cable(&hub, "cable2", 3);
        let (one, two) = (
            Node::start(&left, 1, &[2, 3]),
            Node::start(&right, 2, &[1, 3]),
        );
        one.meet(2, Roaming::Told);
        two.meet(1, Roaming::Told);
        Self {
            left,
            right,
            hub,
            one,
            two,
        }
    }

    /// Binds both at a port between them, each by its own cable, and sends each to the other there.
    pub(crate) fn by(&mut self, port: u16, left: &str, right: &str) {
        let at = |address: &str| SocketAddr::new(outer(address), port);
        for (node, own, other, relay) in [
            (&mut self.one, 1, 2, at(left)),
            (&mut self.two, 2, 1, at(right)),
        ] {
            node.bind(own, relay);
            let mailbox = mailbox(other);
            node.path(other, Some(Path::Relayed { relay, mailbox }));
        }
    }

    pub(crate) fn volunteer(&self, clients: &[u8]) -> Volunteer {
        let terms = terms(clients);
        let start = || Volunteer::start(0, terms, Volume::default()).unwrap();
        self.hub.run(start)
    }
}

#[test]
fn packets_cross_by_a_relay_over_both_families() {
    as_root("relay::packets_cross_by_a_relay_over_both_families", || {
        let mut apart = Apart::new();
        let relay = apart.volunteer(&[1, 2]);
        for (left, right) in [("192.0.2.2", "192.0.3.2"), ("fd00:2::2", "fd00:3::2")] {
            apart.by(relay.port(), left, right);
            apart.left.ping("100.64.0.2");
            apart.right.ping("fd77::1");
            for to in [ipv4(2).into(), ipv6(2).into()] {
                streams(&apart.left, &apart.right, SocketAddr::new(to, 0));
            }
        }
        let report = relay.report();
        assert_eq!((report.clients, report.pairs.len()), (2, 1));
        // Two streams of 16 MiB each way in either family.
        assert!(report.pairs[0].bytes.0.min(report.pairs[0].bytes.1) > 64 << 20);
        for node in [&apart.one, &apart.two] {
            let losses = node.tunnel.losses();
            assert_eq!((losses.malformed, losses.unauthentic), (0, 0));
        }
    });
}

#[test]
fn a_member_carries_for_others_while_it_speaks_for_itself() {
    as_root(
        "relay::a_member_carries_for_others_while_it_speaks_for_itself",
        || {
            let mut apart = Apart::new();
            let mut three = Node::start(&apart.hub, 3, &[1, 2]);
            three.tunnel.carry(Some(terms(&[1, 2]))).unwrap();
            apart.by(three.tunnel.port(), "192.0.2.2", "192.0.3.2");
            // Each is the other's relay: what it says looks alike whether it is from somebody or for somebody.
            let left = SocketAddr::new(outer("192.0.2.1"), apart.one.tunnel.port());
            apart.one.tunnel.carry(Some(terms(&[3]))).unwrap();
            three.bind(3, left);
            apart.one.meet(3, Roaming::Told);
            apart.one.path(3, Some(three.at("192.0.2.2")));
            three.meet(1, Roaming::Told);
            apart.left.ping("100.64.0.2");
            apart.left.ping("100.64.0.3");
            streams(&apart.left, &apart.right, "100.64.0.2:0".parse().unwrap());
            let report = three.tunnel.carried().unwrap();
            assert_eq!((report.clients, report.pairs.len()), (2, 1));
            three.tunnel.carry(None).unwrap();
            assert_eq!(three.tunnel.carried(), None);
            let (answered, _) = apart.left.try_sh("ping -n -c 2 -i 0.1 -w 1 100.64.0.2");
            assert!(!answered);
            apart.left.ping("100.64.0.3");
        },
    );
}

#[test]
fn a_relay_passes_only_between_clients_and_tells_who_sends_to_nobody() {
    as_root(
        "relay::a_relay_passes_only_between_clients_and_tells_who_sends_to_nobody",
        || {
            let apart = Apart::new();
            let relay = apart.volunteer(&[1, 2]);
            let at = |address: &str| SocketAddr::new(outer(address), relay.port());
            let one = client(&apart.left, 1, at("192.0.2.2"));
            let two = client(&apart.right, 2, at("192.0.3.2"));
            let stranger = apart.left.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            let message = sealed(7, 100);
            let mut buffer = [0; 2000];
            // From an address that is not bound, and what is neither sealed nor a probe.
            let to_two = framed(mailbox(2), &message);
            stranger.send_to(&to_two, at("192.0.2.2")).unwrap();
            let clear = framed(
                mailbox(2),
                b"in the clear, as long as anything else that passes",
            );
            one.send_to(&clear, at("192.0.2.2")).unwrap();
            one.send_to(&framed(mailbox(9), &message), at("192.0.2.2"))
                .unwrap();
            let length = one.recv(&mut buffer).unwrap();
            let limited = Answer::Limited {
                mailbox: mailbox(9),
                reason: Reason::NotBound,
            };
            assert_eq!(Answer::parse(&buffer[..length]), Some(limited));
            // What comes first is what was sent last.
            one.send_to(&framed(mailbox(2), &sealed(8, 200)), at("192.0.2.2"))
                .unwrap();
            let length = two.recv(&mut buffer).unwrap();
            assert!(buffer[..length] == framed(mailbox(1), &sealed(8, 200)));
            stranger
                .set_read_timeout(Some(Duration::from_millis(200)))
                .unwrap();
            assert!(
                stranger.recv(&mut buffer).is_err(),
                "a stranger was answered"
            );
        },
    );
}

#[test]
fn frames_of_a_relay_that_was_not_chosen_are_not_heard() {
    as_root(
        "relay::frames_of_a_relay_that_was_not_chosen_are_not_heard",
        || {
            let mut apart = Apart::new();
            let target = apart.one.at("192.0.2.1").remote().unwrap();
            apart
                .one
                .tunnel
                .relays(vec![SocketAddr::new(outer("192.0.2.2"), 9)]);
            apart.one.drain();
            let before = apart.one.tunnel.losses();
            apart.hub.run(move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let limited = Answer::Limited {
                    mailbox: mailbox(2),
                    reason: Reason::Full,
                };
                for number in 0..50 {
                    let message = framed(mailbox(2), &sealed(number, 100));
                    socket.send_to(&message, target).unwrap();
                    socket.send_to(&limited.to_bytes(), target).unwrap();
                    let hello = Question::Hello([number; 12]).to_bytes();
                    socket.send_to(&hello, target).unwrap();
                }
            });
            eventually("150 datagrams that are nobody's", || {
                apart.one.tunnel.losses().unauthentic >= before.unauthentic + 150
            });
            assert_eq!(apart.one.drain(), []);
        },
    );
}

#[test]
fn a_slow_receiver_and_a_flood_do_not_keep_others_from_being_passed() {
    as_root(
        "relay::a_slow_receiver_and_a_flood_do_not_keep_others_from_being_passed",
        || {
            let mut apart = Apart::new();
            let relay = apart.volunteer(&[1, 2, 3, 4]);
            apart.by(relay.port(), "192.0.2.2", "192.0.3.2");
            apart.left.ping("100.64.0.2");
            let slow = Namespace::new();
            slow.cable(&apart.hub, "cable3", 4);
            let at = |address: &str| SocketAddr::new(outer(address), relay.port());
            let _deaf = client(&slow, 4, at("192.0.4.2"));
            apart
                .hub
                .sh("tc qdisc add dev cable3 root tbf rate 1mbit burst 4kb latency 20ms");
            let sender = client(&apart.left, 3, at("192.0.2.2"));
            let (to, end) = (at("192.0.2.2"), Arc::new(AtomicBool::new(false)));
            let flood = thread::spawn({
                let end = Arc::clone(&end);
                move || {
                    let to_slow = framed(mailbox(4), &sealed(9, 1200));
                    let to_nobody = framed(mailbox(99), &sealed(9, 60));
                    let hello = Question::Hello([3; 12]).to_bytes();
                    let forged = Bind::sign(&transport(3), &public(RELAY), [9; 16], [9; 12]);
                    let forged = Question::Bind(forged).to_bytes();
                    while !end.load(Ordering::Relaxed) {
                        for _ in 0..20 {
                            for word in [&to_slow, &to_nobody, &hello, &forged] {
                                // A queue that is full here is one more way to lose it.
                                let _ = sender.send_to(word, to);
                            }
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            let output = apart.left.sh("ping -n -c 30 -i 0.05 -w 10 100.64.0.2");
            streams(&apart.left, &apart.right, "100.64.0.2:0".parse().unwrap());
            end.store(true, Ordering::Relaxed);
            flood.join().unwrap();
            assert!(output.contains(" 0% packet loss"), "{output}");
            let report = relay.report();
            let passed = report.pairs.iter().map(|pair| pair.bytes.0 + pair.bytes.1);
            assert!(report.pairs.len() == 2 && passed.clone().all(|bytes| bytes > 1 << 20));
        },
    );
}

#[test]
fn a_relay_answers_stun_to_each_as_often_as_one_needs() {
    as_root(
        "relay::a_relay_answers_stun_to_each_as_often_as_one_needs",
        || {
            let apart = Apart::new();
            let relay = apart.volunteer(&[]);
            let to = SocketAddr::new(outer("192.0.2.2"), relay.port());
            apart.left.run(move || {
                let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_millis(500)))
                    .unwrap();
                let mut buffer = [0; 100];
                let mut asked = 0;
                for number in 0..100 {
                    let txid = [number; 12];
                    socket
                        .send_to(&meshnode_protocol::stun::request(&txid), to)
                        .unwrap();
                    asked += 1;
                    let Ok(length) = socket.recv(&mut buffer) else {
                        break;
                    };
                    let seen = meshnode_protocol::stun::observed(&buffer[..length], &txid);
                    assert_eq!(seen, Some(socket.local_addr().unwrap()));
                }
                // Of one second, or of two when it just began.
                assert!(
                    (20..=41).contains(&asked),
                    "{asked} of 100 were answered at once"
                );
            });
        },
    );
}
