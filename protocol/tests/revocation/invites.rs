//! What becomes of codes and of who redeemed them when somebody is put out.

use meshnode_protocol::authority::{AdmitInserted, AuthorityError};
use meshnode_protocol::body::{Body, Cut};
use meshnode_protocol::io::Standing;
use meshnode_protocol::limits::ADMITS_PER_INVITE_MAX;
use meshnode_protocol::structure::StructureError;

use crate::cast::{A, B, Cast, F, X, Y, Z, actor, at, close};

#[test]
fn dead_issuer_invite() {
    let mut cast = Cast::with_admins(&[2]);
    let invite = cast.invite(A, 10, false);
    cast.admit(invite, X, F);
    assert_eq!(cast.standing(X), Some(Standing::Provisional));
    // The cut keeps the invite; it dies with its issuer all the same.
    cast.say(F, cast.revoke(A, Cut::Parents));
    cast.admit(invite, Y, F);
    assert!(cast.counts(invite));
    assert!(!cast.view().invites()[&invite].open);
    assert_eq!(cast.standing(X), Some(Standing::Pending));
    assert_eq!(cast.standing(Y), Some(Standing::Pending));
    assert_eq!(cast.live(), [F]);
    // An issuer that comes back has a new title: the code was made under the old one.
    cast.grant(F, A, 2);
    assert!(!cast.view().invites()[&invite].open);
}

#[test]
fn an_invite_of_one_that_left_lets_nobody_in() {
    let mut cast = Cast::with_admins(&[2]);
    let invite = cast.invite(A, 1, false);
    cast.admit(invite, X, F);
    cast.left.insert(cast.keys[A].node());
    assert_eq!(cast.standing(X), Some(Standing::Pending));
}

#[test]
fn a_code_that_a_revoked_device_used_is_closed() {
    let mut cast = Cast::with_admins(&[2]);
    let invite = cast.invite(F, 5, false);
    cast.say(F, cast.settling(invite, X, F));
    cast.admit(invite, Y, F);
    assert_eq!(cast.standing(Y), Some(Standing::Provisional));
    cast.say(A, cast.revoke(X, Cut::Parents));
    assert_eq!(cast.standing(Y), Some(Standing::Pending));
}

#[test]
fn forged_admits_of_a_revoked_witness_close_no_honest_code() {
    let mut cast = Cast::with_admins(&[2]);
    let invite = cast.invite(F, 5, false);
    cast.say(F, cast.revoke(A, Cut::Parents));
    cast.admit(invite, A, A);
    cast.admit(invite, Y, F);
    assert!(cast.view().invites()[&invite].open);
    assert_eq!(cast.standing(Y), Some(Standing::Provisional));
}

#[test]
fn a_grant_without_the_claim_burns_no_code() {
    let mut cast = Cast::with_admins(&[200]);
    let invite = cast.invite(F, 1, false);
    cast.admit(invite, X, F);
    cast.grant(A, Y, 255);
    cast.say(A, cast.revoke(Y, Cut::Parents));
    assert_eq!(cast.standing(X), Some(Standing::Provisional));
    assert!(cast.view().invites()[&invite].used.is_empty());
}

#[test]
fn late_redeem_no_displace() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 1, false);
    cast.say(F, cast.settling(invite, X, F));
    // The same code, redeemed in another partition.
    cast.admit(invite, Y, F);
    assert_eq!(cast.live(), [F, X]);
    assert_eq!(cast.standing(Y), Some(Standing::Pending));
}

#[test]
fn two_unsettled_uses_of_one_code_wait_and_the_settled_one_wins() {
    let mut cast = Cast::founded();
    cast.grant(F, Z, 255);
    let invite = cast.invite(F, 1, false);
    cast.admit(invite, X, F);
    cast.admit(invite, Y, Z);
    for actor in [X, Y] {
        assert_eq!(cast.standing(actor), Some(Standing::Quarantined));
    }
    cast.say(F, cast.settling(invite, Y, Z));
    assert_eq!(cast.standing(Y), Some(Standing::Settled));
    assert_eq!(cast.standing(X), Some(Standing::Pending));
}

