//! Names and addresses of who was put out, and of who is to take their place.

use meshnode_protocol::body::{Body, Cut};

use crate::cast::{A, B, Cast, F, X, Y, Z, address, name};

/// A grant of a device under another's name and address.
fn posing(cast: &Cast, device: usize, as_whom: usize) -> Body {
    let mut grant = cast.plain_grant(device, 255);
    (grant.name, grant.ipv4) = (name(as_whom), address(as_whom));
    Body::Grant(Box::new(grant))
}

fn has(cast: &Cast, device: usize, whose: usize) -> bool {
    let view = cast.view();
    let member = &view.members()[&cast.keys[device].node()];
    let (by_name, by_address) = (
        member.name == name(whose),
        member.ipv4 == Some(address(whose)),
    );
    assert_eq!(by_name, by_address);
    by_name
}

#[test]
fn grind_slot_no_displace() {
    let mut cast = Cast::with_admins(&[200]);
    cast.grant(F, X, 255);
    cast.say(A, posing(&cast, Y, X));
    assert!(has(&cast, X, X) && !has(&cast, Y, X));
}

#[test]
fn backdated_claim_no_displace() {
    let mut cast = Cast::with_admins(&[2, 200]);
    let old = cast.authority.heads();
    // The victim's grant has an op of the junior in its past; the junior then grants below that op, and grinds the id.
    cast.say(B, Body::Noop);
    let victim = cast.grant(A, X, 255);
    for _ in 0..8 {
        let ground = cast.say_over(B, &old, posing(&cast, Y, X));
        assert!(cast.counts(ground));
        assert!(has(&cast, X, X), "{ground} before {victim}");
    }
    assert!(!has(&cast, Y, X));
}

#[test]
fn a_revoked_device_keeps_its_name_from_those_who_had_not_heard() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    let heard = cast.authority.heads();
    cast.say_over(F, &heard, cast.revoke(X, Cut::Parents));
    cast.say_over(A, &heard, posing(&cast, Y, X));
    assert!(!has(&cast, Y, X));
}

#[test]
fn a_replacement_takes_over_name_and_address_of_a_revoked_device() {
    let mut cast = Cast::with_admins(&[2, 3]);
    cast.grant(F, X, 255);
    cast.say(F, cast.revoke(X, Cut::Parents));
    // It need not be the revoker: who has heard it may give them on.
    cast.say(B, posing(&cast, Y, X));
    assert!(has(&cast, Y, X));
    // They are in use now, so a second replacement does not get them.
    cast.say(B, posing(&cast, Z, X));
    assert!(has(&cast, Y, X) && !has(&cast, Z, X));
}

#[test]
fn a_restored_device_has_what_it_had() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    cast.say(F, cast.revoke(X, Cut::Parents));
    cast.grant(F, X, 255);
    assert!(has(&cast, X, X));
}

#[test]
fn who_left_keeps_its_name_until_an_admin_has_put_it_out() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    cast.left.insert(cast.keys[X].node());
    cast.say(A, posing(&cast, Y, X));
    assert!(!has(&cast, Y, X));
    cast.say(F, cast.revoke(X, Cut::Parents));
    cast.say(A, posing(&cast, Z, X));
    assert!(has(&cast, Z, X));
}
