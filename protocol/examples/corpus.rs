//! Writes the seeds of the fuzz corpus: `cargo run -p meshnode-protocol --example corpus`.
//!
//! `valid-*` must be accepted and `bad-*` refused; `odd-*` are valid seeds cut, lengthened or flipped.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use meshnode_protocol::body::{Body, Caps, Grant, Invite, InviteTerms, Kind, Level, Tags};
use meshnode_protocol::claim::{Admit, AdmitTerms, Claim, ClaimTerms};
use meshnode_protocol::codec::{Ext, encode};
use meshnode_protocol::custody::Custody;
use meshnode_protocol::id::{Digest, InviteKey, NodeId, OpId, Signature};
use meshnode_protocol::identity::{Keys, Secret};
use meshnode_protocol::invite::{Hint, InviteCode, InviteSecret};
use meshnode_protocol::io::InviteRefusal;
use meshnode_protocol::name::{NodeName, Tag};
use meshnode_protocol::op::{Draft, Op};
use meshnode_protocol::record::{
    Candidate, CandidateKind, ControlAddress, Endpoints, Nat, Record, Transport,
};
use meshnode_protocol::stun;
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::wire::{
    Admission, HelloAnswer, HelloRequest, Items, JoinAnswer, JoinRequest, Knock, Set, Summary,
    SyncAnswer, SyncRequest,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

#[path = "corpus/acts.rs"]
mod acts;
#[path = "../fuzz/src/targets.rs"]
#[expect(
    unreachable_pub,
    reason = "the same file is the library of the fuzz crate"
)]
mod targets;

#[path = "corpus/exports.rs"]
mod exports;
#[path = "corpus/policies.rs"]
mod policies;
#[path = "corpus/probes.rs"]
mod probes;
#[path = "corpus/records.rs"]
mod records;
#[path = "corpus/relays.rs"]
mod relays;

type Seeds = Vec<(&'static str, String, Vec<u8>)>;

fn main() -> io::Result<()> {
    let mut seeds = Seeds::new();
    for (target, name, bytes) in valid() {
        for (change, odd) in changed(&bytes) {
            seeds.push((target, format!("odd-{name}-{change}"), odd));
        }
        seeds.push((target, format!("valid-{name}"), bytes));
    }
    for (target, name, bytes) in bad() {
        seeds.push((target, format!("bad-{name}"), bytes));
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, _) in targets::ALL {
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join("odd-empty"), [])?;
        fs::write(corpus.join(target).join("odd-ones"), [0xFF; 200])?;
    }
    for (target, name, bytes) in seeds {
        fs::write(corpus.join(target).join(name), bytes)?;
    }
    Ok(())
}

