//! Every parser of bytes from the network, as a function that must not panic.
//!
//! Each target says whether it accepted the bytes, and checks that what it accepted is written as it was read. The
//! fuzzer and the test that replays `corpus/` run the same functions. A new parser needs a function, a line in
//! [`ALL`], a binary in `fuzz_targets/` with its entry in `Cargo.toml`, and seeds in `examples/corpus.rs`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use meshnode_protocol::address::ipv6;
use meshnode_protocol::body::{Body, Genesis, Ipv4Range, Kind};
use meshnode_protocol::claim::Admit;
use meshnode_protocol::codec::{Ext, decode, encode};
use meshnode_protocol::custody::Custody;
use meshnode_protocol::export::{Export, assemble};
use meshnode_protocol::id::{Digest, NetworkId, NodeId, RootKey, TunnelKey};
use meshnode_protocol::identity::{Context, Secret, hash};
use meshnode_protocol::invite::InviteCode;
use meshnode_protocol::name::{NetworkName, NodeName, Owner};
use meshnode_protocol::op::{Header, Op, Realm};
use meshnode_protocol::policy::{Directory, Document, Listing, Policy, read, render};
use meshnode_protocol::probe::{DatagramKind, Probe, ProbeKeys, classify, tag_of};
use meshnode_protocol::record::{Record, RecordBody, RecordKind, Slot};
use meshnode_protocol::relay::frame::{self, Answer, Frame, Question};
use meshnode_protocol::seal::{EpochKey, Purpose, Sealer};
use meshnode_protocol::stun;
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::View;
use meshnode_protocol::wire::{
    HelloAnswer, HelloRequest, Items, JoinAnswer, JoinRequest, SyncAnswer, SyncRequest,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::{Digest as _, Sha256};

/// A target: takes any bytes and says whether it accepted them.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name; `corpus/` has a directory for each.
pub const ALL: &[(&str, Target)] = &[
    ("admit", admit),
    ("body", body),
    ("custody", custody),
    ("export", export),
    ("ext", ext),
    ("header", header),
    ("invite_code", invite_code),
    ("message", message),
    ("op", op),
    ("policy_base", policy_base),
    ("policy_edit", policy_edit),
    ("policy_text", policy_text),
    ("probe", probe),
    ("record", record),
    ("record_body", record_body),
    ("relay", relay),
    ("seal_open", seal_open),
    ("stun", stun),
];

/// The root key of the network that the targets know.
pub fn root() -> Secret {
    Secret::from_seed(&[1; 32])
}

/// The founder's device key.
pub fn founder() -> Secret {
    Secret::from_seed(&[2; 32])
}

/// The genesis of the network that the targets know, and what its ops are checked against.
pub static NETWORK: LazyLock<(Op, Realm)> = LazyLock::new(|| {
    let genesis = Genesis {
        random: [3; 32],
        roots: vec![RootKey::new(root().public())],
        threshold: 1,
        name: NetworkName::parse("homelab").expect("a fine name"),
        ipv4_range: Ipv4Range::DEFAULT,
        founder: NodeId::new(founder().public()),
        founder_name: NodeName::parse("nas").expect("a fine name"),
        founder_ipv4: Ipv4Addr::new(100, 64, 0, 1),
        owner: None,
        epoch_commitment: Digest::new([4; 32]),
        closed: false,
        ext: Ext::NONE,
    };
    let op = Op::found(genesis, Timestamp::from_ms(5), &[root()], &founder());
    Op::parse_genesis(op.bytes()).expect("a genesis of ours is sound")
});

/// The id of the network that the targets know.
pub fn network() -> NetworkId {
    NETWORK.0.id().network()
}

/// The sealer of the `seal_open` target.
pub fn sealer() -> Sealer {
    Sealer::new(&EpochKey::from_bytes(&[6; 32]), Purpose::Gossip)
}

/// The probe keys of the two ends of the `probe` target: the target's own, and its peer's.
pub static PROBE_KEYS: LazyLock<(ProbeKeys, ProbeKeys)> = LazyLock::new(|| {
    let (here, there) = (Secret::from_seed(&[7; 32]), Secret::from_seed(&[8; 32]));
    let keys = |own: &Secret, peer: &Secret| {
        let peer = TunnelKey::new(peer.public());
        ProbeKeys::new(own, &peer, &NetworkId::new([9; 16])).expect("two different keys")
    };
    (keys(&here, &there), keys(&there, &here))
});

/// An op or a genesis, signatures included.
pub fn op(data: &[u8]) -> bool {
    let later = Op::parse(data, &NETWORK.1);
    let first = Op::parse_genesis(data).map(|(op, _)| op);
    for op in [&later, &first].into_iter().flatten() {
        assert_eq!(&**op.bytes(), data);
        assert!(data.starts_with(&op.header().to_bytes()));
        if !matches!(op.body(), Body::Opaque) {
            assert!(data.ends_with(&op.body().to_bytes().1));
        }
    }
    assert!(later.is_err() || first.is_err(), "one op is two");
    later.is_ok() || first.is_ok()
}

/// The body of an op behind its kind (2 bytes, little-endian).
pub fn body(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first_chunk() else {
        return false;
    };
    let kind = Kind(u16::from_le_bytes(*kind));
    let Ok(body) = Body::parse(kind, bytes) else {
        return false;
    };
    if !matches!(body, Body::Opaque) {
        assert_eq!(body.to_bytes(), (kind, bytes.to_vec()));
    }
    true
}

/// The header of an op; what stands behind it is not its business.
pub fn header(data: &[u8]) -> bool {
    let Ok((header, length)) = Header::parse(data) else {
        return false;
    };
    assert_eq!(header.to_bytes(), data[..length]);
    true
}

/// A list of extensions.
pub fn ext(data: &[u8]) -> bool {
    let Ok(ext) = decode::<Ext>(data, 1024) else {
        return false;
    };
    assert_eq!(Ext::new(ext.entries().to_vec()), Ok(ext.clone()));
    assert_eq!(encode(&ext), data);
    true
}

/// A network in a file, everything in it included.
pub fn export(data: &[u8]) -> bool {
    let Ok(export) = Export::parse(data) else {
        return false;
    };
    let again = assemble(&export.ops, &export.admits, &export.records);
    assert_eq!(export.check_hash().is_ok(), again == data);
    let mut last = 0;
    let verified = export.verify(|done| {
        assert!(done > last && done <= export.len());
        last = done;
    });
    if let Ok(verified) = &verified {
        let ops: Vec<&[u8]> = verified.authority.ops().map(|op| &**op.bytes()).collect();
        assert_eq!(ops, export.ops);
        assert_eq!(verified.records.iter().count(), export.records.len());
        let left = verified.records.left();
        let _view = View::compute(&verified.authority, &left, Timestamp::default());
    }
    verified.is_ok()
}

/// An admit, signatures included.
pub fn admit(data: &[u8]) -> bool {
    let Ok(admit) = Admit::parse(data) else {
        return false;
    };
    assert_eq!(admit.bytes(), data);
    assert!(data.starts_with(&encode(admit.terms())));
    true
}

/// A message between nodes: the first byte says which, the rest is the message.
pub fn message(data: &[u8]) -> bool {
    let Some((which, bytes)) = data.split_first() else {
        return false;
    };
    let again = match which {
        0 => JoinRequest::parse(bytes).map(|message| message.to_bytes()),
        1 => JoinAnswer::parse(bytes).map(|message| message.to_bytes()),
        2 => HelloRequest::parse(bytes).map(|message| message.to_bytes()),
        3 => HelloAnswer::parse(bytes).map(|message| message.to_bytes()),
        4 => SyncRequest::parse(bytes).map(|message| message.to_bytes()),
        5 => SyncAnswer::parse(bytes).map(|message| message.to_bytes()),
        6 => Items::parse(bytes).map(|message| message.to_bytes()),
        _ => return false,
    };
    let Ok(again) = again else { return false };
    assert_eq!(again, bytes);
    true
}

/// The secrets file's content.
pub fn custody(data: &[u8]) -> bool {
    let Ok(custody) = Custody::parse(data) else {
        return false;
    };
    assert_eq!(&*custody.to_bytes(), data);
    true
}

/// A device record, signatures included.
pub fn record(data: &[u8]) -> bool {
    let peeked = Record::peek(data);
    let Ok(record) = Record::parse(data, &network()) else {
        return false;
    };
    assert_eq!(peeked, Some((record.slot(), record.seq())));
    assert_eq!(record.bytes(), data);
    true
}

/// The body of a device record behind its kind (2 bytes, little-endian), signed by the target so that it is read.
pub fn record_body(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first_chunk() else {
        return false;
    };
    let kind = RecordKind(u16::from_le_bytes(*kind));
    // What an author says of a relay has a slot for every relay, whose key stands first.
    let relay = bytes.first_chunk::<32>();
    let relay = relay.filter(|_| kind == RecordKind::RELAY);
    let slot = Slot {
        device: NodeId::new(founder().public()),
        kind,
        sub: relay.map_or([0; 32], |relay| *hash(relay).as_bytes()),
    };
    let network = network();
    let terms = (1u8, network, slot, 10u64, bytes, Ext::NONE);
    let digest = hash(&encode(&terms));
    let fields: [&[u8]; 2] = [network.as_bytes(), digest.as_bytes()];
    let signature = founder().sign(Context::Record, &fields);
    let signed = encode(&(terms, signature));
    let Ok(record) = Record::parse(&signed, &network) else {
        return false;
    };
    if !matches!(record.body(), RecordBody::Opaque(_)) {
        let again = Record::sign(network, 10, record.body().clone(), &founder());
        assert_eq!(again.bytes(), signed);
    }
    true
}

/// A typed invite code.
pub fn invite_code(data: &[u8]) -> bool {
    let Some(code) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| InviteCode::parse(text).ok())
    else {
        return false;
    };
    let text = code.text();
    let again = InviteCode::parse(&text).expect("a printed code reads back");
    assert_eq!(again.text(), text);
    assert_eq!(again.hints(), code.hints());
    true
}

