//! Ops, claim and admit.

use std::net::Ipv4Addr;

use meshnode_protocol::authority::{Authority, Inserted};
use meshnode_protocol::body::{
    Body, Caps, Cut, Grant, Invite, InviteClose, InviteTerms, Kind, Level, OpIds, Policy,
    PolicyBase, Rekey, Revoke, Tags, net_fields,
};
use meshnode_protocol::claim::{Admit, AdmitTerms, Claim, ClaimTerms};
use meshnode_protocol::codec::{Ext, decode, encode};
use meshnode_protocol::id::{Digest, OpId};
use meshnode_protocol::identity::{Context, hash, hash_as};
use meshnode_protocol::name::Tag;
use meshnode_protocol::op::{Author, Draft, Header, Op};

use crate::Vector;
use crate::cast::{
    NETWORK, founder, genesis_body, invite_keys, joiner, member, name, owner, roots, time,
};

fn draft(at: u64, parents: Vec<OpId>) -> Draft {
    let genesis = NETWORK.1.genesis;
    Draft {
        network: genesis.network(),
        authority: genesis,
        time: time(at),
        parents,
    }
}

fn by_founder(body: Body, at: u64, parents: Vec<OpId>) -> Op {
    Op::sign(body, draft(at, parents), &founder().device)
}

fn after_genesis() -> Vec<OpId> {
    vec![NETWORK.1.genesis]
}

fn tags(names: &[&str]) -> Tags {
    let tag = |name: &&str| Tag::parse(name).unwrap();
    Tags::new(names.iter().map(tag).collect()).unwrap()
}

fn admin_grant() -> Grant {
    Grant {
        device: member().node(),
        level: Level(2),
        caps: Caps::MEMBERS,
        may_tag: tags(&["web"]),
        owner: Some(owner()),
        tags: tags(&["db", "web"]),
        name: name("server"),
        ipv4: Ipv4Addr::new(100, 64, 7, 2),
        expires: Some(time(86_400)),
        claim: None,
        ext: Ext::NONE,
    }
}

/// A Grant of an admin, without a claim.
pub(crate) fn grant() -> Op {
    by_founder(Body::Grant(Box::new(admin_grant())), 1, after_genesis())
}

fn root_grant() -> Op {
    let grant = Grant {
        level: Level::FOUNDER,
        caps: Caps::ALL,
        may_tag: Tags::default(),
        expires: None,
        ..admin_grant()
    };
    let body = Body::Grant(Box::new(grant));
    let set = &NETWORK.1.roots;
    Op::sign_as_root(body, draft(2, after_genesis()), &roots()[..1], set)
}

/// The Invite that the joiner redeems.
pub(crate) fn invite() -> Op {
    let code = invite_keys();
    let terms = InviteTerms {
        key: code.public(),
        rendezvous: code.rendezvous,
        psk: code.psk,
        uses: 1,
        not_after: time(7200),
        approve: false,
        ephemeral: false,
        owner: Some(owner()),
        tags: tags(&["web"]),
        name: Some(name("laptop")),
        replaces: None,
        member_for_ms: Some(86_400_000),
        ext: Ext::new(vec![(1, vec![0xAA])]).unwrap(),
    };
    let fields = net_fields(&NETWORK.1.genesis, &founder().node(), &terms);
    let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
    let net_signature = code.key.sign(Context::Net, &fields);
    let body = Invite {
        terms,
        net_signature,
    };
    by_founder(Body::Invite(Box::new(body)), 3, after_genesis())
}

/// A claim under the Invite.
pub(crate) fn claim() -> Claim {
    let (keys, network) = (joiner(), NETWORK.1.genesis.network());
    let terms = ClaimTerms {
        version: 1,
        network,
        invite: invite().id(),
        device: keys.node(),
        transport: keys.transport_binding(&network),
        tunnel: keys.tunnel_binding(&network),
        name: name("joiner"),
        time: time(60),
        witness: founder().node(),
        transcript: Digest::new([0x70; 32]),
        ext: Ext::NONE,
    };
    Claim::sign(terms, &invite_keys().key, &keys.device)
}

fn settling_grant() -> Op {
    let grant = Grant {
        device: joiner().node(),
        level: Level::MEMBER,
        caps: Caps::NONE,
        may_tag: Tags::default(),
        owner: Some(owner()),
        tags: tags(&["web"]),
        name: name("laptop"),
        ipv4: Ipv4Addr::new(100, 64, 7, 3),
        expires: None,
        claim: Some(Box::new(claim())),
        ext: Ext::NONE,
    };
    by_founder(Body::Grant(Box::new(grant)), 61, vec![invite().id()])
}

/// An admit of the joiner, witnessed by the founder.
pub(crate) fn admit() -> Admit {
    let terms = AdmitTerms {
        version: 1,
        network: NETWORK.1.genesis.network(),
        claim: claim(),
        heads: vec![invite().id()],
        ext: Ext::NONE,
    };
    Admit::sign(terms, &founder().device)
}

/// An op of a kind that this version has no body for.
fn foreign(kind: Kind, body: &[u8], keeps_body: bool) -> Vec<u8> {
    let genesis = NETWORK.1.genesis;
    let header = Header {
        kind,
        network: genesis.network(),
        author: Author::Device(founder().node()),
        authority: genesis,
        time: time(5),
        parents: vec![genesis],
        body_len: u32::try_from(body.len()).unwrap(),
        body_hash: hash(body),
        ext: Ext::new(vec![(2, vec![0xBB, 0xCC])]).unwrap(),
    }
    .to_bytes();
    let id = hash_as("meshnode op id 1", &header);
    let signature = founder().device.sign(Context::Op, &[id.as_bytes()]);
    let body = if keeps_body { body } else { &[] };
    [&header[..], signature.as_bytes(), body].concat()
}

