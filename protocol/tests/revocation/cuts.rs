//! What a revocation takes along and what stays: the cut, the spared, and who may restore.

use meshnode_protocol::authority::AuthorityError;
use meshnode_protocol::body::{Body, Cut, Level};
use meshnode_protocol::id::OpId;
use meshnode_protocol::structure::StructureError;
use meshnode_protocol::view::Void;

use crate::cast::{A, B, C, Cast, F, ROOT, X, Y, Z, at};

fn not_in_past() -> AuthorityError {
    AuthorityError::Structure(StructureError::CitedNotInPast)
}

#[test]
fn a_grant_that_the_revoker_had_not_heard_falls() {
    let mut cast = Cast::with_admins(&[2]);
    let heard = cast.authority.heads();
    let revoke = cast.say_over(F, &heard, cast.revoke(A, Cut::Parents));
    let grant = cast.say_over(A, &heard, cast.grant_body(X, 255));
    assert_eq!(cast.live(), [F]);
    assert_eq!(cast.view().voids()[&grant], Void::Revoked(revoke));
    assert_eq!(cast.view().revoked()[&cast.keys[A].node()], revoke);
    assert!(!cast.view().revoked().contains_key(&cast.keys[X].node()));
}

#[test]
fn a_grant_that_the_revoker_had_heard_stays() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(A, X, 255);
    cast.say(F, cast.revoke(A, Cut::Parents));
    assert_eq!(cast.live(), [F, X]);
}

#[test]
fn retroactive_takedown() {
    let mut cast = Cast::with_admins(&[2, 3]);
    let old = cast.authority.heads();
    cast.say(F, cast.revoke(A, Cut::Parents));
    let before = cast.live();
    // Months later, over what it knew then: against its juniors, for its friends, and against its revoker.
    let junior = cast.say_over(A, &old, cast.revoke(B, Cut::Nothing));
    let friend = cast.say_over(A, &old, cast.grant_body(Z, 9));
    let senior = cast.say_over(A, &old, cast.revoke(F, Cut::Nothing));
    assert_eq!(cast.live(), before);
    assert_eq!(before, [F, B]);
    assert!(
        ![junior, friend, senior]
            .map(|op| cast.counts(op))
            .contains(&true)
    );
    // And what its friend then does is baseless.
    let chained = cast.grant(Z, Y, 255);
    assert_eq!(cast.view().voids()[&chained], Void::Baseless(friend));
    assert_eq!(cast.live(), before);
}

#[test]
fn an_earlier_cut_takes_what_was_granted_since() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(A, X, 255);
    let tuesday = cast.authority.heads();
    cast.grant(A, Y, 255);
    cast.say(F, cast.revoke(A, at(&tuesday)));
    assert_eq!(cast.live(), [F, X]);
    // In the same command the founder lets Y in again.
    cast.grant(F, Y, 255);
    assert_eq!(cast.live(), [F, X, Y]);
}

#[test]
fn a_cut_of_nothing_takes_everything() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(A, X, 255);
    cast.say(F, cast.revoke(A, Cut::Nothing));
    assert_eq!(cast.live(), [F]);
}

#[test]
fn spare_keeps() {
    let mut cast = Cast::with_admins(&[2]);
    let before = cast.authority.heads();
    let first = cast.grant(A, X, 255);
    let second = cast.grant(A, Y, 255);
    // The spared one stands behind the one that falls: what it rests on stays, not what lies before it.
    cast.say(F, cast.sparing(A, at(&before), vec![second]));
    assert_eq!(cast.live(), [F, Y]);
    assert!(!cast.counts(first) && cast.counts(second));
}

#[test]
fn a_revocation_falls_with_its_author_unless_it_is_spared() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    let before = cast.authority.heads();
    let sound = cast.say(A, cast.revoke(X, Cut::Parents));
    assert_eq!(cast.live(), [F, A]);
    let cut = cast.authority.heads();
    cast.say_over(F, &cut, cast.revoke(A, at(&before)));
    assert_eq!(cast.live(), [F, X]);
    assert!(cast.view().voids().contains_key(&sound));
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    let before = cast.authority.heads();
    let sound = cast.say(A, cast.revoke(X, Cut::Parents));
    cast.say(F, cast.sparing(A, at(&before), vec![sound]));
    assert_eq!(cast.live(), [F]);
}

#[test]
fn a_concurrent_regrant_does_not_restore_and_one_that_heard_does() {
    let mut cast = Cast::with_admins(&[2, 2]);
    let heard = cast.authority.heads();
    cast.say_over(F, &heard, cast.revoke(A, Cut::Parents));
    cast.say_over(B, &heard, cast.grant_body(A, 255));
    assert_eq!(cast.live(), [F, B]);
    // B now has heard it, but is not as senior as the revoker.
    cast.grant(B, A, 255);
    assert_eq!(cast.live(), [F, B]);
    cast.grant(F, A, 255);
    assert_eq!(cast.live(), [F, A, B]);
}

