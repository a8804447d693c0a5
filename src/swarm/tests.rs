//! Two and three real swarms on loopback, with real sockets.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

use libp2p::identity::Keypair;
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::limits::{JOIN_BYTES_MAX, MESSAGE_BYTES_MAX};
use meshnode_protocol::link::{CallError, CallId, DialId, LinkId, LinkInput, LinkOutput, Service};
use meshnode_protocol::record::{ControlAddress, Transport};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Swarm, SwarmConfig, address};

#[tokio::test]
async fn a_question_is_answered_over_both_transports() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let (mut a, mut b) = (Peer::start(1), Peer::start(2));
        let (link, _) = a.connect(&mut b, transport).await;
        a.ask(1, &b, Service::Hello, b"who?".to_vec());
        let (answer, bytes) = b.asked(Service::Hello).await;
        assert_eq!(bytes, b"who?");
        b.swarm.act(LinkOutput::Answer {
            answer,
            bytes: b"me".to_vec(),
        });
        assert_eq!(a.answered(1).await, (Some(link), Ok(b"me".to_vec())));
    }
}

#[tokio::test]
async fn an_empty_answer_is_no_refusal() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, Transport::Tcp).await;
    a.ask(1, &b, Service::Join, Vec::new());
    let (answer, bytes) = b.asked(Service::Join).await;
    assert_eq!(bytes, b"");
    b.swarm.act(LinkOutput::Answer {
        answer,
        bytes: Vec::new(),
    });
    assert_eq!(a.answered(1).await.1, Ok(Vec::new()));
}

#[tokio::test]
async fn a_refused_question_ends_as_refused() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, Transport::Tcp).await;
    a.ask(1, &b, Service::Join, b"open!".to_vec());
    let (answer, _) = b.asked(Service::Join).await;
    b.swarm.act(LinkOutput::Refuse { answer });
    assert_eq!(a.answered(1).await.1, Err(CallError::Refused));
}

#[tokio::test]
async fn a_question_at_the_limit_passes_and_one_past_it_is_refused() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, Transport::Tcp).await;
    a.ask(1, &b, Service::Join, vec![0; JOIN_BYTES_MAX + 1]);
    assert_eq!(a.answered(1).await.1, Err(CallError::Refused));
    a.ask(2, &b, Service::Join, vec![0; JOIN_BYTES_MAX]);
    let (answer, bytes) = b.asked(Service::Join).await;
    assert_eq!(bytes.len(), JOIN_BYTES_MAX);
    b.swarm.act(LinkOutput::Answer {
        answer,
        bytes: vec![0; MESSAGE_BYTES_MAX],
    });
    assert_eq!(a.answered(2).await.1.unwrap().len(), MESSAGE_BYTES_MAX);
}

#[tokio::test]
async fn a_stranger_cannot_ask_by_sync_and_a_trusted_peer_can() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, Transport::Tcp).await;
    a.ask(1, &b, Service::Sync, b"all?".to_vec());
    assert_eq!(a.answered(1).await.1, Err(CallError::Refused));
    assert!(
        !b.backlog()
            .iter()
            .any(|input| matches!(input, LinkInput::Asked { .. }))
    );
    b.trust(&a);
    a.ask(2, &b, Service::Sync, b"all?".to_vec());
    assert_eq!(b.asked(Service::Sync).await.1, b"all?");
}

#[tokio::test]
async fn a_question_to_somebody_who_is_not_connected_breaks_at_once() {
    let (mut a, b) = (Peer::start(1), Peer::start(2));
    a.ask(1, &b, Service::Hello, Vec::new());
    assert_eq!(a.answered(1).await, (None, Err(CallError::Broken)));
}

