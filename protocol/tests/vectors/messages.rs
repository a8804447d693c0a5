//! Messages: join, hello, reconciler, gossip, probes, relays.

use meshnode_protocol::body::Body;
use meshnode_protocol::claim::Claim;
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, TunnelKey};
use meshnode_protocol::identity::{Context, Keys};
use meshnode_protocol::io::InviteRefusal;
use meshnode_protocol::join::{Expected, check_proof, claim, knock, prove, refuse};
use meshnode_protocol::peering::Mailbox;
use meshnode_protocol::probe::{Call, PortPlan, Probe, ProbeKeys};
use meshnode_protocol::record::{Candidate, CandidateKind, Nat};
use meshnode_protocol::relay::frame::{
    Answer, Bind, Frame, Question, Reason, Standing, header, mailbox_of,
};
use meshnode_protocol::seal::{Purpose, Sealer};
use meshnode_protocol::wire::{
    Admission, HelloAnswer, HelloProof, HelloRequest, Items, JoinAnswer, JoinRequest, Knock, Proof,
    ProofTerms, Set, Summary, SyncAnswer, SyncRequest,
};

use crate::Vector;
use crate::cast::{
    NETWORK, channel, epoch, founder, invite_keys, joiner, member, name, time, transport,
};
use crate::{ops, records};

/// m1 of the joiner at the founder.
pub(crate) fn the_knock() -> Knock {
    knock(&invite_keys(), &channel(), [0x80; 32])
}

/// m2 and its transcript hash.
pub(crate) fn the_proof() -> (Proof, Digest) {
    let terms = ProofTerms {
        nonce: [0x81; 32],
        time: time(60),
        genesis: NETWORK.0.bytes().to_vec(),
        invite: ops::invite().bytes().to_vec(),
        root: NETWORK.1.genesis,
        witness: founder().node(),
    };
    prove(
        &invite_keys().psk,
        &channel(),
        &the_knock(),
        terms,
        &founder().device,
    )
}

fn refusals() -> Vec<Vector> {
    let reasons = [
        (
            "expired",
            InviteRefusal::Expired {
                not_after: time(7200),
                admins: vec![name("nas")],
            },
        ),
        (
            "used-up",
            InviteRefusal::UsedUp {
                by: Some(name("laptop")),
                at: time(60),
                uses: 1,
            },
        ),
        ("closed", InviteRefusal::Closed),
        ("witness-clock", InviteRefusal::WitnessClock),
        ("not-witness", InviteRefusal::NotWitness),
    ];
    let psk = invite_keys().psk;
    let answer = |reason| refuse(&psk, &channel(), &the_knock(), reason, time(60));
    reasons
        .into_iter()
        .map(|(name, reason)| join_answer(&format!("join-refused-{name}"), answer(reason)))
        .collect()
}

fn join_answer(name: &str, message: JoinAnswer) -> Vector {
    let bytes = message.to_bytes();
    Vector::message(name, message, bytes, JoinAnswer::parse)
}

fn join_request(name: &str, message: JoinRequest) -> Vector {
    let bytes = message.to_bytes();
    Vector::message(name, message, bytes, JoinRequest::parse)
}

fn join() -> Vec<Vector> {
    let admission = Admission {
        heads: vec![ops::invite().id()],
        epochs: vec![(0, [0x50; 32])],
    };
    let mut all = vec![
        join_request("join-knock", JoinRequest::Knock(the_knock())),
        join_answer("join-proof", JoinAnswer::Proof(Box::new(the_proof().0))),
        join_request("join-redeem", JoinRequest::Redeem(Box::new(ops::claim()))),
        join_answer("join-admitted", JoinAnswer::Admitted(Box::new(admission))),
        join_answer("join-pending", JoinAnswer::Pending),
    ];
    all.extend(refusals());
    all
}

fn hello_proof(ours: &Keys, theirs: &Keys, nonces: [[u8; 32]; 2]) -> HelloProof {
    let network = NETWORK.1.genesis.network();
    let (own, other) = (transport(ours), transport(theirs));
    let fields: [&[u8]; 5] = [
        network.as_bytes(),
        own.as_bytes(),
        other.as_bytes(),
        &nonces[0],
        &nonces[1],
    ];
    HelloProof {
        device: ours.node(),
        record: records::node().bytes().to_vec(),
        signature: ours.device.sign(Context::Hello, &fields),
    }
}

