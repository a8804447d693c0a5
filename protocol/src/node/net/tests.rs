//! Whose word tells the time, and what ends with whose right.

use crate::body::{Body, Level};
use crate::claim::{Admit, AdmitTerms};
use crate::codec::Ext;
use crate::id::{OpId, TransportKey};
use crate::identity::Keys;
use crate::io::{Command, CommandId, Input, InviteOptions, Warning};
use crate::node::Founded;
use crate::node::stage::{
    at, claim, draft, founded, genesis, grant, invite, keys, resumed, revoke, say, store, tip,
    tip_of,
};
use crate::op::Op;
use crate::record::{Record, RecordBody, RecordKind, Seen};
use crate::time::{Moment, Timestamp};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn in_hours(hours: u64) -> Timestamp {
    at(hours * HOUR_MS).wall
}

#[test]
fn a_juniors_tip_hides_nobody_for_long_and_no_senior_at_all() {
    let Founded { mut node, .. } = founded();
    let [junior, senior, member, guest] = [1, 2, 3, 4].map(keys);
    let grants = [
        grant(junior.node(), 5, "junior", None),
        grant(senior.node(), 3, "senior", Some(in_hours(6))),
        grant(member.node(), 255, "member", Some(in_hours(6))),
        grant(guest.node(), 255, "guest", Some(in_hours(72))),
    ];
    for grant in grants {
        say(&mut node, Body::Grant(Box::new(grant)), at(1));
    }
    let shown = |node: &crate::node::Node| {
        let members = node.net.as_ref().unwrap().view.members();
        [&senior, &member, &guest].map(|keys| members.contains_key(&keys.node()))
    };
    assert_eq!(shown(&node), [true, true, true]);
    // From the year 2100 a day is left: enough to be over for six hours, not for three days.
    let far = Timestamp::from_ms(4_102_444_800_000);
    tip(&mut node, &junior.device, far, at(2));
    assert_eq!(shown(&node), [true, false, true]);
    // Who was hidden by it before makes no difference to who is hidden now.
    say(&mut node, revoke(junior.node()), at(3));
    assert_eq!(shown(&node), [true, true, true]);
    // Its own end comes all the same.
    node.handle(Input::Timeout, at(6 * HOUR_MS + 2));
    assert_eq!(shown(&node), [false, false, true]);
}

#[test]
fn a_clock_before_the_genesis_believes_those_who_could_put_a_device_out() {
    let Founded { mut node, .. } = founded();
    let [junior, senior, member] = [1, 2, 3].map(keys);
    let grants = [
        grant(junior.node(), 5, "junior", None),
        grant(senior.node(), 3, "senior", Some(in_hours(72))),
        grant(member.node(), 255, "member", Some(in_hours(72))),
    ];
    for grant in grants {
        say(&mut node, Body::Grant(Box::new(grant)), at(1));
    }
    let booted = Moment {
        uptime_us: 5_000,
        wall: Timestamp::from_ms(7),
    };
    tip(&mut node, &junior.device, in_hours(80), booted);
    let members = node.net.as_ref().unwrap().view.members();
    assert!(members.contains_key(&senior.node()));
    assert!(!members.contains_key(&member.node()));
}

#[test]
fn who_lets_in_for_a_time_keeps_nobody_from_a_seniors_invite_by_its_clock() {
    let Founded { mut node, .. } = founded();
    let junior = keys(1);
    let body = Body::Grant(Box::new(grant(junior.node(), 5, "junior", None)));
    say(&mut node, body, at(1));
    tip(&mut node, &junior.device, in_hours(20), at(2));
    let net = node.net.as_ref().unwrap();
    assert_eq!(
        net.newest_tip(Level::FOUNDER, at(2).wall),
        Timestamp::default()
    );
    assert_eq!(net.newest_tip(Level(5), at(2).wall), in_hours(20));
    // A Tip that was told after its teller's own end counts for nothing.
    let guest = keys(2);
    let body = Body::Grant(Box::new(grant(
        guest.node(),
        4,
        "guest",
        Some(in_hours(10)),
    )));
    say(&mut node, body, at(3));
    tip(&mut node, &guest.device, in_hours(11), at(4));
    let net = node.net.as_ref().unwrap();
    assert_eq!(net.newest_tip(Level(4), at(4).wall), Timestamp::default());
}

/// Makes a node of an admin whose right ends, over all that the founder has.
fn admin_for_a_time(founder: &mut crate::node::Node, admin: &Keys) -> crate::node::Node {
    let body = Body::Grant(Box::new(grant(
        admin.node(),
        5,
        "admin",
        Some(in_hours(48)),
    )));
    say(founder, body, at(1));
    resumed(founder, admin, at(2))
}

