//! What is behind the gate: gossip.

use super::*;

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
async fn a_distrusted_peer_hears_no_more_gossip_and_may_not_sync() {
    let (mut a, mut b) = (Peer::start(1), Peer::start(2));
    for peer in [&a, &b] {
        peer.swarm.act(LinkOutput::Topic([9; 32]));
    }
    a.connect(&mut b, Transport::Tcp).await;
    a.trust(&b);
    b.trust(&a);
    tokio::time::sleep(Duration::from_millis(500)).await;
    a.swarm.act(LinkOutput::Publish(b"before".to_vec()));
    assert_eq!(b.gossip().await.1, b"before");
    a.swarm.act(LinkOutput::Distrust { peer: b.key });
    a.swarm.act(LinkOutput::Publish(b"after".to_vec()));
    b.ask(1, &a, Service::Sync, b"all?".to_vec());
    assert_eq!(b.answered(1).await.1, Err(CallError::Refused));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        !b.backlog()
            .iter()
            .any(|input| matches!(input, LinkInput::Gossip { .. }))
    );
}
