//! Datagrams by streams, over circuits and direct connections.

use meshnode_protocol::peering::CircuitId;

use super::*;
use crate::carrier::Lost;

const PACKET: u8 = 4;
const HANDSHAKE: u8 = 1;

impl Peer {
    fn carry(&self, other: &Self, wanted: bool) {
        let peer = other.key;
        self.swarm.act(LinkOutput::Carry { peer, wanted });
    }

    async fn carrying(&mut self) -> Option<CircuitId> {
        self.next(|input| match input {
            LinkInput::Carrying { circuit, .. } => Some(circuit),
            _ => None,
        })
        .await
    }

    /// The next datagram that came.
    async fn datagram(&self) -> (CircuitId, Vec<u8>) {
        let came = async {
            loop {
                if let Some(came) = self.carrier.take() {
                    return came;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, came).await.expect("a datagram comes")
    }
}

/// Two that trust each other over a direct connection, and the handles of one stream between them.
async fn carrying(transport: Transport) -> (Peer, Peer, CircuitId, CircuitId) {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, transport).await;
    a.trust(&b);
    b.trust(&a);
    a.carry(&b, true);
    let (here, there) = (a.carrying().await.unwrap(), b.carrying().await.unwrap());
    (a, b, here, there)
}

#[tokio::test]
async fn datagrams_go_both_ways_over_the_stream_that_one_end_opened() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let (a, b, here, there) = carrying(transport).await;
        for size in [1, 148, 1312, 2048] {
            let datagram = vec![HANDSHAKE; size];
            a.carrier.send(here, &datagram);
            assert_eq!(b.datagram().await, (there, datagram.clone()));
            b.carrier.send(there, &datagram);
            assert_eq!(a.datagram().await, (here, datagram));
        }
    }
}

#[tokio::test]
async fn datagrams_go_over_a_circuit_and_over_the_direct_connection_that_replaces_it() {
    let (mut a, mut b, relay) = circuits::network().await;
    a.dial_by(5, b.key, &relay);
    b.up_by().await;
    a.up_by().await;
    a.trust(&b);
    b.trust(&a);
    a.carry(&b, true);
    b.carry(&a, true);
    let (here, there) = (a.carrying().await.unwrap(), b.carrying().await.unwrap());
    a.carrier.send(here, &[PACKET, 1]);
    assert_eq!(b.datagram().await, (there, vec![PACKET, 1]));
    b.carrier.send(there, &[PACKET, 2]);
    assert_eq!(a.datagram().await, (here, vec![PACKET, 2]));
    a.dial(6, Some(b.key), vec![b.at(Transport::Tcp)]);
    let (after, beyond) = (a.carrying().await.unwrap(), b.carrying().await.unwrap());
    assert!(after != here && beyond != there);
    a.carrier.send(after, &[PACKET, 3]);
    assert_eq!(b.datagram().await, (beyond, vec![PACKET, 3]));
}

#[tokio::test]
async fn a_stranger_has_no_stream_and_nothing_of_it_is_read() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    a.connect(&mut b, Transport::Tcp).await;
    // Whoever trusts is not trusted for that.
    a.trust(&b);
    a.carry(&b, true);
    let here = a.carrying().await.unwrap();
    a.carrier.send(here, &[HANDSHAKE, 1]);
    let seen = b.within(Duration::from_millis(500), |input| {
        matches!(input, LinkInput::Carrying { .. }).then_some(())
    });
    assert_eq!(seen.await, None);
    assert_eq!(b.carrier.take(), None);
    // What it sent waits in the stream.
    b.trust(&a);
    let there = b.carrying().await.unwrap();
    assert_eq!(b.datagram().await, (there, vec![HANDSHAKE, 1]));
}

#[tokio::test]
async fn a_stream_that_nobody_wants_any_more_ends_for_both() {
    let (mut a, mut b, ..) = carrying(Transport::Tcp).await;
    a.carry(&b, false);
    assert_eq!(a.carrying().await, None);
    assert_eq!(b.carrying().await, None);
    a.carry(&b, true);
    assert!(a.carrying().await.is_some() && b.carrying().await.is_some());
}

#[tokio::test]
async fn the_end_of_the_connection_is_the_end_of_its_handle() {
    let (mut a, mut b, ..) = carrying(Transport::Quic).await;
    a.swarm.act(LinkOutput::HangUp { peer: b.key });
    assert_eq!(a.carrying().await, None);
    assert_eq!(b.carrying().await, None);
    // The next connection has none before it is wanted again.
    a.connect(&mut b, Transport::Tcp).await;
    let early = b.within(Duration::from_millis(300), |input| {
        matches!(input, LinkInput::Carrying { .. }).then_some(())
    });
    assert_eq!(early.await, None);
    a.trust(&b);
    b.trust(&a);
    a.carry(&b, true);
    assert!(a.carrying().await.is_some() && b.carrying().await.is_some());
}

#[tokio::test]
async fn what_a_slow_stream_does_not_take_is_lost_the_oldest_first() {
    let (a, b, here, there) = carrying(Transport::Tcp).await;
    // All of this is put while the links' task has no turn: more than there is room for.
    for number in 0..200u8 {
        a.carrier.send(here, &[PACKET, number]);
    }
    a.carrier.send(here, &[HANDSHAKE, 0]);
    assert_eq!(b.datagram().await, (there, vec![HANDSHAKE, 0]));
    let first = b.datagram().await.1[1];
    assert_eq!(first, 200 - 64);
    for number in first + 1..200 {
        assert_eq!(b.datagram().await.1, [PACKET, number]);
    }
    assert_eq!(a.carrier.lost().room, 200 - 64);
}

#[tokio::test]
async fn a_circuit_that_nobody_reads_slows_no_other_of_its_relay() {
    let (mut a, mut b, relay) = circuits::network().await;
    let mut c = Peer::start(4);
    relay.trust(&c);
    c.homes(&[&relay]);
    c.reserved(relay.key, true).await;
    a.dial_by(5, b.key, &relay);
    b.up_by().await;
    a.up_by().await;
    a.dial_by(6, c.key, &relay);
    c.up_by().await;
    a.up_by().await;
    // Who is not trusted has nothing read of what it sends: no reader is slower than this one.
    a.trust(&b);
    a.carry(&b, true);
    let deaf = a.carrying().await.unwrap();
    a.trust(&c);
    c.trust(&a);
    a.carry(&c, true);
    let (here, there) = (a.carrying().await.unwrap(), c.carrying().await.unwrap());
    let large = vec![PACKET; 1400];
    let flood = async {
        // More than all windows on the way hold, so that datagrams are lost here.
        while a.carrier.lost() == Lost::default() {
            a.carrier.send(deaf, &large);
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    timeout(PATIENCE, flood)
        .await
        .expect("the windows are full");
    for number in 0..300_u16 {
        a.carrier.send(deaf, &large);
        let [high, low] = number.to_be_bytes();
        // A handshake is not lost for age, however slow this machine is today.
        let datagram = vec![HANDSHAKE, high, low];
        a.carrier.send(here, &datagram);
        assert_eq!(c.datagram().await, (there, datagram));
    }
    assert_eq!(b.carrier.take(), None);
}