fn changed(bytes: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let mut flipped = bytes.to_vec();
    flipped[bytes.len() / 2] ^= 0x10;
    [
        ("short", bytes[..bytes.len() - 1].to_vec()),
        ("long", [bytes, &[0]].concat()),
        ("flipped", flipped),
    ]
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn valid() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target, name: &str, bytes| seeds.push((target, name.to_owned(), bytes));
    let genesis = &targets::NETWORK.0;
    add("op", "genesis", genesis.bytes().to_vec());
    add("header", "genesis", genesis.header().to_bytes());
    add("body", "genesis", with_kind(genesis.body()));
    let device = NodeId::new(targets::founder().public());
    let mut bodies = acts::valid(device);
    bodies.extend([
        ("grant", grant()),
        ("invite", invite()),
        ("noop", Body::Noop),
    ]);
    for (name, body) in bodies {
        add("body", name, with_kind(&body));
        let op = Op::sign(body, draft(), &targets::founder());
        add("op", name, op.bytes().to_vec());
        add("header", name, op.header().to_bytes());
    }
    let rooted = Op::sign_as_root(
        grant(),
        draft(),
        &[targets::root()],
        &targets::NETWORK.1.roots,
    );
    add("op", "root", rooted.bytes().to_vec());
    add("body", "unknown-kind", vec![0x34, 0x92, 1, 2, 3]);
    add("admit", "admit", admit().bytes().to_vec());
    for (name, file) in exports::good() {
        add("export", name, file);
    }
    for (name, body) in records::records() {
        let record = Record::sign(targets::network(), 10, body, &targets::founder());
        add("record", name, record.bytes().to_vec());
    }
    for (name, bytes) in records::record_bodies() {
        add("record_body", name, bytes);
    }
    let entries = vec![
        (1, vec![1, 2, 3]),
        (0x8000, Vec::new()),
        (0xFFFF, vec![0; 253]),
    ];
    let full = Ext::new(entries).expect("at the limits");
    add("ext", "none", encode(&Ext::NONE));
    add("ext", "full", encode(&full));
    for (name, text) in codes() {
        add("invite_code", name, text.into_bytes());
    }
    for (name, plain) in [
        ("empty", &[][..]),
        ("text", b"ops and records"),
        ("block", &[7; 300]),
    ] {
        add("seal_open", name, targets::sealer().seal(plain));
    }
    add(
        "custody",
        "new",
        Custody::new(&joiner()).to_bytes().to_vec(),
    );
    for (name, which, bytes) in messages() {
        add("message", name, [&[which], &bytes[..]].concat());
    }
    for (name, text) in policies::texts() {
        add("policy_text", name, text.into_bytes());
    }
    for (target, name, bytes) in policies::changes() {
        add(target, &name, bytes);
    }
    for (name, datagram) in relays::good() {
        add("relay", name, datagram);
    }
    let seen = "[2001:db8::7]:4000".parse().expect("an address");
    let request = stun::request(&[42; 12]);
    let answer = stun::answer(&request, seen).expect("a plain request");
    add("stun", "answer", answer);
    add("stun", "request", request);
    for (name, probe) in probes::probes() {
        add("probe", name, targets::PROBE_KEYS.1.seal(&probe, [11; 24]));
        add("probe", &format!("{name}-body"), probe.to_bytes());
    }
    seeds
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn bad() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target, name: &str, bytes| seeds.push((target, name.to_owned(), bytes));
    for (target, name, bytes) in policies::bad() {
        add(target, &name, bytes);
    }
    let op = Op::sign(Body::Noop, draft(), &targets::founder());
    let head = op.header().to_bytes();
    add("header", "version", [&[2], &head[1..]].concat());
    add(
        "header",
        "parents",
        [&head[..91], &[255], &head[92..]].concat(),
    );
    add("op", "unsigned", [&head[..], &[0; 64]].concat());
    add("op", "genesis-twice", targets::NETWORK.0.bytes().repeat(2));
    for (name, body) in acts::bad(NodeId::new(targets::founder().public())) {
        add("body", name, with_kind(&body));
    }
    add(
        "body",
        "genesis-huge",
        [&[1, 0][..], &[3; 32], &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]].concat(),
    );
    for (name, file) in exports::bad() {
        add("export", name, file);
    }
    add("admit", "huge", [&[1][..], &[0xFF; 40]].concat());
    add("record", "huge", vec![1; 1025]);
    add("record_body", "left-with-body", vec![4, 0, 0]);
    add("record_body", "unsorted", unsorted_endpoints());
    add("ext", "long-integer", vec![0x80, 0]);
    add("ext", "descending", vec![2, 2, 0, 1, 0]);
    add("ext", "twice", vec![2, 1, 0, 1, 0]);
    add(
        "ext",
        "nine",
        [
            &[9][..],
            &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0],
        ]
        .concat(),
    );
    add("ext", "huge", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x0F]);
    for (name, text) in [
        ("symbol", "20010-81G81-860W4-0JWVU"),
        ("mistyped", "20010-8XG81-860W4-0JWVG"),
        ("hints", "20010-81G81-860W4-0JWVG@a:1,b:2,c:3,d:4"),
        ("bare-ipv6", "20010-81G81-860W4-0JWVG@2001:db8::1:80"),
        ("two-bytes", "20010-81G81-860W4-0JWV\u{e9}"),
    ] {
        add("invite_code", name, text.as_bytes().to_vec());
    }
    add(
        "seal_open",
        "tag-alone",
        [&targets::sealer().tag()[..], &[0; 40]].concat(),
    );
    let mapped = "00000000000000000000ffff01020304";
    let octets = u128::from_str_radix(mapped, 16)
        .expect("hexadecimal")
        .to_be_bytes();
    add(
        "probe",
        "mapped",
        [&[2; 13][..], &[6], &octets, &[1, 1, 0]].concat(),
    );
    for (name, datagram) in relays::bad() {
        add("relay", name, datagram);
    }
    let change = [
        &b"\0\x01\0\x08\x21\x12\xa4\x42"[..],
        &[42; 12],
        &[0, 3, 0, 4, 0, 0, 0, 6],
    ];
    add("stun", "change-request", change.concat());
    add("probe", "magic-alone", b"mNP\x01".to_vec());
    let called = probes::probes().remove(0).1.to_bytes();
    for (name, at, value) in [
        ("call-crowded", 27, 11),
        ("call-nat", 21, 5),
        ("call-order", 28, 3),
        ("call-slot", 227, 1),
    ] {
        let mut body = called.clone();
        body[at] = value;
        add("probe", name, body);
    }
    seeds
}