/// A sealed frame.
pub fn seal_open(data: &[u8]) -> bool {
    let sealer = sealer();
    let sealed = sealer.seal(data);
    assert_eq!(sealer.open(&sealed).as_deref(), Ok(data));
    let Ok(plain) = sealer.open(data) else {
        return false;
    };
    assert_eq!(sealer.seal(&plain), data);
    true
}

/// A datagram from the peer, or else the body of a probe.
pub fn probe(data: &[u8]) -> bool {
    let kind = classify(data);
    let (here, there) = &*PROBE_KEYS;
    if let Ok(probe) = here.open(data) {
        assert_eq!(tag_of(data), Some(here.tag_in()));
        assert_eq!(kind, DatagramKind::Probe);
        let sealed = here.seal(&probe, [0; 24]);
        assert_eq!(there.open(&sealed), Ok(probe));
        return true;
    }
    let Ok(probe) = Probe::parse(data) else {
        return false;
    };
    let written = probe.to_bytes();
    // Shorter only by extensions that this version skips.
    assert!(written == data || written.len() < data.len());
    let sealed = there.seal(&probe, [0; 24]);
    assert_eq!(here.open(&sealed), Ok(probe));
    true
}

/// A datagram at the port of a relay or of its client.
pub fn relay(data: &[u8]) -> bool {
    let (question, answer) = (Question::parse(data), Answer::parse(data));
    if let Some(question) = &question {
        assert_eq!(question.to_bytes(), data);
    }
    if let Some(answer) = &answer {
        assert_eq!(answer.to_bytes(), data);
    }
    assert!(question.is_none() || answer.is_none(), "one word is two");
    let said = question.is_some() || answer.is_some();
    match Frame::open(data) {
        Some(Frame::Passed { mailbox, datagram }) => {
            assert_eq!([&frame::header(mailbox)[..], datagram].concat(), data);
            assert!(!said, "a datagram is a word");
            true
        }
        Some(Frame::Word(word)) => {
            assert_eq!(word, data);
            said
        }
        None => {
            assert!(!said, "a word was not told");
            false
        }
    }
}

