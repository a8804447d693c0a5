//! Levels decide: the senior's word stands, equals cannot touch each other, the root set settles the rest.

use meshnode_protocol::authority::{AuthorityError, Inserted};
use meshnode_protocol::body::{Body, Caps, Cut};
use meshnode_protocol::structure::StructureError;

use crate::cast::{A, B, C, Cast, F, ROOT, X, Y, Z, at};

#[test]
fn of_two_who_revoke_each_other_the_senior_stays() {
    let mut cast = Cast::with_admins(&[2]);
    let heard = cast.authority.heads();
    cast.say_over(F, &heard, cast.revoke(A, Cut::Parents));
    let up = cast.say_over(A, &heard, cast.revoke(F, Cut::Nothing));
    assert_eq!(cast.live(), [F]);
    assert!(!cast.counts(up));
}

#[test]
fn mutual_equals_noop() {
    let mut cast = Cast::with_admins(&[2, 2]);
    cast.grant(A, X, 255);
    cast.grant(B, Y, 255);
    let (before, heard) = (cast.live(), cast.authority.heads());
    cast.say_over(A, &heard, cast.revoke(B, Cut::Nothing));
    cast.say_over(B, &heard, cast.revoke(A, Cut::Nothing));
    assert_eq!(cast.live(), before);
    assert_eq!(before, [F, A, B, X, Y]);
    cast.say(F, cast.revoke(B, Cut::Parents));
    assert_eq!(cast.live(), [F, A, X, Y]);
}

#[test]
fn a_junior_does_not_reach_its_senior() {
    let mut cast = Cast::with_admins(&[2, 3]);
    cast.grant(A, X, 255);
    cast.say(B, cast.revoke(A, Cut::Nothing));
    assert_eq!(cast.live(), [F, A, B, X]);
    assert!(cast.view().revoked().is_empty());
}

#[test]
fn the_root_set_undoes_what_a_thief_of_the_founder_did() {
    let mut cast = Cast::with_admins(&[2, 3]);
    cast.grant(A, X, 255);
    let before = cast.authority.heads();
    for victim in [A, B, X] {
        cast.say(F, cast.revoke(victim, Cut::Nothing));
    }
    cast.grant(F, Z, 2);
    assert_eq!(cast.live(), [F, Z]);
    cast.say(ROOT, cast.revoke(F, at(&before)));
    assert_eq!(cast.live(), [A, B, X]);
    // A new founder, by the phrase.
    cast.grant(ROOT, C, 1);
    cast.grant(C, Y, 255);
    assert_eq!(cast.live(), [A, B, C, X, Y]);
}

#[test]
fn the_phrase_lets_any_device_in_when_the_founder_is_gone() {
    let mut cast = Cast::founded();
    cast.grant(F, X, 255);
    cast.left.insert(cast.keys[F].node());
    assert_eq!(cast.live(), [X]);
    cast.grant(ROOT, X, 1);
    cast.grant(X, Y, 255);
    assert_eq!(cast.live(), [X, Y]);
    assert!(cast.view().is_admin(&cast.keys[X].node()));
}

#[test]
fn equivocation_converges() {
    let mut cast = Cast::with_admins(&[2]);
    let heard = cast.authority.heads();
    // One says two things at the same place to two halves; each builds on what it heard.
    let one = cast.say_over(A, &heard, cast.grant_body(X, 255));
    let two = cast.say_over(A, &heard, cast.grant_body(Y, 255));
    cast.say_over(F, &[one], Body::Noop);
    cast.say_over(F, &[two], Body::Noop);
    assert_eq!(cast.live(), [F, A, X, Y]);
    assert_eq!(cast.authority.heads().len(), 2);
}

#[test]
fn of_two_revocations_of_one_level_all_replicas_tell_the_same() {
    let mut cast = Cast::with_admins(&[2, 2, 3]);
    cast.grant(F, X, 255);
    let heard = cast.authority.heads();
    let grant = cast.say_over(C, &heard, cast.grant_body(Y, 255));
    let first = cast.say_over(A, &heard, cast.revoke(C, Cut::Parents));
    let second = cast.say_over(B, &heard, cast.revoke(C, Cut::Parents));
    let view = cast.view();
    let told = meshnode_protocol::view::Void::Revoked(first.min(second));
    assert_eq!(view.voids()[&grant], told);
    assert_eq!(view.revoked()[&cast.keys[C].node()], first.min(second));
}

#[test]
fn policy_author_matrix() {
    let missing = AuthorityError::Structure(StructureError::MissingCap);
    let nobody = AuthorityError::Structure(StructureError::NoAuthority);
    let bits = [
        Caps::NONE,
        Caps::MEMBERS,
        Caps::POLICY,
        Caps::LABEL,
        Caps::ALL,
    ];
    for caps in bits {
        let mut cast = Cast::founded();
        let mut grant = cast.plain_grant(A, 2);
        grant.caps = caps;
        cast.say(F, Body::Grant(Box::new(grant)));
        let (heads, cited) = (cast.authority.heads(), cast.titles[A]);
        let base = cast.sign(A, cited, &heads, crate::cast::base(None, "base"));
        let change = cast.sign(A, cited, &heads, crate::cast::change(base.id(), "change"));
        for op in [base, change] {
            let expected = if caps.contains(Caps::POLICY) {
                Ok(Inserted::Added(vec![op.id()]))
            } else {
                Err(missing)
            };
            assert_eq!(cast.authority.insert_op(op.bytes()), expected);
        }
        let wrote = cast.view().policy().base.is_some();
        assert_eq!(wrote, caps.contains(Caps::POLICY));
    }
    let mut cast = Cast::founded();
    cast.grant(F, X, 255);
    let heads = cast.authority.heads();
    let base = || crate::cast::base(None, "base");
    assert_eq!(cast.refused(X, &heads, base()), nobody);
    assert_eq!(cast.refused(Y, &heads, base()), nobody);
    for author in [F, ROOT] {
        let op = cast.say(author, base());
        assert_eq!(cast.view().policy().base, Some(op));
    }
}

#[test]
fn without_the_cap_members_nobody_revokes_closes_or_rekeys() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 1, false);
    let mut grant = cast.plain_grant(A, 2);
    grant.caps = Caps::POLICY;
    cast.say(F, Body::Grant(Box::new(grant)));
    cast.grant(F, X, 255);
    let heads = cast.authority.heads();
    let bodies = [
        cast.revoke(X, Cut::Parents),
        crate::cast::close(invite),
        crate::cast::rekey(1, 7),
    ];
    for body in bodies {
        let missing = AuthorityError::Structure(StructureError::MissingCap);
        assert_eq!(cast.refused(A, &heads, body), missing);
    }
}