#[test]
fn two_admins_that_settle_different_devices_in_partitions_let_both_in() {
    let mut cast = Cast::with_admins(&[2]);
    let invite = cast.invite(F, 1, false);
    let heard = cast.authority.heads();
    let (one, two) = (cast.settling(invite, X, F), cast.settling(invite, Y, A));
    cast.say_over(F, &heard, one);
    cast.say_over(A, &heard, two);
    assert_eq!(cast.live(), [F, A, X, Y]);
    assert_eq!(cast.view().invites()[&invite].used.len(), 2);
}

#[test]
fn expired_backdated_witness() {
    let mut cast = Cast::founded();
    cast.grant(F, Z, 255);
    let invite = cast.invite(F, 1, false);
    // After the code's end the founder closes it; a colluding witness then says that it was in time.
    cast.say(F, close(invite));
    cast.admit(invite, X, Z);
    assert_eq!(cast.standing(X), Some(Standing::Pending));
    assert_eq!(cast.live(), [F, Z]);
}

#[test]
fn late_founder_settles() {
    let mut cast = Cast::founded();
    cast.grant(F, A, 255);
    let invite = cast.invite(F, 1, false);
    cast.admit(invite, X, A);
    let before = cast.view().members()[&cast.keys[X].node()].clone();
    assert_eq!(before.standing, Standing::Provisional);
    // Weeks later the founder settles first and closes after.
    let Body::Grant(mut grant) = cast.settling(invite, X, A) else {
        panic!("a grant");
    };
    (grant.name, grant.ipv4) = (before.name.clone(), before.ipv4.unwrap());
    cast.say(F, Body::Grant(grant));
    cast.say(F, close(invite));
    let after = cast.view().members()[&cast.keys[X].node()].clone();
    assert_eq!(after.standing, Standing::Settled);
    assert_eq!((after.name, after.ipv4), (before.name, before.ipv4));
}

#[test]
fn a_code_closed_in_a_partition_leaves_its_joiner_pending_and_one_approval_restores() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, Z, 255);
    let invite = cast.invite(A, 1, false);
    cast.admit(invite, X, Z);
    let closing = cast.say(F, close(invite));
    let view = cast.view();
    assert_eq!(view.invites()[&invite].closed, Some(closing));
    assert_eq!(view.invites()[&invite].pending, [cast.keys[X].node()]);
    assert_eq!(cast.standing(X), Some(Standing::Pending));
    cast.say(F, cast.settling(invite, X, Z));
    assert_eq!(cast.standing(X), Some(Standing::Settled));
}

#[test]
fn of_two_that_close_a_code_all_replicas_tell_the_same() {
    let mut cast = Cast::with_admins(&[2]);
    let invite = cast.invite(A, 1, false);
    let heard = cast.authority.heads();
    cast.say_over(A, &heard, close(invite));
    let senior = cast.say_over(F, &heard, close(invite));
    assert_eq!(cast.view().invites()[&invite].closed, Some(senior));
}

#[test]
fn a_void_close_closes_nothing() {
    let mut cast = Cast::with_admins(&[2, 3]);
    let invite = cast.invite(B, 1, false);
    let before = cast.authority.heads();
    cast.say(A, close(invite));
    cast.say(F, cast.revoke(A, at(&before)));
    assert!(cast.view().invites()[&invite].open);
}

#[test]
fn a_junior_closes_no_seniors_invite_and_nobody_an_unheard_one() {
    let mut cast = Cast::with_admins(&[2]);
    let before = cast.authority.heads();
    let invite = cast.invite(F, 1, false);
    let heads = cast.authority.heads();
    let senior = AuthorityError::Structure(StructureError::SeniorInvite);
    assert_eq!(cast.refused(A, &heads, close(invite)), senior);
    let unheard = AuthorityError::Structure(StructureError::CitedNotInPast);
    assert_eq!(cast.refused(F, &before, close(invite)), unheard);
    assert_eq!(cast.refused(F, &heads, close(before[0])), unheard);
}