#[test]
fn what_an_admin_for_a_time_signs_ends_with_its_own_right() {
    let Founded { mut node, .. } = founded();
    let admin = keys(1);
    let mut admin = admin_for_a_time(&mut node, &admin);
    let forever = grant(keys(2).node(), 255, "member", None);
    let op = admin.author(Body::Grant(Box::new(forever)), at(3)).unwrap();
    assert_eq!(op.body().grant().unwrap().expires, Some(in_hours(48)));
    let options = InviteOptions {
        name: None,
        tags: crate::body::Tags::default(),
        owner: None,
        ttl_ms: 30 * DAY_MS,
        uses: 1,
        approve: None,
        hints: Vec::new(),
        replaces: None,
        member_for_ms: None,
        dry_run: false,
    };
    admin.handle(
        Input::Command(CommandId(1), Command::Invite(options)),
        at(4),
    );
    let invites = admin.net.as_ref().unwrap().view.invites();
    let ends: Vec<_> = invites.values().map(|invite| invite.not_after).collect();
    assert_eq!(ends, [in_hours(48)]);
}

#[test]
fn who_comes_in_by_the_invite_of_an_admin_for_a_time_goes_with_it() {
    let Founded { mut node, .. } = founded();
    let admin = keys(1);
    let body = Body::Grant(Box::new(grant(
        admin.node(),
        5,
        "admin",
        Some(in_hours(48)),
    )));
    let title = say(&mut node, body, at(1)).id();
    let (id, secret) = invite(&mut node, (&admin.device, title), 30, |_| {});
    let claim = claim(&node, id, &secret, &keys(3));
    let op = node.grant_claim(claim, &id, at(3)).unwrap();
    assert_eq!(op.body().grant().unwrap().expires, Some(in_hours(48)));
}

/// A junior's invite says that its newcomer replaces a senior of the junior, and the founder's daemon settles it.
#[test]
fn a_juniors_invite_makes_nobody_put_out_a_senior_of_the_junior() {
    let Founded { mut node, .. } = founded();
    let [senior, junior, member] = [1, 2, 3].map(keys);
    let mut title = genesis(&node);
    let grants = [
        grant(senior.node(), 3, "senior", None),
        grant(member.node(), 255, "member", None),
        grant(junior.node(), 5, "junior", None),
    ];
    for grant in grants {
        title = say(&mut node, Body::Grant(Box::new(grant)), at(1)).id();
    }
    let targets = [(senior.node(), true, 40), (member.node(), false, 41)];
    for (target, stays, seed) in targets {
        let issuer = (&junior.device, title);
        let (id, secret) = invite(&mut node, issuer, seed, |terms| {
            terms.replaces = Some(target);
        });
        let claim = claim(&node, id, &secret, &keys(seed));
        node.grant_claim(claim, &id, at(3)).unwrap();
        node.handle(Input::Timeout, at(4));
        let view = &node.net.as_ref().unwrap().view;
        assert!(view.live(&keys(seed).node()).is_some());
        assert_eq!(view.live(&target).is_some(), stays);
    }
}

/// The end of the world is a date as well.
#[test]
fn an_invite_that_ends_with_all_time_is_no_chore_and_breaks_no_clock() {
    let Founded { mut node, .. } = founded();
    let cited = genesis(&node);
    let founder = node.keys.device.clone();
    invite(&mut node, (&founder, cited), 50, |terms| {
        terms.not_after = Timestamp::from_ms(u64::MAX);
    });
    node.net.as_mut().unwrap().rounds = 2;
    for hours in [1, 24, 24 * 365] {
        node.handle(Input::Timeout, at(hours * HOUR_MS));
        assert!(node.poll_timeout().is_some_and(|due| due > 0));
    }
    let ops = node.net.as_ref().unwrap().authority().op_count();
    assert_eq!(ops, 2, "nothing was closed");
}

/// The rule is the op's own: no clock and no view takes part.
#[test]
fn a_grant_that_outlives_its_author_is_refused_whoever_signs_it() {
    let Founded { mut node, .. } = founded();
    let admin = keys(1);
    let body = Body::Grant(Box::new(grant(
        admin.node(),
        5,
        "admin",
        Some(in_hours(48)),
    )));
    let title = say(&mut node, body, at(1)).id();
    for (end, taken) in [(None, false), (Some(49), false), (Some(48), true)] {
        let body = Body::Grant(Box::new(grant(
            keys(2).node(),
            255,
            "member",
            end.map(in_hours),
        )));
        let op = Op::sign(body, draft(&node, title), &admin.device);
        if taken {
            store(&mut node, &op, at(2));
        } else {
            let net = node.net.as_mut().unwrap();
            assert!(net.ledger.authority.insert_op(op.bytes()).is_err());
        }
    }
}

/// A member hears of no admin for a week.
#[test]
fn tip_warning() {
    let Founded { mut node, .. } = founded();
    let member = keys(1);
    let body = Body::Grant(Box::new(grant(member.node(), 255, "member", None)));
    say(&mut node, body, at(1));
    let founder = node.keys.device.clone();
    let mut member = resumed(&node, &member, at(2));
    tip(&mut member, &founder, at(2).wall, at(3));
    let warned = |days: u64| {
        let warnings = member.snapshot(at(days * DAY_MS + 10)).unwrap().warnings;
        let stale = |warning: &&Warning| matches!(warning, Warning::StaleAdmins { .. });
        warnings.iter().find(stale).cloned()
    };
    assert_eq!(warned(6), None);
    assert_eq!(warned(7), Some(Warning::StaleAdmins { days: 7 }));
}