/// The network that the policy targets know: the founder's node, of an owner.
pub static DIRECTORY: LazyLock<Directory> = LazyLock::new(|| {
    let genesis = NETWORK.0.id();
    let id = NodeId::new(founder().public());
    let nas = Listing {
        id,
        name: NodeName::parse("nas").expect("a fine name"),
        owner: Some(Owner::parse("alice").expect("a fine owner")),
        tags: BTreeSet::new(),
        admin: true,
        ipv4: Some(Ipv4Addr::new(100, 64, 0, 1)),
        ipv6: ipv6(&genesis, &id),
    };
    Directory::new(&genesis, Ipv4Range::DEFAULT, [nas])
});

/// The policy of the document that the `policy_edit` target knows.
pub const POLICY: &str = r#"{
    "groups": {"group:x": ["alice"]},
    "nodes": {"nas": {"tags": ["tag:a"]}},
    "grants": [{"src": ["group:x"], "dst": ["nas"], "ip": ["tcp:22"]}],
}"#;

/// The document that the `policy_edit` target knows.
pub static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let policy = read(POLICY, &DIRECTORY).expect("a fine policy").policy;
    let author = NodeId::new(founder().public());
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let base = Document::base_for(&policy, &author, &mut rng).expect("a small policy");
    Document::from_base(&base, &author).expect("a base of ours is sound")
});