#[test]
fn a_revoked_witness_takes_only_its_unsettled_joiners_along() {
    let mut cast = Cast::founded();
    cast.grant(F, Z, 255);
    let invite = cast.invite(F, 3, false);
    cast.admit(invite, X, Z);
    cast.admit(invite, Y, Z);
    cast.say(F, cast.settling(invite, X, Z));
    assert_eq!(cast.live(), [F, X, Y, Z]);
    cast.say(F, cast.revoke(Z, Cut::Parents));
    assert_eq!(cast.live(), [F, X]);
    // Y redeems again at another member.
    cast.admit(invite, Y, X);
    assert_eq!(cast.standing(Y), Some(Standing::Provisional));
}

/// Whoever holds a code can make up witnesses and grind the ids of what they sign.
#[test]
fn an_admit_by_a_made_up_witness_takes_nobodys_place_and_waits_for_a_grant() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 2, false);
    cast.admit(invite, X, F);
    let network = cast.authority.network();
    let refused = AuthorityError::UnknownWitness(cast.keys[Z].node());
    let forged: Vec<_> = (0..2 * ADMITS_PER_INVITE_MAX as u8)
        .map(|number| {
            let claim = cast.claim_of(invite, &actor(64 + number), network, Z);
            cast.admit_of(claim, Z)
        })
        .collect();
    for admit in &forged {
        assert_eq!(cast.authority.insert_admit(admit.bytes()), Err(refused));
    }
    assert_eq!(cast.authority.admits().count(), 1);
    assert_eq!(cast.standing(X), Some(Standing::Provisional));
    // A grant makes it a witness, in whatever order the two come, and even when it is put out again.
    cast.grant(F, Z, 255);
    cast.say(F, cast.revoke(Z, Cut::Parents));
    let added = AdmitInserted::Added { dropped: None };
    assert_eq!(cast.authority.insert_admit(forged[0].bytes()), Ok(added));
    assert_eq!(cast.view().members().len(), 2);
}

/// Whichever of the two admits has the smaller id.
#[test]
fn a_joiner_with_two_witnesses_counts_once_and_stands_by_the_one_that_is_in() {
    for (fallen, sound) in [(Y, Z), (Z, Y)] {
        let mut cast = Cast::founded();
        cast.grant(F, Y, 255);
        cast.grant(F, Z, 255);
        let invite = cast.invite(F, 1, false);
        cast.admit(invite, X, fallen);
        cast.admit(invite, X, sound);
        assert_eq!(cast.standing(X), Some(Standing::Provisional));
        cast.say(F, cast.revoke(fallen, Cut::Parents));
        assert_eq!(cast.standing(X), Some(Standing::Provisional));
        assert_eq!(cast.live(), [F, X, sound]);
    }
}

#[test]
fn a_revoked_joiner_does_not_come_back_by_its_admit() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 1, false);
    cast.admit(invite, X, F);
    let denied = cast.say(F, cast.revoke(X, Cut::Parents));
    assert_eq!(cast.standing(X), None);
    assert_eq!(cast.view().revoked()[&cast.keys[X].node()], denied);
}

#[test]
fn with_the_only_admin_gone_members_go_on_and_open_codes_still_let_in() {
    let mut cast = Cast::founded();
    cast.grant(F, A, 255);
    let invite = cast.invite(F, 1, false);
    // Nobody hears the founder any more. The settled member answers.
    cast.admit(invite, X, A);
    assert_eq!(cast.live(), [F, A, X]);
    assert!(cast.view().settled_witness(&cast.keys[A].node()));
    assert!(!cast.view().settled_witness(&cast.keys[X].node()));
    // Settled at once by an admin, a joiner may witness at once.
    let second = cast.invite(F, 1, false);
    cast.say(F, cast.settling(second, Y, F));
    assert!(cast.view().settled_witness(&cast.keys[Y].node()));
}

#[test]
fn the_codes_of_a_stolen_founder_die_with_it() {
    let mut cast = Cast::with_admins(&[2]);
    let code = cast.invite(F, 1, false);
    let revoke = cast.revoke(F, Cut::Parents);
    cast.say(crate::cast::ROOT, revoke);
    cast.admit(code, X, A);
    assert_eq!(cast.standing(X), Some(Standing::Pending));
    assert_eq!(cast.live(), [A]);
}
