//! Strangers that keep sealed values for one another.

use meshnode_protocol::limits::LOCATOR_BYTES;
use meshnode_protocol::link::LocatorKey;

use super::*;

const PLACE: LocatorKey = LocatorKey([0x5A; 32]);

impl Peer {
    /// Makes others the DHT nodes of this one.
    fn name(&self, others: &[&Self]) {
        let named = others.iter().map(|other| {
            let addresses = [Transport::Tcp, Transport::Quic].map(|way| other.at(way));
            (other.key, addresses.to_vec())
        });
        self.swarm.act(LinkOutput::Neighbours(named.collect()));
    }

    fn put(&self, value: Vec<u8>) {
        self.swarm.act(LinkOutput::Put { key: PLACE, value });
    }

    /// Asks until a value comes, as often as `tries` says.
    async fn get(&mut self, tries: usize) -> Option<Vec<u8>> {
        for _ in 0..tries {
            self.swarm.act(LinkOutput::Get { key: PLACE });
            let got = self.within(Duration::from_millis(300), |input| match input {
                LinkInput::Got { key: PLACE, value } => Some(value),
                _ => None,
            });
            if let Some(value) = got.await {
                return Some(value);
            }
        }
        None
    }
}

#[tokio::test]
async fn two_that_know_the_same_stranger_pass_a_value_on_by_it() {
    let (a, mut b, stranger) = (Peer::start(1), Peer::start(2), Peer::start(3));
    a.name(&[&stranger]);
    b.name(&[&stranger]);
    let value = vec![9; LOCATOR_BYTES];
    a.put(value.clone());
    assert_eq!(b.get(30).await, Some(value));
}

#[tokio::test]
async fn a_value_that_is_put_again_replaces_the_one_before() {
    let (a, mut b, stranger) = (Peer::start(1), Peer::start(2), Peer::start(3));
    a.name(&[&stranger]);
    b.name(&[&stranger]);
    a.put(vec![1; LOCATOR_BYTES]);
    assert_eq!(b.get(30).await, Some(vec![1; LOCATOR_BYTES]));
    a.put(vec![2; LOCATOR_BYTES]);
    let mut tries = 0;
    while b.get(30).await != Some(vec![2; LOCATOR_BYTES]) {
        tries += 1;
        assert!(tries < 30, "the second value arrives");
    }
}

#[tokio::test]
async fn a_value_of_another_size_and_one_at_anothers_place_are_not_kept() {
    let (a, mut b, mut other) = (Peer::start(1), Peer::start(2), Peer::start(4));
    let stranger = Peer::start(3);
    for peer in [&a, &b, &other] {
        peer.name(&[&stranger]);
    }
    a.put(vec![1; LOCATOR_BYTES - 1]);
    assert_eq!(b.get(3).await, None);
    a.put(vec![2; LOCATOR_BYTES]);
    assert_eq!(b.get(30).await, Some(vec![2; LOCATOR_BYTES]));
    other.put(vec![3; LOCATOR_BYTES]);
    assert_eq!(other.get(3).await, Some(vec![2; LOCATOR_BYTES]));
}

#[tokio::test]
async fn a_stranger_that_asks_is_told_of_strangers_and_never_of_members() {
    let (mut a, mut member, mut asker) = (Peer::start(1), Peer::start(2), Peer::start(4));
    let stranger = Peer::start(3);
    a.connect(&mut member, Transport::Tcp).await;
    a.trust(&member);
    member.trust(&a);
    // Where it really is, and an address that is worth telling.
    let public = ControlAddress {
        transport: Transport::Tcp,
        address: "198.51.100.33:4711".parse().unwrap(),
    };
    let known = (stranger.key, vec![stranger.at(Transport::Tcp), public]);
    a.swarm.act(LinkOutput::Neighbours(vec![known]));
    asker.name(&[&a]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    asker.swarm.act(LinkOutput::Get { key: PLACE });
    let told = asker.next(|input| match input {
        LinkInput::Sighted { peer, .. } => Some(peer),
        _ => None,
    });
    assert_eq!(told.await, stranger.key);
    tokio::time::sleep(Duration::from_millis(500)).await;
    for input in asker.backlog() {
        // Nor is anybody called whom a stranger named.
        assert!(!matches!(input, LinkInput::Up { .. }), "{input:?}");
        if let LinkInput::Sighted { peer, .. } = input {
            assert_eq!(peer, stranger.key);
        }
    }
}
