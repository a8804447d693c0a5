//! Two peers talk through memory: no socket, no sleep.

use std::net::SocketAddr;

use meshnode_protocol::peering::Mailbox;
use meshnode_protocol::relay::frame::Frame;

use super::*;
use crate::tunnel::filter::tests::{device, open};

const HELLO: &[u8] = &[
    0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0,
];

struct End {
    peer: Peer,
    out: Vec<u8>,
}

fn path(last: u8) -> Path {
    Path::to(SocketAddr::from(([192, 0, 2, last], 4000)))
}

fn at(uptime_ms: u64) -> Moment {
    Moment {
        uptime_us: uptime_ms * 1000,
        wall: Timestamp::from_ms(1_700_000_000_000 + uptime_ms),
    }
}

fn config(key: [u8; 32], roaming: Roaming) -> PeerConfig {
    PeerConfig {
        key: WireGuardKey::new(key),
        device: device(1),
        allowed_ips: vec![],
        roaming,
        keepalive_s: 0,
        probe_tag: None,
    }
}

/// Two ends that know each other's keys; neither has a path.
fn ends(roaming: Roaming) -> (End, End) {
    let (a, b) = (Identity::new([1; 32]), Identity::new([2; 32]));
    let end = |own: &Identity, other: &Identity, index| End {
        peer: Peer::new(
            own,
            index,
            &config(other.public.to_bytes(), roaming),
            open(1),
        ),
        out: vec![0; 2048],
    };
    (end(&a, &b, 1), end(&b, &a, 2))
}

impl End {
    fn seal(&mut self, now: Moment) -> Option<Vec<u8>> {
        match self.peer.seal(HELLO, 20, &mut self.out, now) {
            Sent::Datagram(_, bytes) => Some(bytes.to_vec()),
            Sent::Waits | Sent::NoPath(_) => None,
        }
    }

    fn open(&mut self, message: Message, bytes: &[u8], from: Path, now: Moment) -> (Vec<u8>, bool) {
        let received = self.peer.open(message, bytes, from, &mut self.out, now);
        let bytes = match received.content {
            Content::Packet(bytes) | Content::Reply(bytes) => bytes.to_vec(),
            Content::Nothing | Content::Refused => Vec::new(),
        };
        (bytes, received.moved)
    }

    fn path(&self) -> Option<Path> {
        self.peer.state().path
    }
}

fn data(bytes: &[u8]) -> Message {
    Message::Data(u32::from_le_bytes(bytes[4..8].try_into().unwrap()))
}

/// `a` at `path(1)` initiates to `b` at `path(2)`, until both have a session.
fn shake(a: &mut End, b: &mut End, now: Moment) {
    a.peer.set_path(Some(path(2)), &mut a.out, now);
    let initiation = a.seal(now).expect("the first packet starts a handshake");
    let (response, _) = b.open(Message::Initiation, &initiation, path(1), now);
    let (keepalive, _) = a.open(Message::Response, &response, path(2), now);
    let (nothing, _) = b.open(data(&keepalive), &keepalive, path(1), now);
    assert!(nothing.is_empty());
}

#[test]
fn a_packet_that_started_the_handshake_arrives_after_it() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(0));
    let (_, waited) = a
        .peer
        .waiting(&mut a.out, at(0))
        .expect("the packet waited");
    let waited = waited.to_vec();
    let (packet, _) = b.open(data(&waited), &waited, path(1), at(0));
    assert_eq!(packet, HELLO[..20]);
    assert!(a.peer.waiting(&mut a.out, at(0)).is_none());
}

#[test]
fn a_responder_without_a_path_answers_where_the_initiation_came_from() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(0));
    assert_eq!(b.path(), Some(path(1)));
    assert!(b.seal(at(0)).is_some());
}

#[test]
fn a_told_peer_keeps_its_path_and_reports_another_once_a_second() {
    let (mut a, mut b) = ends(Roaming::Told);
    b.peer.set_path(Some(path(1)), &mut b.out, at(0));
    shake(&mut a, &mut b, at(0));
    let mut reports = 0;
    for ms in [0, 100, 999, 1000, 1500] {
        let sealed = a.seal(at(ms)).unwrap();
        reports += u32::from(b.open(data(&sealed), &sealed, path(9), at(ms)).1);
    }
    assert_eq!(reports, 2);
    assert_eq!(b.path(), Some(path(1)));
}

#[test]
fn a_following_peer_takes_the_path_of_the_last_authentic_packet() {
    let (mut a, mut b) = ends(Roaming::Follow);
    b.peer.set_path(Some(path(1)), &mut b.out, at(0));
    shake(&mut a, &mut b, at(0));
    let sealed = a.seal(at(0)).unwrap();
    let mut forged = sealed.clone();
    *forged.last_mut().unwrap() ^= 1;
    b.open(data(&forged), &forged, path(8), at(0));
    assert_eq!(b.path(), Some(path(1)), "a forged packet moves nothing");
    b.open(data(&sealed), &sealed, path(9), at(0));
    assert_eq!(b.path(), Some(path(9)));
    b.open(data(&sealed), &sealed, path(8), at(0));
    assert_eq!(b.path(), Some(path(9)), "a replayed packet moves nothing");
}

