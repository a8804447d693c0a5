//! The epoch in force, and when somebody who is out may still hold its key.

use meshnode_protocol::authority::AuthorityError;
use meshnode_protocol::body::{Body, Cut};
use meshnode_protocol::id::{Digest, OpId};
use meshnode_protocol::structure::StructureError;

use crate::cast::{A, B, Cast, F, X, Y, at, close, rekey};

fn epoch(cast: &Cast) -> (u32, OpId, bool) {
    let epoch = cast.view().epoch();
    (epoch.number, epoch.op, epoch.dirty)
}

#[test]
fn the_first_epoch_is_the_genesis() {
    let cast = Cast::founded();
    assert_eq!(epoch(&cast), (0, cast.genesis(), false));
}

#[test]
fn an_epoch_is_one_more_than_the_highest_in_its_past() {
    let mut cast = Cast::with_admins(&[2]);
    let heads = cast.authority.heads();
    let refused = AuthorityError::Structure(StructureError::Epoch);
    for wrong in [0, 2, u32::MAX] {
        assert_eq!(cast.refused(F, &heads, rekey(wrong, 1)), refused);
    }
    let first = cast.say_over(A, &heads, rekey(1, 1));
    assert_eq!(cast.refused(F, &[first], rekey(1, 2)), refused);
    // A second first epoch is sound where the first is not heard.
    cast.say_over(F, &heads, rekey(1, 2));
    let heads = cast.authority.heads();
    let second = cast.say_over(A, &heads, rekey(2, 3));
    assert_eq!(epoch(&cast), (2, second, false));
}

#[test]
fn of_two_equal_epochs_the_seniors_wins_then_the_smaller_id() {
    let mut cast = Cast::with_admins(&[2, 2]);
    let heads = cast.authority.heads();
    let one = cast.say_over(A, &heads, rekey(1, 1));
    let two = cast.say_over(B, &heads, rekey(1, 2));
    assert_eq!(epoch(&cast), (1, one.min(two), false));
    let senior = cast.say_over(F, &heads, rekey(1, 3));
    assert_eq!(epoch(&cast), (1, senior, false));
    assert_eq!(cast.view().epoch().commitment, Digest::new([3; 32]));
}

#[test]
fn the_epoch_of_a_revoked_admin_falls_with_its_cut() {
    let mut cast = Cast::with_admins(&[2]);
    let before = cast.authority.heads();
    let stolen = cast.say(A, rekey(1, 1));
    cast.say(F, cast.revoke(A, at(&before)));
    assert!(!cast.counts(stolen));
    assert_eq!(epoch(&cast), (0, cast.genesis(), true));
    let next = cast.say(F, rekey(2, 2));
    assert_eq!(epoch(&cast), (2, next, false));
}

#[test]
fn rekey_dirty() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    let heard = cast.authority.heads();
    let revoke = cast.say_over(F, &heard, cast.revoke(X, Cut::Parents));
    assert!(epoch(&cast).2);
    // The revoker changes the key once; who has not heard it changes the key twice, and gives it to X.
    cast.say_over(F, &[revoke], rekey(1, 1));
    let first = cast.say_over(A, &heard, rekey(1, 2));
    let second = cast.say_over(A, &[first], rekey(2, 3));
    assert_eq!(epoch(&cast), (2, second, true));
    let clean = cast.say(A, rekey(3, 4));
    assert_eq!(epoch(&cast), (3, clean, false));
}

#[test]
fn a_closed_code_with_an_unsettled_holder_of_the_key_makes_the_epoch_dirty() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 2, false);
    cast.say(F, close(invite));
    assert!(!epoch(&cast).2, "nobody was let in under it");
    cast.admit(invite, X, F);
    assert!(epoch(&cast).2);
    cast.say(F, rekey(1, 1));
    assert!(!epoch(&cast).2);
}

#[test]
fn a_code_that_wants_approval_gave_nobody_the_key() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 2, true);
    cast.admit(invite, Y, F);
    cast.say(F, close(invite));
    assert!(!epoch(&cast).2);
}

#[test]
fn a_void_revocation_makes_nothing_dirty() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    let before = cast.authority.heads();
    let revoke = cast.say_over(F, &before, cast.revoke(A, Cut::Parents));
    let clean = cast.say_over(F, &[revoke], rekey(1, 1));
    cast.say_over(A, &before, cast.revoke(X, Cut::Parents));
    assert_eq!(epoch(&cast), (1, clean, false));
    cast.say_over(F, &[clean], Body::Noop);
    assert!(!epoch(&cast).2);
}