fn hello() -> Vec<Vector> {
    let (caller, called) = ([0x82; 32], [0x83; 32]);
    let open = HelloRequest::Open { nonce: caller };
    let answer = HelloAnswer::Prove {
        nonce: called,
        proof: hello_proof(&founder(), &member(), [called, caller]),
    };
    let prove = HelloRequest::Prove(hello_proof(&founder(), &member(), [caller, called]));
    let known = HelloAnswer::Known(true);
    let sealer = Sealer::for_hello(&NETWORK.1.genesis);
    let plain = open.to_bytes();
    let frame = sealer.seal(&plain);
    let requests = [("hello-open", open), ("hello-prove", prove)].map(|(name, message)| {
        let bytes = message.to_bytes();
        Vector::message(name, message, bytes, HelloRequest::parse)
    });
    let answers = [("hello-answer", answer), ("hello-known", known)].map(|(name, message)| {
        let bytes = message.to_bytes();
        Vector::message(name, message, bytes, HelloAnswer::parse)
    });
    let sealed = Vector::new("hello-open-sealed", frame, move |known| {
        sealer.open(known).as_ref() == Ok(&plain)
    });
    requests
        .into_iter()
        .chain(answers)
        .chain([sealed])
        .collect()
}

fn items() -> Items {
    let sealer = Sealer::new(&epoch(), Purpose::Record);
    Items {
        ops: vec![ops::grant().bytes().to_vec()],
        admits: vec![ops::admit().bytes().to_vec()],
        records: vec![sealer.seal(records::node().bytes())],
    }
}

fn sync() -> Vec<Vector> {
    let summary = Summary {
        roots: [[1; 32], [2; 32], [3; 32]].map(Digest::new),
        heads: vec![ops::grant().id()],
    };
    let mut map = [0; 32];
    map[0] = 0b0000_0101;
    let key = Digest::new(*ops::grant().id().as_bytes());
    let requests = [
        ("sync-summary", SyncRequest::Summary(summary.clone())),
        ("sync-buckets", SyncRequest::Buckets(Set::Ops)),
        (
            "sync-keys",
            SyncRequest::Keys {
                set: Set::Admits,
                map,
                skip: 7,
            },
        ),
        ("sync-items", SyncRequest::Items(Set::Records, vec![key])),
        ("sync-push", SyncRequest::Push(items())),
    ];
    let answers = [
        ("sync-summary-answer", SyncAnswer::Summary(summary)),
        (
            "sync-buckets-answer",
            SyncAnswer::Buckets(vec![[4; 16]; 256]),
        ),
        (
            "sync-keys-answer",
            SyncAnswer::Keys {
                keys: vec![(key, [5; 16])],
                more: true,
            },
        ),
        ("sync-items-answer", SyncAnswer::Items(items())),
        ("sync-heard", SyncAnswer::Heard),
    ];
    let requests = requests.map(|(name, message)| {
        let bytes = message.to_bytes();
        Vector::message(name, message, bytes, SyncRequest::parse)
    });
    let answers = answers.map(|(name, message)| {
        let bytes = message.to_bytes();
        Vector::message(name, message, bytes, SyncAnswer::parse)
    });
    requests.into_iter().chain(answers).collect()
}

fn gossip() -> Vec<Vector> {
    let plain = items().to_bytes();
    let sealer = Sealer::new(&epoch(), Purpose::Gossip);
    let frame = sealer.seal(&plain);
    let opened = plain.clone();
    vec![
        Vector::message("gossip", items(), plain, Items::parse),
        Vector::new("gossip-sealed", frame, move |known| {
            sealer.open(known).as_ref() == Ok(&opened)
        }),
    ]
}

