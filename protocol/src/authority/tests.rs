//! What the stored set keeps, holds back and lets go.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;
use crate::body::{Caps, Grant, Ipv4Range, Kind, Tags};
use crate::codec::Ext;
use crate::id::{Digest, NodeId, RootKey};
use crate::identity::{Context, Secret, hash, hash_as};
use crate::limits::{ORPHAN_BYTES_MAX, ORPHAN_SHARE};
use crate::name::{NetworkName, NodeName};
use crate::op::{Author, Draft, Header};
use crate::time::Timestamp;
use crate::view::View;

const TIME: Timestamp = Timestamp::from_ms(1);

fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

fn node(seed: u8) -> NodeId {
    NodeId::new(secret(seed).public())
}

fn founded() -> Authority {
    let root = secret(200);
    let genesis = Genesis {
        random: [1; 32],
        roots: vec![RootKey::new(root.public())],
        threshold: 1,
        name: NetworkName::parse("homelab").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        founder: node(0),
        founder_name: NodeName::parse("nas").unwrap(),
        founder_ipv4: Ipv4Addr::new(100, 64, 1, 1),
        owner: None,
        epoch_commitment: Digest::ZERO,
        closed: false,
        ext: Ext::NONE,
    };
    let op = Op::found(genesis, TIME, &[root], &secret(0));
    let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
    Authority::found(op, realm)
}

fn op(
    authority: &Authority,
    body: Body,
    author: u8,
    cited: OpId,
    parents: Vec<OpId>,
    ms: u64,
) -> Op {
    let draft = Draft {
        network: authority.network(),
        authority: cited,
        time: Timestamp::from_ms(ms),
        parents,
    };
    Op::sign(body, draft, &secret(author))
}

fn grant(device: u8, level: Level) -> Body {
    Body::Grant(Box::new(Grant {
        device: node(device),
        level,
        caps: if level.is_admin() {
            Caps::ALL
        } else {
            Caps::NONE
        },
        may_tag: Tags::default(),
        owner: None,
        tags: Tags::default(),
        name: NodeName::parse("pi").unwrap(),
        ipv4: Ipv4Addr::new(100, 64, 1, device),
        expires: None,
        claim: None,
        ext: Ext::NONE,
    }))
}

/// A Policy op and its stub.
fn policy(authority: &Authority, parents: Vec<OpId>) -> (OpId, Vec<u8>, Vec<u8>) {
    let body = b"a change";
    let header = Header {
        kind: Kind::POLICY,
        network: authority.network(),
        author: Author::Device(node(0)),
        authority: authority.realm().genesis,
        time: TIME,
        parents,
        body_len: body.len() as u32,
        body_hash: hash(body),
        ext: Ext::NONE,
    };
    let head = header.to_bytes();
    let id = OpId::new(*hash_as("meshnode op id 1", &head).as_bytes());
    let signature = secret(0).sign(Context::Op, &[id.as_bytes()]);
    let stub = [&head, signature.as_bytes().as_slice()].concat();
    let full = [&stub, body.as_slice()].concat();
    (id, stub, full)
}

/// A line of Noops of the founder, the last first.
fn line(authority: &Authority, length: u64) -> Vec<Op> {
    let genesis = authority.realm().genesis;
    let mut line: Vec<Op> = Vec::new();
    for ms in 0..length {
        let parent = line.last().map_or(genesis, Op::id);
        line.push(op(authority, Body::Noop, 0, genesis, vec![parent], ms));
    }
    line.reverse();
    line
}

#[test]
fn held_ops_are_released_by_the_parent_they_wait_for() {
    let mut authority = founded();
    let line = line(&authority, 4);
    for op in &line[..3] {
        assert_eq!(authority.insert_op(op.bytes()), Ok(Inserted::Held));
    }
    let mut ids: Vec<OpId> = line.iter().map(Op::id).collect();
    ids.reverse();
    let added = authority.insert_op(line[3].bytes());
    assert_eq!(added, Ok(Inserted::Added(ids.clone())));
    assert_eq!(authority.heads(), [ids[3]]);
    assert_eq!(authority.op_count(), 5);
}

#[test]
fn an_orphan_whose_stored_authority_gives_its_author_nothing_is_not_held() {
    let mut authority = founded();
    let genesis = authority.realm().genesis;
    let orphan = op(
        &authority,
        Body::Noop,
        7,
        genesis,
        vec![OpId::new([9; 32])],
        0,
    );
    let refused = AuthorityError::Structure(StructureError::NoAuthority);
    assert_eq!(authority.insert_op(orphan.bytes()), Err(refused));
}