fn revoke(cut: Cut, spare: Vec<OpId>, reason: &str) -> Body {
    Body::Revoke(Box::new(Revoke {
        device: member().node(),
        cut,
        spare: OpIds::new(spare).unwrap(),
        reason: reason.to_owned(),
        ext: Ext::NONE,
    }))
}

/// Acts over the Grant and the Invite, by their names.
fn acts() -> Vec<(&'static str, Body)> {
    let (known, ext) = (grant().id(), || Ext::NONE);
    let heads = Cut::Heads(OpIds::new(vec![NETWORK.1.genesis]).unwrap());
    vec![
        ("op-revoke-parents", revoke(Cut::Parents, Vec::new(), "")),
        ("op-revoke-heads", revoke(heads, vec![known], "stolen")),
        ("op-revoke-nothing", revoke(Cut::Nothing, Vec::new(), "")),
        (
            "op-invite-close",
            Body::InviteClose(InviteClose {
                invite: invite().id(),
                ext: ext(),
            }),
        ),
        (
            "op-policy",
            Body::Policy(Policy {
                base: known,
                change: vec![1, 2, 3],
                ext: ext(),
            }),
        ),
        (
            "op-policy-base",
            Body::PolicyBase(PolicyBase {
                previous: Some(known),
                change: vec![4, 5, 6],
                ext: ext(),
            }),
        ),
        (
            "op-rekey",
            Body::Rekey(Rekey {
                epoch: 1,
                commitment: Digest::new([0x51; 32]),
                ext: ext(),
            }),
        ),
    ]
}

fn op(name: &str, op: Op) -> [Vector; 2] {
    let id = Vector::derived(&format!("{name}-id"), op.id().as_bytes());
    let bytes = op.bytes().to_vec();
    let reads = move |known: &[u8]| Op::parse(known, &NETWORK.1) == Ok(op.clone());
    [Vector::new(name, bytes, reads), id]
}

/// An op that is read, but whose body this version does not.
fn opaque(name: &str, bytes: Vec<u8>, stub: bool) -> [Vector; 2] {
    let read = Op::parse(&bytes, &NETWORK.1).unwrap();
    assert_eq!((read.is_stub(), read.body()), (stub, &Body::Opaque));
    op(name, read)
}

fn genesis(name: &str, threshold: u8, root_count: usize) -> [Vector; 2] {
    let roots = roots();
    let body = genesis_body(&roots[..root_count], threshold);
    let signers = &roots[root_count - usize::from(threshold)..root_count];
    let founded = Op::found(body, time(0), signers, &founder().device);
    let id = Vector::derived(&format!("{name}-id"), founded.id().as_bytes());
    let bytes = founded.bytes().to_vec();
    let reads = move |known: &[u8]| {
        Op::parse_genesis(known).is_ok_and(|(read, realm)| {
            read == founded && realm.genesis == founded.id() && realm.roots.keys.len() == root_count
        })
    };
    [Vector::new(name, bytes, reads), id]
}

/// All of this room.
pub(crate) fn all() -> Vec<Vector> {
    let noop = by_founder(Body::Noop, 4, vec![grant().id(), invite().id()]);
    let mut all: Vec<Vector> = [
        genesis("genesis-1-of-1", 1, 1),
        genesis("genesis-2-of-3", 2, 3),
        op("op-grant", grant()),
        op("op-grant-with-claim", settling_grant()),
        op("op-grant-by-root", root_grant()),
        op("op-invite", invite()),
        op("op-noop", noop),
        opaque(
            "op-unknown-critical",
            foreign(Kind(0x0042), b"later", true),
            false,
        ),
        opaque(
            "op-unknown-ignorable",
            foreign(Kind(0x8042), b"later", true),
            false,
        ),
        opaque(
            "op-policy-stub",
            foreign(Kind::POLICY, b"left out", false),
            true,
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (name, body) in acts() {
        let parents = vec![grant().id(), invite().id()];
        all.extend(op(name, by_founder(body, 6, parents)));
    }
    all.push(Vector::new("claim", encode(&claim()), |known| {
        decode::<Claim>(known, 1024) == Ok(claim())
    }));
    all.push(Vector::new("admit", admit().bytes(), |known| {
        Admit::parse(known) == Ok(admit())
    }));
    all.push(Vector::derived("admit-id", admit().id().as_bytes()));
    all
}

#[test]
fn the_known_ops_and_the_known_admit_are_stored() {
    let (genesis, realm) = NETWORK.clone();
    let mut authority = Authority::found(genesis, realm);
    for vector in all() {
        let later = vector.name.starts_with("op-") && !vector.name.ends_with("-id");
        if later {
            let id = Op::peek_id(&vector.bytes).unwrap();
            let inserted = authority.insert_op(&vector.bytes);
            assert!(
                matches!(inserted, Ok(Inserted::Added(_) | Inserted::Held)),
                "{} {inserted:?}",
                vector.name
            );
            assert!(inserted == Ok(Inserted::Held) || authority.contains(&id));
        }
    }
    assert_eq!(authority.op_count(), 9 + acts().len());
    authority.insert_admit(admit().bytes()).unwrap();
    assert!(authority.admit(&admit().id()).is_some());
}