#[tokio::test]
async fn gossip_reaches_trusted_peers_and_no_strangers() {
    let (mut a, mut b, mut c) = (Peer::start(1), Peer::start(2), Peer::start(3));
    for peer in [&a, &b, &c] {
        peer.swarm.act(LinkOutput::Topic([9; 32]));
    }
    a.connect(&mut b, Transport::Tcp).await;
    a.connect(&mut c, Transport::Quic).await;
    // One side trusts much earlier than the other, as after a slow hello.
    a.trust(&b);
    tokio::time::sleep(Duration::from_millis(300)).await;
    b.trust(&a);
    // A stranger that takes everything for trusted still gets nothing.
    c.trust(&a);
    let mut round = 0u8;
    let (message, bytes) = loop {
        round += 1;
        a.swarm.act(LinkOutput::Publish(vec![round; 100]));
        let heard = b.within(Duration::from_millis(200), |input| match input {
            LinkInput::Gossip {
                from,
                message,
                bytes,
            } if from == a.key => Some((message, bytes)),
            _ => None,
        });
        if let Some(heard) = heard.await {
            break heard;
        }
        assert!(round < 25, "no gossip between trusted peers");
    };
    assert!(bytes.len() == 100 && bytes[0] <= round);
    b.swarm.act(LinkOutput::Verdict {
        message,
        good: true,
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        !c.backlog()
            .iter()
            .any(|input| matches!(input, LinkInput::Gossip { .. }))
    );
}

#[tokio::test]
async fn a_message_goes_on_to_the_third_only_after_a_good_verdict() {
    let (mut a, mut b, mut c) = (Peer::start(1), Peer::start(2), Peer::start(3));
    for peer in [&a, &b, &c] {
        peer.swarm.act(LinkOutput::Topic([9; 32]));
    }
    a.connect(&mut b, Transport::Tcp).await;
    b.connect(&mut c, Transport::Tcp).await;
    a.trust(&b);
    b.trust(&a);
    b.trust(&c);
    c.trust(&b);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for (text, good) in [(b"bad", false), (b"yes", true)] {
        a.swarm.act(LinkOutput::Publish(text.to_vec()));
        let (message, bytes) = b.gossip().await;
        assert_eq!(bytes, text);
        b.swarm.act(LinkOutput::Verdict { message, good });
    }
    assert_eq!(c.gossip().await.1, b"yes");
}

#[tokio::test]
async fn another_peer_than_expected_makes_the_attempt_useless() {
    let (mut a, b, c) = (Peer::start(1), Peer::start(2), Peer::start(3));
    a.dial(1, Some(c.key), vec![b.at(Transport::Tcp)]);
    assert_eq!(a.dial_failed(1).await, Some(true));
    a.dial(2, None, vec![a.at(Transport::Tcp)]);
    assert_eq!(a.dial_failed(2).await, Some(true));
}

#[tokio::test]
async fn nobody_at_an_address_fails_but_may_be_tried_again() {
    let mut a = Peer::start(1);
    let b = Peer::start(2);
    let (key, old) = (b.key, b.at(Transport::Tcp));
    b.swarm.stop().await;
    a.dial(1, Some(key), vec![old]);
    assert_eq!(a.dial_failed(1).await, Some(false));
}

#[tokio::test]
async fn a_wrong_peer_at_one_address_does_not_hide_the_right_one_at_another() {
    let (mut a, b, c) = (Peer::start(1), Peer::start(2), Peer::start(3));
    a.dial(
        1,
        Some(c.key),
        vec![b.at(Transport::Tcp), c.at(Transport::Quic)],
    );
    assert_eq!(a.up().await.1, c.key);
}

#[tokio::test]
async fn a_hint_that_names_nobody_gives_one_link_of_all_its_addresses() {
    let (mut a, b) = (Peer::start(1), Peer::start(2));
    a.dial(
        1,
        None,
        vec![
            b.at(Transport::Tcp),
            b.at(Transport::Quic),
            a.at(Transport::Tcp),
        ],
    );
    assert_eq!(a.up().await.1, b.key);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rest = a.backlog();
    assert!(
        !rest
            .iter()
            .any(|input| { matches!(input, LinkInput::Up { .. } | LinkInput::DialFailed { .. }) })
    );
    a.dial(2, Some(b.key), vec![b.at(Transport::Tcp)]);
    assert_eq!(a.dial_failed(2).await, Some(true));
}

#[tokio::test]
async fn the_other_side_hears_the_end_of_a_stopped_node() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    let (_, link) = a.connect(&mut b, Transport::Quic).await;
    let key = a.key;
    a.swarm.stop().await;
    let down = b.next(|input| match input {
        LinkInput::Down { link, peer } => Some((link, peer)),
        _ => None,
    });
    assert_eq!(down.await, (link, key));
}