fn draft() -> Draft {
    let genesis = targets::NETWORK.0.id();
    Draft {
        network: targets::network(),
        authority: genesis,
        time: Timestamp::from_ms(20),
        parents: vec![genesis],
    }
}

fn with_kind(body: &Body) -> Vec<u8> {
    let (Kind(kind), bytes) = body.to_bytes();
    [&kind.to_le_bytes()[..], &bytes].concat()
}

fn joiner() -> Keys {
    Keys {
        device: Secret::from_seed(&[21; 32]),
        transport: Secret::from_seed(&[22; 32]),
        tunnel: Secret::from_seed(&[23; 32]),
    }
}

fn claim() -> Claim {
    let (network, keys) = (targets::network(), joiner());
    let terms = ClaimTerms {
        version: 1,
        network,
        invite: targets::NETWORK.0.id(),
        device: keys.node(),
        transport: keys.transport_binding(&network),
        tunnel: keys.tunnel_binding(&network),
        name: name("laptop"),
        time: Timestamp::from_ms(30),
        witness: NodeId::new(targets::founder().public()),
        transcript: Digest::new([24; 32]),
        ext: Ext::NONE,
    };
    Claim::sign(terms, &Secret::from_seed(&[25; 32]), &keys.device)
}

fn admit() -> Admit {
    let terms = AdmitTerms {
        version: 1,
        network: targets::network(),
        claim: claim(),
        heads: vec![targets::NETWORK.0.id()],
        ext: Ext::NONE,
    };
    Admit::sign(terms, &targets::founder())
}

fn tags() -> Tags {
    let tag = |text| Tag::parse(text).expect("a fine tag");
    Tags::new(vec![tag("server"), tag("home")]).expect("few")
}

fn grant() -> Body {
    Body::Grant(Box::new(Grant {
        device: joiner().node(),
        level: Level(255),
        caps: Caps::NONE,
        may_tag: Tags::default(),
        owner: None,
        tags: tags(),
        name: name("laptop"),
        ipv4: Ipv4Addr::new(100, 90, 17, 33),
        expires: Some(Timestamp::from_ms(u64::MAX)),
        claim: Some(Box::new(claim())),
        ext: Ext::NONE,
    }))
}

fn invite() -> Body {
    let terms = InviteTerms {
        key: InviteKey::new(Secret::from_seed(&[25; 32]).public()),
        rendezvous: [26; 32],
        psk: [27; 32],
        uses: 1,
        not_after: Timestamp::from_ms(40),
        approve: false,
        ephemeral: false,
        owner: None,
        tags: tags(),
        name: Some(name("pi")),
        replaces: None,
        member_for_ms: Some(1),
        ext: Ext::NONE,
    };
    Body::Invite(Box::new(Invite {
        terms,
        net_signature: Signature::new([28; 64]),
    }))
}