#[test]
fn a_cookie_reply_moves_no_path() {
    let (mut a, _) = ends(Roaming::Follow);
    let strict = RateLimiter::new(&Identity::new([2; 32]).public, 0);
    a.peer.set_path(Some(path(2)), &mut a.out, at(0));
    let initiation = a.seal(at(0)).unwrap();
    let mut cookie = [0; 64];
    let Err(TunnResult::WriteToNetwork(cookie)) =
        strict.verify_packet(Some([192, 0, 2, 1].into()), &initiation, &mut cookie)
    else {
        panic!("a limiter with limit 0 asks for a cookie");
    };
    let cookie = cookie.to_vec();
    let (_, moved) = a.open(Message::Cookie, &cookie, path(9), at(0));
    assert!(!moved);
    assert_eq!(a.path(), Some(path(2)));
}

#[test]
fn a_packet_without_a_path_asks_for_one_once_a_second_and_waits_nowhere() {
    let (mut a, _) = ends(Roaming::Told);
    let mut asked = 0;
    for ms in [0, 10, 999, 1000] {
        let sent = a.peer.seal(HELLO, 20, &mut a.out, at(ms));
        asked += u32::from(sent == Sent::NoPath(true));
    }
    assert_eq!(asked, 2);
    assert!(a.peer.waiting(&mut a.out, at(1000)).is_none());
}

#[test]
fn a_path_for_a_peer_that_somebody_wanted_starts_the_handshake_at_once() {
    let (mut a, _) = ends(Roaming::Told);
    assert!(
        a.peer.set_path(Some(path(3)), &mut a.out, at(0)).is_none(),
        "nobody wants it"
    );
    a.peer.set_path(None, &mut a.out, at(0));
    assert_eq!(
        a.peer.seal(HELLO, 20, &mut a.out, at(0)),
        Sent::NoPath(true)
    );
    let (to, initiation) = a.peer.set_path(Some(path(2)), &mut a.out, at(10)).unwrap();
    assert_eq!((to, initiation.len()), (path(2), 148));
}

#[test]
fn keepalives_go_at_their_interval_and_a_changed_interval_keeps_the_session() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(0));
    assert!(
        a.peer.tick(&mut a.out, at(60_000)).is_none(),
        "none by default"
    );
    let mut config = config(*a.peer.key().as_bytes(), Roaming::Told);
    config.keepalive_s = 25;
    a.peer.set(&config);
    let mut sent = Vec::new();
    for ms in (0..=100_000).step_by(250) {
        if let Some((_, bytes)) = a.peer.tick(&mut a.out, at(ms)) {
            sent.push((ms, bytes.len()));
        }
    }
    assert_eq!(
        sent,
        [(25_000, 32), (50_000, 32), (75_000, 32), (100_000, 32)]
    );
}

#[test]
fn traffic_is_reported_once_a_second_and_lost_reports_are_made_good() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(0));
    let mut reports = Vec::new();
    a.peer.report(at(0), |_| false);
    a.seal(at(0));
    a.peer.report(at(999), |_| panic!("too early"));
    a.peer.report(at(1000), |report| {
        reports.push(report);
        true
    });
    a.peer.report(at(2000), |_| panic!("nothing new"));
    let TunnelInput::Traffic {
        tx_bytes,
        handshake,
        ..
    } = reports[0]
    else {
        panic!("a report is about traffic");
    };
    assert_eq!(tx_bytes, 40);
    assert_eq!(handshake, Some(at(0).wall));
}

#[test]
fn both_ends_know_when_their_handshake_was() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(5000));
    assert_eq!(a.peer.state().handshake, Some(at(5000).wall));
    assert_eq!(b.peer.state().handshake, Some(at(5000).wall));
}

#[test]
fn a_handshake_for_another_key_is_refused_before_it_counts() {
    let identity = Identity::new([3; 32]);
    let (mut a, _) = ends(Roaming::Told);
    a.peer.set_path(Some(path(2)), &mut a.out, at(0));
    let initiation = a.seal(at(0)).unwrap();
    let mut cookie = [0; 64];
    // Its first MAC is for another key, so it costs one hash and counts for nothing.
    for _ in 0..1000 {
        assert!(matches!(
            identity
                .limiter
                .verify_packet(None, &initiation, &mut cookie),
            Err(TunnResult::Err(_))
        ));
    }
}

#[test]
fn a_path_that_was_followed_too_soon_for_a_report_is_told_later() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(0));
    let mut moved = |last, ms| {
        let sealed = a.seal(at(ms)).unwrap();
        b.open(data(&sealed), &sealed, path(last), at(ms)).1
    };
    // The handshake's path was reported just now.
    assert!(!moved(9, 100) && !moved(9, 999));
    assert!(moved(9, 1000));
    assert!(!moved(9, 5000));
}

#[test]
fn a_packet_by_a_relay_is_sealed_behind_the_relays_header() {
    let (mut a, mut b) = ends(Roaming::Told);
    shake(&mut a, &mut b, at(0));
    let mailbox = Mailbox(0x1234_5678_9abc);
    let by_relay = Path::Relayed {
        relay: SocketAddr::from(([192, 0, 2, 9], 443)),
        mailbox,
    };
    a.peer.set_path(Some(by_relay), &mut a.out, at(0));
    let framed = a.seal(at(0)).unwrap();
    let Some(Frame::Passed {
        mailbox: to,
        datagram,
    }) = Frame::open(&framed)
    else {
        panic!("a packet by a relay has its header");
    };
    assert_eq!(to, mailbox);
    let (packet, moved) = b.open(data(datagram), datagram, by_relay, at(2000));
    assert_eq!((&packet[..], moved), (&HELLO[..20], true));
    assert_eq!(b.path(), Some(by_relay));
}
