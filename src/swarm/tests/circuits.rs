//! Circuits: two that cannot hear each other, and a third that both can.

use super::*;

impl Peer {
    pub(super) fn homes(&self, homes: &[&Self]) {
        let homes = homes.iter().map(|home| {
            let addresses = [Transport::Tcp, Transport::Quic].map(|way| home.at(way));
            (home.key, addresses.to_vec())
        });
        self.swarm.act(LinkOutput::Homes(homes.collect()));
    }

    pub(super) fn dial_by(&self, dial: u64, peer: TransportKey, relay: &Self) {
        self.swarm.act(LinkOutput::DialBy {
            dial: DialId(dial),
            peer,
            relay: relay.key,
            addresses: vec![relay.at(Transport::Tcp)],
        });
    }

    pub(super) async fn reserved(&mut self, home: TransportKey, wanted: bool) {
        self.next(|input| match input {
            LinkInput::Reserved { relay, stands } if relay == home && stands == wanted => Some(()),
            _ => None,
        })
        .await;
    }

    pub(super) async fn up_by(
        &mut self,
    ) -> (
        TransportKey,
        Option<TransportKey>,
        Option<DialId>,
        ControlAddress,
    ) {
        self.next(|input| match input {
            LinkInput::Up {
                peer,
                by,
                dial,
                remote,
                ..
            } if by.is_some() => Some((peer, by, dial, remote)),
            _ => None,
        })
        .await
    }
}

/// A relay that both trust and that trusts both; the second has a reservation there.
pub(super) async fn network() -> (Peer, Peer, Peer) {
    let (a, mut b, relay) = (Peer::start(1), Peer::start(2), Peer::start(3));
    relay.swarm.act(LinkOutput::Relaying(true));
    relay.trust(&a);
    relay.trust(&b);
    b.homes(&[&relay]);
    b.reserved(relay.key, true).await;
    (a, b, relay)
}

#[tokio::test]
async fn a_member_is_called_by_the_circuit_of_its_home_and_answers() {
    let (mut a, mut b, relay) = network().await;
    a.dial_by(5, b.key, &relay);
    let (peer, by, dial, remote) = a.up_by().await;
    assert_eq!((peer, by), (b.key, Some(relay.key)));
    assert_eq!((dial, remote), (Some(DialId(5)), relay.at(Transport::Tcp)));
    let (peer, by, dial, remote) = b.up_by().await;
    assert_eq!((peer, by, dial), (a.key, Some(relay.key), None));
    let homes = [Transport::Tcp, Transport::Quic].map(|way| relay.at(way));
    assert!(homes.contains(&remote), "{remote:?}");
    a.ask(1, &b, Service::Hello, b"who?".to_vec());
    let (answer, bytes) = b.asked(Service::Hello).await;
    assert_eq!(bytes, b"who?");
    let bytes = b"me".to_vec();
    b.swarm.act(LinkOutput::Answer { answer, bytes });
    assert_eq!(a.answered(1).await.1, Ok(b"me".to_vec()));
}

#[tokio::test]
async fn a_stranger_gets_neither_reservation_nor_circuit_of_a_member() {
    let (a, mut b, mut relay) = network().await;
    let mut stranger = Peer::start(4);
    stranger.homes(&[&relay]);
    stranger.dial_by(6, b.key, &relay);
    let got = stranger
        .within(Duration::from_secs(3), |input| match input {
            LinkInput::Reserved { .. } | LinkInput::Up { .. } => Some(()),
            _ => None,
        })
        .await;
    assert_eq!(got, None);
    assert!(
        !b.backlog()
            .iter()
            .any(|input| matches!(input, LinkInput::Up { .. }))
    );
    // Trusted, it gets what it asked for all the time.
    relay.trust(&stranger);
    stranger.reserved(relay.key, true).await;
    drop((a, relay.backlog()));
}

#[tokio::test]
async fn who_does_not_relay_gives_no_reservation_and_one_that_begins_to_gives_it() {
    let (mut b, relay) = (Peer::start(2), Peer::start(3));
    relay.trust(&b);
    b.homes(&[&relay]);
    let early = b.within(Duration::from_secs(3), |input| {
        matches!(input, LinkInput::Reserved { .. }).then_some(())
    });
    assert_eq!(early.await, None);
    relay.swarm.act(LinkOutput::Relaying(true));
    b.reserved(relay.key, true).await;
}