fn endpoints() -> Endpoints {
    let address = |text: &str| text.parse().expect("an address");
    let tunnel = |kind, text| Candidate {
        kind,
        address: address(text),
    };
    let control = |transport, text| ControlAddress {
        transport,
        address: address(text),
    };
    Endpoints {
        tunnel: vec![
            tunnel(CandidateKind::Host, "192.168.1.10:41641"),
            tunnel(CandidateKind::Observed, "[2001:db8::1]:41641"),
        ],
        control: vec![
            control(Transport::Tcp, "203.0.113.9:41642"),
            control(Transport::Quic, "203.0.113.9:41642"),
        ],
        nat: Nat::Unknown,
        homes: Vec::new(),
        carries: false,
        ttl_s: 3600,
        ext: Ext::NONE,
    }
}

fn unsorted_endpoints() -> Vec<u8> {
    let mut endpoints = endpoints();
    endpoints.tunnel.reverse();
    [&[2, 0][..], &encode(&endpoints)].concat()
}

fn messages() -> Vec<(&'static str, u8, Vec<u8>)> {
    let knock = Knock {
        locator: [1; 16],
        nonce: [2; 32],
        mac: [3; 32],
    };
    let items = Items {
        ops: vec![vec![1; 40]],
        admits: vec![vec![2; 30]],
        records: vec![vec![3; 20]],
    };
    let summary = Summary {
        roots: [Digest::new([7; 32]); 3],
        heads: vec![OpId::new([8; 32])],
    };
    let keys = SyncRequest::Keys {
        set: Set::Records,
        map: [9; 32],
        skip: 70_000,
    };
    let refused = JoinAnswer::Refused {
        reason: InviteRefusal::Closed,
        time: Timestamp::from_ms(9),
        mac: [4; 32],
    };
    let admission = Admission {
        heads: vec![OpId::new([5; 32])],
        epochs: vec![(0, [6; 32])],
    };
    let open = HelloRequest::Open { nonce: [1; 32] };
    vec![
        ("knock", 0, JoinRequest::Knock(knock).to_bytes()),
        (
            "redeem",
            0,
            JoinRequest::Redeem(Box::new(claim())).to_bytes(),
        ),
        ("refused", 1, refused.to_bytes()),
        (
            "admitted",
            1,
            JoinAnswer::Admitted(Box::new(admission)).to_bytes(),
        ),
        ("open", 2, open.to_bytes()),
        ("known", 3, HelloAnswer::Known(true).to_bytes()),
        (
            "summary",
            4,
            SyncRequest::Summary(summary.clone()).to_bytes(),
        ),
        ("keys", 4, keys.to_bytes()),
        ("push", 4, SyncRequest::Push(items.clone()).to_bytes()),
        ("summary-answer", 5, SyncAnswer::Summary(summary).to_bytes()),
        ("heard", 5, SyncAnswer::Heard.to_bytes()),
        ("gossip", 6, items.to_bytes()),
    ]
}

fn codes() -> Vec<(&'static str, String)> {
    let secret = InviteSecret::generate(&mut ChaCha20Rng::seed_from_u64(29));
    let bare = secret.code();
    let hints = [
        "vps.example.org:41641",
        "203.0.113.9:1",
        "[2001:db8::1]:65535",
    ]
    .map(|hint| Hint::parse(hint).expect("a fine hint"));
    let hinted = InviteCode::new(secret, hints.to_vec()).expect("three hints");
    vec![
        (
            "small",
            format!(" {} \n", bare.to_lowercase().replace('-', " ")),
        ),
        ("bare", bare),
        ("hinted", hinted.text()),
    ]
}

fn name(text: &str) -> NodeName {
    NodeName::parse(text).expect("a fine name")
}