#[test]
fn regrant_needs_seniority() {
    let mut cast = Cast::with_admins(&[2, 200]);
    cast.grant(F, X, 255);
    cast.say(A, cast.revoke(X, Cut::Parents));
    cast.grant(B, X, 255);
    assert_eq!(cast.live(), [F, A, B]);
    // The equal of the revoker and the senior may.
    let over = cast.authority.heads();
    cast.say_over(A, &over, cast.grant_body(X, 255));
    assert_eq!(cast.live(), [F, A, B, X]);
    // A new key is nobody's revoked one.
    cast.grant(B, Y, 255);
    assert_eq!(cast.live(), [F, A, B, X, Y]);
}

#[test]
fn sockpuppet_cannot_restore() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(A, B, 3);
    cast.say(F, cast.revoke(A, Cut::Parents));
    let restored = cast.grant(B, A, 4);
    let act = cast.grant(A, X, 255);
    assert_eq!(cast.live(), [F, B]);
    assert!(cast.counts(restored) && !cast.counts(act));
}

#[test]
fn after_a_regrant_the_device_acts_again_and_old_acts_stay_void() {
    let mut cast = Cast::with_admins(&[2]);
    let (old, title) = (cast.authority.heads(), cast.titles[A]);
    cast.say(F, cast.revoke(A, Cut::Parents));
    cast.grant(F, A, 5);
    let back = cast.grant(A, X, 255);
    let void = cast.say_under(A, title, &old, cast.grant_body(Y, 255));
    assert!(cast.counts(back) && !cast.counts(void));
    assert_eq!(cast.live(), [F, A, X]);
    assert_eq!(cast.view().members()[&cast.keys[A].node()].level, Level(5));
}

#[test]
fn an_admin_back_after_months_counts_unless_it_was_put_out() {
    let mut cast = Cast::with_admins(&[2]);
    let long_ago = cast.authority.heads();
    for _ in 0..8 {
        cast.say(F, Body::Noop);
    }
    let month = cast.grant(F, X, 255);
    let offline = cast.say_over(A, &long_ago, cast.grant_body(Y, 255));
    assert_eq!(cast.live(), [F, A, X, Y]);
    cast.say_over(F, &[month], cast.revoke(A, Cut::Parents));
    assert_eq!(cast.live(), [F, X]);
    assert!(!cast.counts(offline));
}

#[test]
fn cuts_and_spares_lie_in_the_past_of_their_revocation() {
    let mut cast = Cast::with_admins(&[2]);
    let past = cast.authority.heads();
    let later = cast.grant(A, X, 255);
    let stranger = OpId::new([9; 32]);
    for id in [later, stranger] {
        let cut = cast.revoke(A, at(&[id]));
        assert_eq!(cast.refused(F, &past, cut), not_in_past());
        let spare = cast.sparing(A, Cut::Parents, vec![id]);
        assert_eq!(cast.refused(F, &past, spare), not_in_past());
    }
    cast.say_over(F, &[later], cast.sparing(A, at(&[later]), vec![past[0]]));
}

#[test]
fn a_cut_without_heads_and_a_reason_past_the_limit_are_no_revocations() {
    let cast = Cast::with_admins(&[2]);
    let parse = |cut: Cut, reason: usize| {
        let Body::Revoke(mut revoke) = cast.revoke(A, cut) else {
            panic!("a revocation");
        };
        revoke.reason = "x".repeat(reason);
        let (kind, bytes) = Body::Revoke(revoke).to_bytes();
        Body::parse(kind, &bytes).is_ok()
    };
    assert!(parse(Cut::Parents, 128) && !parse(Cut::Parents, 129));
    assert!(!parse(at(&[]), 0));
}

#[test]
fn nobody_revokes_itself() {
    let mut cast = Cast::with_admins(&[2]);
    let heads = cast.authority.heads();
    let body = cast.revoke(A, Cut::Nothing);
    let refused = AuthorityError::Structure(StructureError::SelfRevoke);
    assert_eq!(cast.refused(A, &heads, body), refused);
}

#[test]
fn a_revocation_of_one_that_returned_under_a_new_title_reaches_the_old_title_alone() {
    let mut cast = Cast::with_admins(&[2, 3, 4]);
    let over = cast.authority.heads();
    // C is put out by A; the root set, which has heard it, lets it in again; B, which has not, puts it out too.
    cast.say_over(A, &over, cast.revoke(C, Cut::Parents));
    cast.grant(ROOT, C, 2);
    cast.say_over(B, &over, cast.revoke(C, Cut::Parents));
    assert_eq!(cast.live(), [F, A, B, C]);
}