#[test]
fn orphans_beyond_the_limit_push_out_the_oldest() {
    let authority = founded();
    let orphan = |ms| {
        op(
            &authority,
            Body::Noop,
            0,
            OpId::ZERO,
            vec![OpId::new([9; 32])],
            ms,
        )
    };
    let giver = |ms: u64| Some(node((ms % (2 * ORPHAN_SHARE as u64)) as u8));
    let mut held = Held::default();
    let first = orphan(0);
    let fit = (ORPHAN_BYTES_MAX / first.bytes().len()) as u64;
    let parent = OpId::new([9; 32]);
    held.keep(first.clone(), parent, giver(0));
    for ms in 1..fit {
        held.keep(orphan(ms), parent, giver(ms));
    }
    assert!(held.op(&first.id()).is_some());
    held.keep(orphan(fit), parent, giver(fit));
    assert!(held.op(&first.id()).is_none());
    assert_eq!(held.release(&parent).len() as u64, fit);
}

#[test]
fn a_peer_pushes_out_its_own_orphans_and_nobody_elses() {
    let authority = founded();
    let parent = OpId::new([9; 32]);
    let orphan = |author, ms| op(&authority, Body::Noop, author, OpId::ZERO, vec![parent], ms);
    let mut held = Held::default();
    let honest = orphan(1, 0);
    held.keep(honest.clone(), parent, Some(node(1)));
    let first = orphan(2, 0);
    let share = (ORPHAN_BYTES_MAX / ORPHAN_SHARE / first.bytes().len()) as u64;
    for ms in 0..2 * share {
        held.keep(orphan(2, ms), parent, Some(node(2)));
    }
    assert!(held.op(&honest.id()).is_some());
    assert!(held.op(&first.id()).is_none());
    assert_eq!(held.release(&parent).len() as u64, share + 1);
    // What this node reads from its own disk is nobody's flood.
    for ms in 0..2 * share {
        held.keep(orphan(3, ms), parent, None);
    }
    assert_eq!(held.release(&parent).len() as u64, 2 * share);
}

#[test]
fn a_body_replaces_a_stub_and_a_stub_never_a_body() {
    let mut authority = founded();
    let genesis = authority.realm().genesis;
    let (id, stub, full) = policy(&authority, vec![genesis]);
    let added = Ok(Inserted::Added(vec![id]));
    assert_eq!(authority.insert_op(&stub), added);
    assert_eq!(authority.insert_op(&stub), Ok(Inserted::Known));
    assert_eq!(authority.insert_op(&full), added);
    assert_eq!(authority.insert_op(&stub), Ok(Inserted::Known));
    assert_eq!(authority.op(&id).map(|op| op.bytes().to_vec()), Some(full));
    assert_eq!(authority.op_count(), 2);
}

#[test]
fn a_held_body_replaces_a_held_stub_and_never_the_other_way() {
    let mut authority = founded();
    let line = line(&authority, 1);
    let (id, stub, full) = policy(&authority, vec![line[0].id()]);
    for bytes in [&stub, &full, &stub] {
        assert_eq!(authority.insert_op(bytes), Ok(Inserted::Held));
    }
    let added = authority.insert_op(line[0].bytes());
    assert_eq!(added, Ok(Inserted::Added(vec![line[0].id(), id])));
    assert_eq!(authority.op(&id).map(Op::is_stub), Some(false));
}

/// Thousands of concurrent ops of a junior, each over one old op: neither set nor view may grow with the square.
#[test]
fn view_bomb_wide() {
    const BOMB: u64 = 20_000;
    let mut authority = founded();
    let genesis = authority.realm().genesis;
    let junior = op(
        &authority,
        grant(1, Level(200)),
        0,
        genesis,
        vec![genesis],
        0,
    );
    let cited = junior.id();
    authority.insert(junior, None).unwrap();
    let before = View::compute(&authority, &BTreeSet::new(), TIME);
    for ms in 0..BOMB {
        let noop = op(&authority, Body::Noop, 1, cited, vec![cited], ms);
        authority.insert(noop, None).unwrap();
    }
    assert_eq!(authority.heads().len() as u64, BOMB);
    assert_eq!(View::compute(&authority, &BTreeSet::new(), TIME), before);
    let held_bytes: usize = authority
        .entries()
        .iter()
        .map(|entry| size_of_val(entry) + size_of_val(&*entry.parents) + entry.op.bytes().len())
        .sum();
    assert!(held_bytes < 50_000_000, "{held_bytes} bytes");
}