/// Somebody keeps ops back: an admin's Tip names what nobody gives.
#[test]
fn eclipse_warns() {
    let Founded { mut node, .. } = founded();
    let admin = keys(1);
    let body = Body::Grant(Box::new(grant(admin.node(), 5, "admin", None)));
    let known = say(&mut node, body, at(1)).id();
    let stale = |node: &crate::node::Node| {
        let warnings = node.snapshot(at(3)).unwrap().warnings;
        warnings.contains(&Warning::Stale)
    };
    for (head, warns) in [(known, false), (OpId::new([9; 32]), true)] {
        tip_of(&mut node, &admin.device, vec![head], at(2).wall, at(2));
        assert_eq!(stale(&node), warns);
    }
}

/// Whatever clock a record's writer has, and whatever clock its reader has.
#[test]
fn record_1970_clock() {
    let Founded { mut node, .. } = founded();
    let member = keys(1);
    let body = Body::Grant(Box::new(grant(member.node(), 255, "member", None)));
    say(&mut node, body, at(1));
    let network = node.net.as_ref().unwrap().authority().network();
    let booted = Moment {
        uptime_us: 9_000,
        wall: Timestamp::from_ms(3),
    };
    for (seq, now) in [(5, at(2)), (at(3).wall.ms(), booted), (1 << 62, booted)] {
        let seen = Seen {
            heads: Vec::new(),
            ops: 1,
            epoch: 0,
            policy: None,
            ext: Ext::NONE,
        };
        let record = Record::sign(network, seq, RecordBody::Seen(seen), &member.device);
        node.take_record(record.bytes());
        node.handle(Input::Timeout, now);
        let records = &node.net.as_ref().unwrap().ledger.records;
        let held = records.of(&member.node(), RecordKind::SEEN);
        assert_eq!(held.map(Record::seq), Some(seq));
    }
}

/// One device shows two claims with other transport keys: of its admits the smaller stays, and with it the key.
#[test]
fn the_transport_key_of_an_admit_that_was_replaced_is_nobodys() {
    let Founded { mut node, .. } = founded();
    let cited = genesis(&node);
    let founder = node.keys.device.clone();
    let (id, secret) = invite(&mut node, (&founder, cited), 60, |_| {});
    let network = node.net.as_ref().unwrap().authority().network();
    let mut joiner = keys(61);
    let mut admits = [62, 63].map(|number| {
        joiner.transport = keys(number).transport;
        let terms = AdmitTerms {
            version: 1,
            network,
            claim: claim(&node, id, &secret, &joiner),
            heads: Vec::new(),
            ext: Ext::NONE,
        };
        let admit = Admit::sign(terms, &founder);
        (
            admit.id(),
            admit,
            TransportKey::new(joiner.transport.public()),
        )
    });
    admits.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
    let mut known = Vec::new();
    for (nth, (_, admit, key)) in (3..).zip(&admits) {
        let net = node.net.as_mut().unwrap();
        let mut change = crate::ledger::Change::default();
        net.ledger.insert_admit(admit.bytes(), &mut change);
        assert!(change.authority);
        net.dirty = true;
        node.handle(Input::Timeout, at(nth));
        let transports = &node.net.as_ref().unwrap().transports;
        assert_eq!(transports.get(key), Some(&joiner.node()));
        known.push(*key);
        let others = known.iter().filter(|other| *other != key);
        assert!(
            others
                .into_iter()
                .all(|other| !transports.contains_key(other))
        );
    }
}

/// An admin that was away finds more to do than one turn does: each turn has its limit, and the next goes on.
#[test]
fn a_turn_of_chores_closes_no_more_than_its_limit_and_the_next_goes_on() {
    const OVER: usize = 33;
    let Founded { mut node, .. } = founded();
    let cited = genesis(&node);
    let founder = node.keys.device.clone();
    for seed in 0..OVER {
        invite(&mut node, (&founder, cited), 100 + seed as u8, |terms| {
            terms.not_after = in_hours(1);
        });
    }
    node.net.as_mut().unwrap().rounds = 2;
    let count = |node: &crate::node::Node| node.net.as_ref().unwrap().authority().op_count();
    let before = count(&node);
    let mut turns = Vec::new();
    for seconds in 0..120 {
        let had = count(&node);
        node.handle(Input::Timeout, at(3 * HOUR_MS + seconds * 1000));
        turns.extend(Some(count(&node) - had).filter(|signed| *signed > 0));
    }
    assert_eq!(turns, [32, OVER - 32]);
    assert_eq!(count(&node) - before, OVER);
}