#[tokio::test]
async fn hanging_up_ends_the_link_on_both_sides() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, Transport::Tcp).await;
    a.swarm.act(LinkOutput::HangUp { peer: b.key });
    for peer in [&mut a, &mut b] {
        peer.next(|input| matches!(input, LinkInput::Down { .. }).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn a_crowd_of_strangers_from_one_source_shuts_itself_out() {
    let (mut a, b) = (Peer::start(1), Peer::start(2));
    let target = b.at(Transport::Tcp);
    let mut crowd = Vec::new();
    for _ in 0..16 {
        crowd.push(
            tokio::net::TcpStream::connect(target.address)
                .await
                .unwrap(),
        );
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.dial(1, Some(b.key), vec![target]);
    assert_eq!(a.dial_failed(1).await, Some(false));
    drop(crowd);
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.dial(2, Some(b.key), vec![target]);
    assert_eq!(a.up().await.1, b.key);
}

#[tokio::test]
async fn a_third_peer_is_located_through_the_second() {
    let (mut a, mut b, mut c) = (Peer::start(1), Peer::start(2), Peer::start(3));
    a.connect(&mut b, Transport::Tcp).await;
    c.connect(&mut b, Transport::Tcp).await;
    let fresh = ControlAddress {
        transport: Transport::Quic,
        address: "192.0.2.33:4711".parse().unwrap(),
    };
    a.trust(&b);
    c.trust(&b);
    b.trust(&a);
    b.swarm.act(LinkOutput::Trust {
        peer: c.key,
        addresses: vec![fresh],
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    a.swarm.act(LinkOutput::Locate { peer: c.key });
    let found = a.next(|input| match input {
        LinkInput::Located { peer, addresses } => Some((peer, addresses)),
        _ => None,
    });
    assert_eq!(found.await, (c.key, vec![fresh]));
    let rest = a.backlog();
    assert!(
        !rest
            .iter()
            .any(|input| matches!(input, LinkInput::Up { .. }))
    );
}

#[tokio::test]
async fn a_stranger_learns_nothing_from_the_dht() {
    let (mut a, mut b, mut c) = (Peer::start(1), Peer::start(2), Peer::start(3));
    a.connect(&mut b, Transport::Tcp).await;
    c.connect(&mut b, Transport::Tcp).await;
    a.trust(&b);
    b.swarm.act(LinkOutput::Trust {
        peer: c.key,
        addresses: vec![c.at(Transport::Tcp)],
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    a.swarm.act(LinkOutput::Locate { peer: c.key });
    let found = a.within(Duration::from_secs(1), |input| {
        matches!(input, LinkInput::Located { .. }).then_some(())
    });
    assert_eq!(found.await, None);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let a = Peer::start(1);
    let (events, _inputs) = mpsc::channel(1);
    let config = SwarmConfig {
        seed: Zeroizing::new([2; 32]),
        port: a.port,
        mdns: false,
    };
    let error = Swarm::start(config, events).unwrap_err();
    assert!(
        format!("{error:#}").contains(&a.port.to_string()),
        "{error:#}"
    );
}

#[tokio::test]
async fn a_core_that_does_not_listen_does_not_stop_its_orders() {
    let mut b = Peer::start(2);
    let (events, mut full) = mpsc::channel(1);
    let port = free_ports();
    let config = SwarmConfig {
        seed: Zeroizing::new([1; 32]),
        port,
        mdns: false,
    };
    let a = Swarm::start(config, events).unwrap();
    let dial = |id| LinkOutput::Dial {
        dial: DialId(id),
        peer: Some(b.key),
        addresses: vec![b.at(Transport::Tcp)],
    };
    a.act(dial(1));
    tokio::time::sleep(Duration::from_millis(300)).await;
    for call in 0..50 {
        let (peer, service) = (key(9), Service::Hello);
        a.act(LinkOutput::Ask {
            call: CallId(call),
            peer,
            service,
            bytes: Vec::new(),
        });
    }
    let mut answered = 0;
    while answered < 50 {
        let input = timeout(PATIENCE, full.recv()).await.unwrap().unwrap();
        answered += usize::from(matches!(input, LinkInput::Answered { .. }));
    }
    assert_eq!(b.up().await.1, key(1));
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn pair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn key(seed: u8) -> TransportKey {
    address::transport_key(&pair(seed).public().to_peer_id()).unwrap()
}

/// A TCP port that is free, with a free UDP port after it.
fn free_ports() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if port < u16::MAX && UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port + 1)).is_ok() {
            return port;
        }
    }
}

/// A swarm and what it said.
struct Peer {
    swarm: Swarm,
    inputs: mpsc::Receiver<LinkInput>,
    key: TransportKey,
    port: u16,
}

impl Peer {
    fn start(seed: u8) -> Self {
        loop {
            let (events, inputs) = mpsc::channel(64);
            let port = free_ports();
            let config = SwarmConfig {
                seed: Zeroizing::new([seed; 32]),
                port,
                mdns: false,
            };
            // Another test may have taken the port in between.
            if let Ok(swarm) = Swarm::start(config, events) {
                return Self {
                    swarm,
                    inputs,
                    key: key(seed),
                    port,
                };
            }
        }
    }

    fn at(&self, transport: Transport) -> ControlAddress {
        let port = match transport {
            Transport::Tcp => self.port,
            Transport::Quic => self.port + 1,
        };
        ControlAddress {
            transport,
            address: (IpAddr::V4(Ipv4Addr::LOCALHOST), port).into(),
        }
    }

    fn dial(&self, dial: u64, peer: Option<TransportKey>, addresses: Vec<ControlAddress>) {
        self.swarm.act(LinkOutput::Dial {
            dial: DialId(dial),
            peer,
            addresses,
        });
    }

    /// Connects to another; gives the link's number on both sides.
    async fn connect(&mut self, other: &mut Self, transport: Transport) -> (LinkId, LinkId) {
        self.dial(77, Some(other.key), vec![other.at(transport)]);
        let (mine, peer, dial) = self.up().await;
        assert_eq!((peer, dial), (other.key, Some(DialId(77))));
        let (theirs, peer, dial) = other.up().await;
        assert_eq!((peer, dial), (self.key, None));
        (mine, theirs)
    }

    fn trust(&self, other: &Self) {
        let addresses = vec![other.at(Transport::Tcp)];
        self.swarm.act(LinkOutput::Trust {
            peer: other.key,
            addresses,
        });
    }

    fn ask(&self, call: u64, other: &Self, service: Service, bytes: Vec<u8>) {
        self.swarm.act(LinkOutput::Ask {
            call: CallId(call),
            peer: other.key,
            service,
            bytes,
        });
    }

    async fn next<T>(&mut self, wanted: impl Fn(LinkInput) -> Option<T>) -> T {
        self.within(PATIENCE, wanted)
            .await
            .expect("it happens in time")
    }

    async fn within<T>(
        &mut self,
        time: Duration,
        wanted: impl Fn(LinkInput) -> Option<T>,
    ) -> Option<T> {
        let search = async {
            loop {
                let input = self.inputs.recv().await.expect("the links run");
                if let Some(found) = wanted(input) {
                    return found;
                }
            }
        };
        timeout(time, search).await.ok()
    }

    fn backlog(&mut self) -> Vec<LinkInput> {
        std::iter::from_fn(|| self.inputs.try_recv().ok()).collect()
    }

    async fn up(&mut self) -> (LinkId, TransportKey, Option<DialId>) {
        self.next(|input| match input {
            LinkInput::Up {
                link, peer, dial, ..
            } => Some((link, peer, dial)),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self, wanted: u64) -> Option<bool> {
        self.next(|input| match input {
            LinkInput::DialFailed { dial, useless } if dial == DialId(wanted) => {
                Some(Some(useless))
            }
            LinkInput::Up { .. } => Some(None),
            _ => None,
        })
        .await
    }

    async fn asked(&mut self, wanted: Service) -> (meshnode_protocol::link::AnswerId, Vec<u8>) {
        self.next(|input| match input {
            LinkInput::Asked {
                answer,
                service,
                bytes,
                ..
            } if service == wanted => Some((answer, bytes)),
            _ => None,
        })
        .await
    }

    async fn answered(&mut self, wanted: u64) -> (Option<LinkId>, Result<Vec<u8>, CallError>) {
        self.next(|input| match input {
            LinkInput::Answered { call, link, result } if call == CallId(wanted) => {
                Some((link, result))
            }
            _ => None,
        })
        .await
    }

    async fn gossip(&mut self) -> (meshnode_protocol::link::GossipId, Vec<u8>) {
        self.next(|input| match input {
            LinkInput::Gossip { message, bytes, .. } => Some((message, bytes)),
            _ => None,
        })
        .await
    }
}
