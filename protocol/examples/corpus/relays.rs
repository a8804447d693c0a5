//! Datagrams at the port of a relay, for the target `relay`.

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::peering::Mailbox;
use meshnode_protocol::relay::frame::{
    Answer, Bind, Question, Reason, Standing, header, mailbox_of,
};

use crate::joiner;

/// Words of both ends, and a handshake that is passed on.
pub(crate) fn good() -> Vec<(&'static str, Vec<u8>)> {
    let keys = joiner();
    let relay = TransportKey::new(keys.device.public());
    let bind = Bind::sign(&keys.transport, &relay, [40; 16], [41; 12]);
    let standing = |seen: &str, reason: Option<Reason>| Standing {
        seen: seen.parse().expect("an address"),
        bound: reason.is_none(),
        reason,
    };
    let cookie = Answer::Cookie {
        txid: [41; 12],
        standing: standing("203.0.113.9:41641", None),
        cookie: [40; 16],
    };
    let bound = Answer::Bound {
        txid: [41; 12],
        standing: standing("[2001:db8::1]:41641", Some(Reason::Full)),
    };
    let limited = Answer::Limited {
        mailbox: Mailbox(1 << 40),
        reason: Reason::PairRate,
    };
    vec![
        ("hello", Question::Hello([41; 12]).to_bytes()),
        ("bind", Question::Bind(bind).to_bytes()),
        ("cookie", cookie.to_bytes()),
        ("bound", bound.to_bytes()),
        ("limited", limited.to_bytes()),
        ("passed", passed(mailbox_of(&relay))),
    ]
}

/// Datagrams in which one thing is wrong.
pub(crate) fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let hello = Question::Hello([41; 12]).to_bytes();
    let mut filled = hello.clone();
    filled[60] = 1;
    let mailbox = Mailbox(1 << 40);
    vec![
        ("hello-filled", filled),
        ("header-alone", header(mailbox).to_vec()),
        ("nobody", passed(Mailbox(255))),
        ("nested", [&header(mailbox)[..], &hello].concat()),
        (
            "long",
            [&header(mailbox)[..], &[4, 0, 0, 0], &[0; 1500]].concat(),
        ),
    ]
}

/// A WireGuard initiation behind a header.
fn passed(mailbox: Mailbox) -> Vec<u8> {
    [&header(mailbox)[..], &[1, 0, 0, 0], &[42; 144]].concat()
}
