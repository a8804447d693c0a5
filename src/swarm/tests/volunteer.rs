//! A relay that is a member of nothing.

use std::collections::BTreeSet;

use super::*;
use crate::swarm::{Volunteer, VolunteerConfig, look};

/// Ten Mbit/s in all, a tenth of that a circuit.
fn terms(port: u16) -> VolunteerConfig {
    VolunteerConfig {
        seed: Zeroizing::new([3; 32]),
        port,
        certificate: Certificate::passing().unwrap(),
        allowed: None,
        rate: 1_250_000,
        pair_rate: 125_000,
        circuits: 9,
        introduces_only: false,
    }
}

/// Starts a volunteer; gives where it is, too.
fn volunteer(change: impl Fn(&mut VolunteerConfig)) -> (Volunteer, ControlAddress) {
    loop {
        let port = free_ports();
        let mut config = terms(port);
        change(&mut config);
        if let Ok(volunteer) = Volunteer::start(config) {
            let at = ControlAddress {
                transport: Transport::Tcp,
                address: (IpAddr::V4(Ipv4Addr::LOCALHOST), port).into(),
            };
            return (volunteer, at);
        }
    }
}

/// Two members that trust each other, connected by a circuit of the volunteer.
async fn connected(volunteer: &Volunteer, at: ControlAddress) -> (Peer, Peer) {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    b.swarm
        .act(LinkOutput::Homes(vec![(*volunteer.key(), vec![at])]));
    b.reserved(*volunteer.key(), true).await;
    a.swarm.act(LinkOutput::DialBy {
        dial: DialId(5),
        peer: b.key,
        relay: *volunteer.key(),
        addresses: vec![at],
    });
    assert_eq!(a.up_by().await.1, Some(*volunteer.key()));
    assert_eq!(b.up_by().await.0, a.key);
    a.trust(&b);
    b.trust(&a);
    (a, b)
}

/// How long an answer of so many bytes takes.
async fn answered_in(a: &mut Peer, b: &mut Peer, bytes: usize) -> Duration {
    a.ask(1, b, Service::Sync, b"all?".to_vec());
    let (answer, _) = b.asked(Service::Sync).await;
    let begun = tokio::time::Instant::now();
    b.swarm.act(LinkOutput::Answer {
        answer,
        bytes: vec![7; bytes],
    });
    let got = a.answered(1).await.1;
    assert_eq!(got.map(|bytes| bytes.len()), Ok(bytes));
    begun.elapsed()
}

#[tokio::test]
async fn strangers_of_a_volunteer_reach_each_other_by_it_and_it_counts_what_passes() {
    let (volunteer, at) = volunteer(|_| {});
    let (mut a, mut b) = connected(&volunteer, at).await;
    let before = volunteer.report();
    assert_eq!((before.clients, before.circuits), (1, 1));
    answered_in(&mut a, &mut b, 10_000).await;
    let passed = volunteer.report().bytes - before.bytes;
    assert!((10_000..30_000).contains(&passed), "{passed}");
    a.swarm.act(LinkOutput::HangUp { peer: b.key });
    b.next(|input| matches!(input, LinkInput::Down { .. }).then_some(()))
        .await;
    for _ in 0..100 {
        if volunteer.report().circuits == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a circuit that ended is counted still");
}

#[tokio::test]
async fn a_circuit_has_the_rate_of_a_pair_and_no_more() {
    let (volunteer, at) = volunteer(|_| {});
    let (mut a, mut b) = connected(&volunteer, at).await;
    // A second's worth, and an eighth comes at once.
    let took = answered_in(&mut a, &mut b, 250_000).await;
    let slow = Duration::from_millis(1_500)..Duration::from_secs(8);
    assert!(slow.contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_month_that_is_full_ends_circuits_and_one_with_room_lets_them_begin() {
    let (volunteer, at) = volunteer(|_| {});
    let (mut a, mut b) = connected(&volunteer, at).await;
    volunteer.allow(false);
    a.ask(1, &b, Service::Sync, vec![7; 60_000]);
    let down = a.next(|input| matches!(input, LinkInput::Down { .. }).then_some(()));
    down.await;
    volunteer.allow(true);
    b.next(|input| matches!(input, LinkInput::Down { .. }).then_some(()))
        .await;
    a.swarm.act(LinkOutput::DialBy {
        dial: DialId(6),
        peer: b.key,
        relay: *volunteer.key(),
        addresses: vec![at],
    });
    assert_eq!(a.up_by().await.0, b.key);
}

#[tokio::test]
async fn a_volunteer_for_a_few_serves_nobody_else() {
    let (volunteer, at) = volunteer(|config| {
        config.allowed = Some(BTreeSet::from([key(2)]));
    });
    let (mut other, mut listed) = (Peer::start(1), Peer::start(2));
    let homes = vec![(*volunteer.key(), vec![at])];
    listed.swarm.act(LinkOutput::Homes(homes.clone()));
    other.swarm.act(LinkOutput::Homes(homes));
    listed.reserved(*volunteer.key(), true).await;
    let got = other.within(Duration::from_secs(2), |input| {
        matches!(input, LinkInput::Reserved { .. }).then_some(())
    });
    assert_eq!(got.await, None);
}

#[tokio::test]
async fn a_look_tells_whose_a_relay_is_and_a_member_is_none() {
    let (volunteer, at) = volunteer(|_| {});
    let seen = look(Transport::Tcp, at.address, None, PATIENCE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seen.key, seen.carries), (*volunteer.key(), true));
    let member = Peer::start(4);
    let at = member.at(Transport::Quic).address;
    let seen = look(Transport::Quic, at, None, PATIENCE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seen.key, seen.carries), (member.key, false));
    let nobody = "127.0.0.1:9".parse().unwrap();
    assert_eq!(
        look(Transport::Tcp, nobody, None, PATIENCE).await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_volunteer_speaks_nothing_but_relaying() {
    let (volunteer, at) = volunteer(|_| {});
    let mut a = Peer::start(1);
    a.dial(1, Some(*volunteer.key()), vec![at]);
    a.up().await;
    a.swarm.act(LinkOutput::Ask {
        call: CallId(1),
        peer: *volunteer.key(),
        service: Service::Hello,
        bytes: b"who?".to_vec(),
    });
    assert_eq!(a.answered(1).await.1, Err(CallError::Unsupported));
}
