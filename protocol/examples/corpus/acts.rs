//! Bodies of what admins decide about those who are in.

use meshnode_protocol::body::{Body, Cut, InviteClose, OpIds, Policy, PolicyBase, Rekey, Revoke};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, NodeId, OpId};
use meshnode_protocol::limits::{PARENTS_MAX, REASON_BYTES_MAX, SPARE_MAX};

fn ids<const MAX: usize>(count: usize) -> OpIds<MAX> {
    let ids = (0..count as u8).map(|id| OpId::new([id; 32])).collect();
    OpIds::new(ids).expect("not too many")
}

fn revoke(device: NodeId, cut: Cut, spare: usize, reason: usize) -> Body {
    Body::Revoke(Box::new(Revoke {
        device,
        cut,
        spare: ids(spare),
        reason: "x".repeat(reason),
        ext: Ext::NONE,
    }))
}

/// Sound bodies.
pub(crate) fn valid(device: NodeId) -> Vec<(&'static str, Body)> {
    let full = Cut::Heads(ids(PARENTS_MAX));
    let ext = || Ext::NONE;
    let (invite, base) = (OpId::new([7; 32]), OpId::new([8; 32]));
    let change = vec![0x85, 0x6f, 0x4a, 0x83];
    vec![
        ("revoke", revoke(device, Cut::Parents, 0, 0)),
        ("revoke-all", revoke(device, Cut::Nothing, 1, 4)),
        (
            "revoke-full",
            revoke(device, full, SPARE_MAX, REASON_BYTES_MAX),
        ),
        (
            "close",
            Body::InviteClose(InviteClose { invite, ext: ext() }),
        ),
        (
            "policy",
            Body::Policy(Policy {
                base,
                change: change.clone(),
                ext: ext(),
            }),
        ),
        (
            "policy-base",
            Body::PolicyBase(PolicyBase {
                previous: Some(base),
                change,
                ext: ext(),
            }),
        ),
        (
            "rekey",
            Body::Rekey(Rekey {
                epoch: 70_000,
                commitment: Digest::new([9; 32]),
                ext: ext(),
            }),
        ),
    ]
}

/// Bodies past a bound.
pub(crate) fn bad(device: NodeId) -> Vec<(&'static str, Body)> {
    vec![
        ("revoke-no-heads", revoke(device, Cut::Heads(ids(0)), 0, 0)),
        (
            "revoke-long-reason",
            revoke(device, Cut::Parents, 0, REASON_BYTES_MAX + 1),
        ),
    ]
}
