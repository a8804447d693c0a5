//! Questions and answers.

use super::*;

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
async fn a_strangers_question_at_the_limit_passes_and_one_past_it_is_refused() {
    let cases = [
        (Service::Join, JOIN_BYTES_MAX),
        (Service::Hello, JOIN_BYTES_MAX + SEAL_OVERHEAD_BYTES),
    ];
    for (service, bytes_max) in cases {
        let (mut a, mut b) = (Peer::start(1), Peer::start(2));
        a.connect(&mut b, Transport::Tcp).await;
        a.ask(1, &b, service, vec![0; bytes_max + 1]);
        assert_eq!(a.answered(1).await.1, Err(CallError::Refused));
        a.ask(2, &b, service, vec![0; bytes_max]);
        let (answer, bytes) = b.asked(service).await;
        assert_eq!(bytes.len(), bytes_max);
        b.swarm.act(LinkOutput::Answer {
            answer,
            bytes: vec![0; MESSAGE_BYTES_MAX],
        });
        assert_eq!(a.answered(2).await.1.unwrap().len(), MESSAGE_BYTES_MAX);
    }
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
