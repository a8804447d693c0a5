//! A claim at the door.

use super::*;
use crate::body::Body;
use crate::io::Input;
use crate::node::Founded;
use crate::node::stage::{at, claim, connect, founded, genesis, invite, keys, say};

/// A device whose membership ended shows the claim by which it came in: the code was for one, and is spent on it.
#[test]
fn a_spent_code_brings_nobody_back_whose_membership_ended() {
    let Founded { mut node, .. } = founded();
    let (cited, founder) = (genesis(&node), node.keys.device.clone());
    let (id, secret) = invite(&mut node, (&founder, cited), 20, |_| {});
    let joiner = keys(21);
    let claim = claim(&node, id, &secret, &joiner);
    let mut grant = crate::node::stage::grant(joiner.node(), 255, "guest", Some(at(1000).wall));
    grant.claim = Some(Box::new(claim.clone()));
    say(&mut node, Body::Grant(Box::new(grant)), at(3));
    let peer = claim.terms.transport.key;
    connect(&mut node, peer, 1, at(4));
    let mut redeem = |now: Moment| {
        node.handle(Input::Timeout, now);
        let session = Session {
            invite: id,
            knock: Knock {
                locator: [0; 16],
                nonce: [0; 32],
                mac: [0; 32],
            },
            transcript: claim.terms.transcript,
            time: claim.terms.time,
            since_ms: now.uptime_ms(),
        };
        node.door.sessions.insert((peer, LinkId(1)), session);
        let bytes = JoinRequest::Redeem(Box::new(claim.clone())).to_bytes();
        let answer = node.on_join_request(peer, LinkId(1), &bytes, now);
        let answer = answer.map(|bytes| JoinAnswer::parse(&bytes).unwrap());
        let ops = node.net.as_ref().unwrap().authority().op_count();
        (answer, ops)
    };
    // It lost the answer: as long as it is a member it gets another one.
    let (answer, ops) = redeem(at(5));
    assert!(matches!(answer, Some(JoinAnswer::Admitted(_))));
    let (answer, after) = redeem(at(2000));
    assert_eq!((answer, after), (None, ops));
}
