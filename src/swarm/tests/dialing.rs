//! Attempts to connect.

use super::*;

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
