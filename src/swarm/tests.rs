//! Two and three real swarms on loopback, with real sockets.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one kind of input among all"
)]

mod asking;
mod circuits;
mod datagrams;
mod dht;
mod dialing;
mod life;
mod members;
mod volunteer;

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

use libp2p::identity::Keypair;
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::limits::{JOIN_BYTES_MAX, MESSAGE_BYTES_MAX};
use meshnode_protocol::link::{
    AnswerId, CallError, CallId, DialId, GossipId, LinkId, LinkInput, LinkOutput, Service,
};
use meshnode_protocol::record::{ControlAddress, Transport};
use meshnode_protocol::seal::SEAL_OVERHEAD_BYTES;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Certificate, Swarm, SwarmConfig, address};
use crate::carrier::Carrier;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn pair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn key(seed: u8) -> TransportKey {
    address::transport_key(&pair(seed).public().to_peer_id()).unwrap()
}

fn config(seed: u8, port: u16, carrier: &Carrier) -> SwarmConfig {
    SwarmConfig {
        seed: Zeroizing::new([seed; 32]),
        port,
        mdns: false,
        carrier: carrier.clone(),
        certificate: Certificate::passing().unwrap(),
        proxy: None,
    }
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
    carrier: Carrier,
    key: TransportKey,
    port: u16,
}

impl Peer {
    fn start(seed: u8) -> Self {
        loop {
            let (events, inputs) = mpsc::channel(64);
            let port = free_ports();
            let carrier = Carrier::new().unwrap();
            let config = config(seed, port, &carrier);
            // Another test may have taken the port in between.
            if let Ok(swarm) = Swarm::start(config, events) {
                return Self {
                    swarm,
                    inputs,
                    carrier,
                    key: key(seed),
                    port,
                };
            }
        }
    }

    /// At the port of one that stopped, as soon as the system gives it back.
    async fn start_at(seed: u8, port: u16) -> Self {
        let started = async {
            loop {
                let (events, inputs) = mpsc::channel(64);
                let carrier = Carrier::new().unwrap();
                if let Ok(swarm) = Swarm::start(config(seed, port, &carrier), events) {
                    return (swarm, inputs, carrier);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (swarm, inputs, carrier) = timeout(PATIENCE, started).await.unwrap();
        Self {
            swarm,
            inputs,
            carrier,
            key: key(seed),
            port,
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
        self.swarm.act(LinkOutput::Trust { peer: other.key });
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

    async fn asked(&mut self, wanted: Service) -> (AnswerId, Vec<u8>) {
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

    async fn gossip(&mut self) -> (GossipId, Vec<u8>) {
        self.next(|input| match input {
            LinkInput::Gossip { message, bytes, .. } => Some((message, bytes)),
            _ => None,
        })
        .await
    }
}