fn probes() -> Vec<Vector> {
    let keys = |own: &Keys, peer: &Keys| {
        let peer = TunnelKey::new(peer.tunnel.public());
        ProbeKeys::new(&own.tunnel, &peer, &NETWORK.1.genesis.network()).unwrap()
    };
    let ping = Probe::Ping {
        txid: [0x84; 12],
        padding: 3,
    };
    let pong = Probe::Pong {
        txid: [0x84; 12],
        observed: Some(([192, 0, 2, 7], 51820).into()),
    };
    let call = Call {
        txid: [0x84; 12],
        seq: 1_767_225_600_000,
        nat: Nat::Sequential,
        plan: PortPlan {
            last: 40_112,
            step: 2,
        },
        run: false,
        candidates: vec![
            Candidate {
                kind: CandidateKind::Host,
                address: ([192, 168, 1, 2], 41641).into(),
            },
            Candidate {
                kind: CandidateKind::Observed,
                address: ([192, 0, 2, 7], 40_112).into(),
            },
        ],
    };
    let call = Probe::Call(call);
    [
        ("probe-ping", ping),
        ("probe-pong", pong),
        ("probe-call", call),
    ]
    .into_iter()
    .flat_map(|(name, probe)| {
        let frame = keys(&founder(), &member()).seal(&probe, [0x85; 24]);
        let receiver = keys(&member(), &founder());
        let sealed = format!("{name}-sealed");
        let parsed = probe.clone();
        [
            Vector::new(name, probe.to_bytes(), move |known| {
                Probe::parse(known).as_ref() == Ok(&parsed)
            }),
            Vector::new(&sealed, frame, move |known| {
                receiver.open(known).as_ref() == Ok(&probe)
            }),
        ]
    })
    .collect()
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn relays() -> Vec<Vector> {
    let question = |name: &str, question: Question| {
        Vector::new(name, question.to_bytes(), move |known| {
            Question::parse(known).as_ref() == Some(&question)
        })
    };
    let answer = |name: &str, answer: Answer| {
        Vector::new(name, answer.to_bytes(), move |known| {
            Answer::parse(known) == Some(answer)
        })
    };
    let (txid, cookie) = ([0x86; 12], [0x87; 16]);
    let standing = |seen: &str, bound, reason| Standing {
        seen: seen.parse().unwrap(),
        bound,
        reason,
    };
    let relay = transport(&founder());
    let bind = Bind::sign(&member().transport, &relay, cookie, txid);
    let proven = bind.clone();
    let mailbox = mailbox_of(&transport(&member()));
    let handshake = [&[1, 0, 0, 0][..], &[0x88; 144]].concat();
    vec![
        question("relay-hello", Question::Hello(txid)),
        answer(
            "relay-cookie",
            Answer::Cookie {
                txid,
                standing: standing("192.0.2.7:51820", false, None),
                cookie,
            },
        ),
        question("relay-bind", Question::Bind(bind)),
        Vector::new(
            "relay-bind-key",
            proven.prove(&relay).unwrap().as_bytes(),
            move |known| {
                let key = proven.prove(&relay);
                key.is_ok_and(|key| key.as_bytes()[..] == *known)
            },
        ),
        answer(
            "relay-bound",
            Answer::Bound {
                txid,
                standing: standing("[2001:db8::7]:51820", true, None),
            },
        ),
        answer(
            "relay-refused",
            Answer::Bound {
                txid,
                standing: standing("192.0.2.7:51820", false, Some(Reason::NotAdmitted)),
            },
        ),
        answer(
            "relay-limited",
            Answer::Limited {
                mailbox: Mailbox(256),
                reason: Reason::IntroducesOnly,
            },
        ),
        Vector::derived("relay-mailbox", mailbox.0.to_le_bytes()),
        Vector::new(
            "relay-passed",
            [&header(mailbox)[..], &handshake].concat(),
            move |known| {
                let datagram = handshake.as_slice();
                Frame::open(known) == Some(Frame::Passed { mailbox, datagram })
            },
        ),
    ]
}

/// All of this room.
pub(crate) fn all() -> Vec<Vector> {
    [join(), hello(), sync(), gossip(), probes(), relays()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn a_claim_holds_only_with_the_time_of_its_m2_and_nothing_that_must_be_understood() {
    let (proof, transcript) = the_proof();
    let proven = check_proof(&invite_keys(), &channel(), &the_knock(), &proof).unwrap();
    let op = ops::invite();
    let Body::Invite(invite) = op.body() else {
        panic!("an Invite op holds an invite");
    };
    let (witness, peer) = (founder().node(), transport(&joiner()));
    let expected = Expected {
        genesis: &NETWORK.1.genesis,
        invite_id: &op.id(),
        invite,
        witness: &witness,
        transcript: &transcript,
        time: time(60),
        peer: &peer,
    };
    let claim = claim(&proven, &invite_keys(), &joiner(), name("laptop"));
    assert!(expected.holds(&claim));
    let signed = |terms| Claim::sign(terms, &invite_keys().key, &joiner().device);
    let mut later = claim.terms.clone();
    later.time = time(61);
    assert!(!expected.holds(&signed(later)));
    let mut demanding = claim.terms.clone();
    demanding.ext = Ext::new(vec![(0x8000, Vec::new())]).unwrap();
    assert!(!expected.holds(&signed(demanding)));
    let mut harmless = claim.terms;
    harmless.ext = Ext::new(vec![(0x7FFF, Vec::new())]).unwrap();
    assert!(expected.holds(&signed(harmless)));
}
