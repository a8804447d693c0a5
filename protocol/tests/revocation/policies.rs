//! Which policy is in force, and that a network that has one never opens by losing it.

use meshnode_protocol::authority::{Authority, Inserted};
use meshnode_protocol::body::{Body, Cut, Kind};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::OpId;
use meshnode_protocol::identity::{Context, hash, hash_as};
use meshnode_protocol::op::{Author, Header, Op};
use meshnode_protocol::view::{PolicyView, View};

use crate::cast::{A, B, Cast, F, at, base, change};

fn policy(cast: &Cast) -> PolicyView {
    cast.view().policy().clone()
}

/// A policy op with any body and extensions, and its stub.
fn crafted(cast: &Cast, kind: Kind, body: &[u8], ext: Ext) -> (OpId, Vec<u8>, Vec<u8>) {
    let header = Header {
        kind,
        network: cast.authority.network(),
        author: Author::Device(cast.keys[F].node()),
        authority: cast.genesis(),
        time: meshnode_protocol::time::Timestamp::from_ms(77),
        parents: cast.authority.heads(),
        body_len: body.len() as u32,
        body_hash: hash(body),
        ext,
    };
    let head = header.to_bytes();
    let id = OpId::new(*hash_as("meshnode op id 1", &head).as_bytes());
    let signature = cast.keys[F].device.sign(Context::Op, &[id.as_bytes()]);
    let stub = [&head, signature.as_bytes().as_slice()].concat();
    let full = [&stub, body].concat();
    (id, stub, full)
}

/// The same op without its body.
fn stub(op: &Op) -> Vec<u8> {
    let body = op.header().body_len as usize;
    op.bytes()[..op.bytes().len() - body].to_vec()
}

fn store(cast: &mut Cast, id: OpId, bytes: &[u8]) {
    let added = cast.authority.insert_op(bytes);
    assert_eq!(added, Ok(Inserted::Added(vec![id])));
}

#[test]
fn without_a_policy_op_no_policy_exists() {
    let mut cast = Cast::with_admins(&[2]);
    cast.say(A, Body::Noop);
    assert_eq!(policy(&cast), PolicyView::default());
}

#[test]
fn edits_that_the_revoker_had_seen_stay_and_unseen_ones_fall() {
    let mut cast = Cast::with_admins(&[2]);
    let first = cast.say(F, base(None, "base"));
    let heard = cast.say(A, change(first, "seen"));
    let unheard = cast.say(A, change(first, "unseen"));
    let own = cast.say_over(F, &[heard], change(first, "own"));
    cast.say_over(F, &[own], cast.revoke(A, Cut::Parents));
    let view = policy(&cast);
    assert_eq!((view.base, view.changes), (Some(first), vec![heard, own]));
    assert!(!cast.counts(unheard));
}

#[test]
fn policy_void_base_denies() {
    let mut cast = Cast::with_admins(&[2]);
    let before = cast.authority.heads();
    let written = cast.say(A, base(None, "base"));
    cast.say(F, cast.revoke(A, at(&before)));
    let view = policy(&cast);
    assert!(view.exists && !cast.counts(written));
    assert_eq!(view.base, None);
    // A fresh base of any policy admin cures it.
    let cure = cast.say(F, base(None, "fresh"));
    assert_eq!(policy(&cast).base, Some(cure));
}

#[test]
fn a_void_base_that_no_revoker_had_heard_closes_no_open_network() {
    let mut cast = Cast::with_admins(&[2]);
    let before = cast.authority.heads();
    cast.say_over(F, &before, cast.revoke(A, Cut::Parents));
    cast.say_over(A, &before, base(None, "thief"));
    assert_eq!(policy(&cast), PolicyView::default());
}

#[test]
fn a_policy_that_one_of_two_revokers_had_heard_exists() {
    let mut cast = Cast::with_admins(&[2, 3]);
    let before = cast.authority.heads();
    let written = cast.say_over(crate::cast::C - 1, &before, base(None, "base"));
    // One revoker keeps it, the other has not heard it and so voids it: all the same the network had it.
    cast.say_over(F, &[written], cast.revoke(B, Cut::Parents));
    cast.say_over(A, &before, cast.revoke(B, Cut::Parents));
    let view = policy(&cast);
    assert!(view.exists && view.base.is_none());
}

#[test]
fn a_policy_of_one_whose_granter_fell_exists_if_the_revoker_had_heard_it() {
    let mut cast = Cast::with_admins(&[2]);
    let before = cast.authority.heads();
    cast.grant(A, B, 3);
    cast.say(B, base(None, "base"));
    cast.say(F, cast.revoke(A, at(&before)));
    let view = policy(&cast);
    assert!(view.exists && view.base.is_none());
}