#[tokio::test]
async fn who_stops_to_relay_takes_its_reservations_back() {
    let (mut a, mut b, relay) = network().await;
    a.dial_by(5, b.key, &relay);
    a.up_by().await;
    relay.swarm.act(LinkOutput::Relaying(false));
    b.reserved(relay.key, false).await;
    a.next(|input| matches!(input, LinkInput::Down { .. }).then_some(()))
        .await;
    let again = b.within(Duration::from_secs(3), |input| match input {
        LinkInput::Reserved { stands, .. } => stands.then_some(()),
        _ => None,
    });
    assert_eq!(again.await, None);
}

#[tokio::test]
async fn a_reservation_that_its_relay_took_along_is_made_anew_when_the_relay_is_back() {
    let (mut a, mut b, relay) = network().await;
    let (port, key) = (relay.port, relay.key);
    relay.swarm.stop().await;
    b.reserved(key, false).await;
    a.dial(7, None, vec![]);
    assert_eq!(a.dial_failed(7).await, Some(true));
    let relay = Peer::start_at(3, port).await;
    relay.swarm.act(LinkOutput::Relaying(true));
    relay.trust(&a);
    relay.trust(&b);
    b.reserved(key, true).await;
    a.dial_by(8, b.key, &relay);
    assert_eq!(a.up_by().await.0, b.key);
}

#[tokio::test]
async fn a_call_by_a_relay_that_is_away_or_does_not_know_the_peer_fails() {
    let (mut a, b, relay) = network().await;
    a.dial_by(5, key(9), &relay);
    assert_eq!(a.dial_failed(5).await, Some(false));
    let away = Peer::start(6);
    let (away_key, at) = (away.key, away.at(Transport::Tcp));
    away.swarm.stop().await;
    a.swarm.act(LinkOutput::DialBy {
        dial: DialId(6),
        peer: b.key,
        relay: away_key,
        addresses: vec![at],
    });
    assert_eq!(a.dial_failed(6).await, Some(false));
}

#[tokio::test]
async fn a_direct_connection_stands_beside_a_circuit_and_then_replaces_it() {
    let (mut a, mut b, relay) = network().await;
    a.dial_by(5, b.key, &relay);
    a.up_by().await;
    b.up_by().await;
    a.dial(6, Some(b.key), vec![b.at(Transport::Tcp)]);
    let (_, peer, dial) = a.up().await;
    assert_eq!((peer, dial), (b.key, Some(DialId(6))));
    let down = a.within(Duration::from_secs(20), |input| match input {
        LinkInput::Down { peer, .. } => Some(peer),
        _ => None,
    });
    assert_eq!(down.await, Some(b.key));
    // And there is no circuit to one that is connected.
    a.dial_by(7, b.key, &relay);
    assert_eq!(a.dial_failed(7).await, Some(true));
}

#[tokio::test]
async fn a_connection_made_for_a_relays_sake_is_shown_to_the_core_that_calls_the_relay() {
    let (_, mut b, relay) = network().await;
    let seen = b.backlog();
    assert!(
        !seen
            .iter()
            .any(|input| matches!(input, LinkInput::Up { .. }))
    );
    b.dial(9, Some(relay.key), vec![relay.at(Transport::Tcp)]);
    let (_, peer, dial) = b.up().await;
    assert_eq!((peer, dial), (relay.key, Some(DialId(9))));
}

#[tokio::test]
async fn a_stranger_is_told_no_address_of_a_relay() {
    let (_, b, relay) = network().await;
    let (told, key) = identified(&b, 50).await;
    assert_eq!(key, b.key);
    assert_eq!(told, Vec::<libp2p::Multiaddr>::new());
    let (told, _) = identified(&relay, 51).await;
    assert_eq!(told, Vec::<libp2p::Multiaddr>::new());
}

/// What a peer tells a stranger by identify.
async fn identified(peer: &Peer, seed: u8) -> (Vec<libp2p::Multiaddr>, TransportKey) {
    use futures::StreamExt as _;
    use libp2p::{identify, noise, swarm::SwarmEvent, tcp, yamux};

    let mut stranger = libp2p::SwarmBuilder::with_existing_identity(pair(seed))
        .with_tokio()
        .with_tcp(
            tcp::Config::new(),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_behaviour(|pair| {
            identify::Behaviour::new(identify::Config::new("/x/1".to_owned(), pair.public()))
        })
        .unwrap()
        .build();
    stranger
        .dial(address::multiaddr(&peer.at(Transport::Tcp)))
        .unwrap();
    let told = async {
        loop {
            let event = stranger.select_next_some().await;
            if let SwarmEvent::Behaviour(identify::Event::Received { peer_id, info, .. }) = event {
                let key = address::transport_key(&peer_id).unwrap();
                return (info.listen_addrs, key);
            }
        }
    };
    timeout(PATIENCE, told).await.unwrap()
}
