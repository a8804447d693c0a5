//! How links and the task begin, end and are limited.

use super::*;

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
async fn a_port_in_use_is_named() {
    let a = Peer::start(1);
    let (events, _inputs) = mpsc::channel(1);
    let config = config(2, a.port, &a.carrier);
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
    let config = config(1, port, &Carrier::new().unwrap());
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