#[test]
fn the_base_with_most_before_it_wins_then_the_senior_author() {
    let mut cast = Cast::with_admins(&[2]);
    let heard = cast.authority.heads();
    let junior = cast.say_over(A, &heard, base(None, "junior"));
    let senior = cast.say_over(F, &heard, base(None, "senior"));
    let stranded = cast.say_over(A, &[junior], change(junior, "stranded"));
    assert_eq!(policy(&cast).base, Some(senior));
    assert_eq!(policy(&cast).stranded, [stranded]);
    // What lies in its past decides, not what it says that it replaces.
    let next = cast.say_over(A, &[junior], base(None, "next"));
    assert_eq!(policy(&cast).base, Some(next));
    let last = cast.say(F, base(None, "last"));
    assert_eq!(policy(&cast).base, Some(last));
}

#[test]
fn a_withheld_body_makes_the_policy_unbuildable_until_a_fresh_base() {
    let mut cast = Cast::with_admins(&[2]);
    let first = cast.say(F, base(None, "base"));
    let (heads, cited) = (cast.authority.heads(), cast.titles[A]);
    let edit = cast.sign(A, cited, &heads, change(first, "withheld"));
    store(&mut cast, edit.id(), &stub(&edit));
    assert_eq!(policy(&cast).missing, [edit.id()]);
    let heads = cast.authority.heads();
    let next = cast.sign(A, cited, &heads, base(Some(first), "withheld too"));
    store(&mut cast, next.id(), &stub(&next));
    let view = policy(&cast);
    assert_eq!(view.base, Some(next.id()));
    assert_eq!(
        view.missing.len(),
        2 - 1,
        "the edit is of a base that was replaced"
    );
    let cure = cast.say(F, base(Some(first), "cure"));
    let cured = policy(&cast);
    assert_eq!((cured.base, cured.missing), (Some(cure), vec![]));
    // The bodies turn up: nothing in force changes.
    store(&mut cast, next.id(), next.bytes());
    store(&mut cast, edit.id(), edit.bytes());
    let after = policy(&cast);
    assert_eq!((after.base, after.missing), (Some(cure), vec![]));
}

#[test]
fn a_body_before_or_after_its_stub_gives_one_view() {
    let mut cast = Cast::founded();
    let cited = cast.titles[F];
    let heads = cast.authority.heads();
    let first = cast.sign(F, cited, &heads, base(None, "base"));
    let edit = cast.sign(F, cited, &[first.id()], change(first.id(), "edit"));
    let mut views = Vec::new();
    for stubs_first in [false, true] {
        let realm = cast.authority.realm().clone();
        let genesis = cast.authority.op(&realm.genesis).unwrap().clone();
        let mut replica = Authority::found(genesis, realm);
        if stubs_first {
            for op in [&first, &edit] {
                replica.insert_op(&stub(op)).unwrap();
            }
            let now = meshnode_protocol::time::Timestamp::from_ms(1);
            let view = View::compute(&replica, &cast.left, now);
            assert_eq!(view.policy().missing, [first.id(), edit.id()]);
        }
        for op in [&first, &edit] {
            replica.insert_op(op.bytes()).unwrap();
        }
        let now = meshnode_protocol::time::Timestamp::from_ms(1);
        views.push(View::compute(&replica, &cast.left, now));
    }
    assert_eq!(views[0], views[1]);
    assert_eq!(views[0].policy().changes, [edit.id()]);
}

#[test]
fn a_policy_of_a_future_version_denies() {
    let mut cast = Cast::founded();
    let demand = Ext::new(vec![(0x8000, vec![1])]).unwrap();
    let (_, bytes) = base(None, "from the future").to_bytes();
    let (id, stub, full) = crafted(&cast, Kind::POLICY_BASE, &bytes, demand);
    for bytes in [stub, full] {
        store(&mut cast, id, &bytes);
        let view = policy(&cast);
        assert!(view.exists);
        assert_eq!((view.base, view.missing), (Some(id), vec![id]));
    }
}

#[test]
fn a_policy_that_rests_on_a_grant_of_a_future_version_denies() {
    let mut cast = Cast::founded();
    let mut grant = cast.plain_grant(A, 2);
    grant.ext = Ext::new(vec![(0x8000, vec![1])]).unwrap();
    let unread = cast.say(F, Body::Grant(Box::new(grant)));
    cast.grant(A, B, 3);
    assert_eq!(policy(&cast), PolicyView::default());
    let by_admin = cast.say(B, base(None, "base"));
    assert!(cast.counts(unread) && !cast.counts(by_admin));
    let view = policy(&cast);
    assert!(view.exists && view.ops.is_empty());
    assert_eq!(view.base, None);
    // Who can be read says what holds.
    let cure = cast.say(F, base(None, "cure"));
    assert_eq!(policy(&cast).base, Some(cure));
}

#[test]
fn a_body_that_is_not_well_formed_has_no_effect_but_that_a_policy_exists() {
    let mut cast = Cast::founded();
    let (id, _, full) = crafted(&cast, Kind::POLICY, b"\xff", Ext::NONE);
    store(&mut cast, id, &full);
    let expected = PolicyView {
        exists: true,
        ops: vec![id],
        ..PolicyView::default()
    };
    assert_eq!(policy(&cast), expected);
}