/// A raw change chunk with a sound checksum, so that what stands behind it is read.
fn chunk(body: &[u8]) -> Vec<u8> {
    let mut framed = vec![1];
    let mut length = body.len();
    while length > 0x7F {
        framed.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    framed.push(length as u8);
    framed.extend_from_slice(body);
    let hash = Sha256::digest(&framed);
    [&[0x85, 0x6F, 0x4A, 0x83][..], &hash[..4], &framed].concat()
}

/// The body of an edit's chunk, by the founder.
pub fn policy_edit(data: &[u8]) -> bool {
    let mut document = DOCUMENT.clone();
    let author = NodeId::new(founder().public());
    if document.apply(&chunk(data), &author).is_err() {
        assert_eq!(document, *DOCUMENT);
        return false;
    }
    written_again(&document.read().policy);
    true
}

/// The body of a base's chunk, by the founder.
pub fn policy_base(data: &[u8]) -> bool {
    let author = NodeId::new(founder().public());
    let Ok(document) = Document::from_base(&chunk(data), &author) else {
        return false;
    };
    let policy = document.read().policy;
    written_again(&policy);
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    if let Ok(base) = Document::base_for(&policy, &author, &mut rng) {
        let again = Document::from_base(&base, &author).expect("a base of ours is sound");
        assert_eq!(again.read().policy, policy);
    }
    true
}

/// What the document says can be written, and is read as it was where everything that it names is defined.
fn written_again(policy: &Policy) {
    let text = render(policy, &DIRECTORY).text;
    if let Ok(again) = read(&text, &DIRECTORY) {
        assert_eq!(again.policy, *policy, "{text}");
    }
}

/// A written policy.
pub fn policy_text(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let Ok(policy) = read(text, &DIRECTORY) else {
        return false;
    };
    let written = render(&policy.policy, &DIRECTORY);
    let again = read(&written.text, &DIRECTORY).expect("a written policy reads back");
    assert_eq!(again.policy, policy.policy, "{}", written.text);
    assert_eq!(again.lines, written.lines);
    true
}

/// A STUN message, at either end.
pub fn stun(data: &[u8]) -> bool {
    let seen = (Ipv4Addr::new(192, 0, 2, 7), 4000).into();
    let answered = stun::answer(data, seen).is_some_and(|answer| {
        let txid = answer[8..20].try_into().expect("twelve bytes");
        assert_eq!(stun::observed(&answer, &txid), Some(seen));
        assert_eq!(classify(&answer), DatagramKind::Stun);
        true
    });
    let txid = data.get(8..20).and_then(|txid| txid.try_into().ok());
    let observed = txid.and_then(|txid: stun::Txid| stun::observed(data, &txid));
    answered || observed.is_some()
}
