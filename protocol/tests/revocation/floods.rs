//! Floods by one who was put out, or by one admin that turned: they change nothing, and stay within bounds.

use meshnode_protocol::authority::AdmitInserted;
use meshnode_protocol::body::{Body, Cut};
use meshnode_protocol::io::Standing;
use meshnode_protocol::limits::ADMITS_PER_INVITE_MAX;
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::View;

use crate::cast::{A, Cast, F, X, Y, actor};

const FLOOD: usize = 1500;

fn view(cast: &Cast) -> View {
    View::compute(&cast.authority, &cast.left, Timestamp::from_ms(1))
}

#[test]
fn void_flood_bounded() {
    let mut cast = Cast::with_admins(&[2]);
    cast.grant(F, X, 255);
    let old = cast.authority.heads();
    cast.say(F, cast.revoke(A, Cut::Parents));
    let before = view(&cast);
    for number in 0..FLOOD {
        let body = match number % 3 {
            0 => Body::Noop,
            1 => cast.revoke(X, Cut::Nothing),
            _ => cast.grant_body(Y, 255),
        };
        let title = cast.titles[Y];
        cast.say_over(A, &old, body);
        cast.titles[Y] = title;
    }
    let after = view(&cast);
    assert_eq!(after.voids().len(), FLOOD);
    assert_eq!(after.digest(), before.digest());
    assert_eq!(after.members(), before.members());
    // Who goes on needs few parents, whatever the flood left as heads.
    let next = cast.say_over(F, &old, Body::Noop);
    assert!(!view(&cast).voids().contains_key(&next));
}

/// Each revocation reaches the device, and each keeps what it did: none may cost a walk of its own.
#[test]
fn a_flood_of_counting_revocations_gives_the_view_of_one() {
    let mut cast = Cast::with_admins(&[2, 3]);
    cast.grant(crate::cast::B, X, 255);
    let over = cast.authority.heads();
    for _ in 0..FLOOD {
        cast.say_over(A, &over, cast.revoke(crate::cast::B, Cut::Parents));
    }
    let view = view(&cast);
    assert!(view.voids().is_empty());
    let live: Vec<usize> = (0..7)
        .filter(|actor| view.live(&cast.keys[*actor].node()).is_some())
        .collect();
    assert_eq!(live, [F, A, X]);
}

#[test]
fn admit_flood_bounded() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 1, false);
    let network = cast.authority.network();
    let mut kept = 0;
    for number in 0..(2 * ADMITS_PER_INVITE_MAX) as u8 {
        let claim = cast.claim_of(invite, &actor(64 + number), network, F);
        let admit = cast.admit_of(claim, F);
        match cast.authority.insert_admit(admit.bytes()).unwrap() {
            AdmitInserted::Added { dropped: None } => kept += 1,
            AdmitInserted::Added { dropped: Some(_) } | AdmitInserted::NotKept => {}
            AdmitInserted::Known => panic!("each is new"),
        }
    }
    assert_eq!(kept, ADMITS_PER_INVITE_MAX);
    assert_eq!(cast.authority.admits().count(), ADMITS_PER_INVITE_MAX);
    let view = view(&cast);
    assert_eq!(
        view.invites()[&invite].quarantined.len(),
        ADMITS_PER_INVITE_MAX
    );
    let live = view.members().values();
    let live = live.filter(|member| member.standing != Standing::Quarantined);
    assert_eq!(live.count(), 1);
}
