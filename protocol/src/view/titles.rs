//! Titles: what counting grants, and the genesis for its founder, give to devices.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::verdict::Verdicts;
use crate::authority::{Authority, Entry};
use crate::body::{Body, Caps, Level, Tags};
use crate::id::{NodeId, OpId};
use crate::name::{NodeName, Owner};
use crate::structure::understood;
use crate::time::Timestamp;

/// What one counting op gives to one device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Title<'a> {
    /// The op: a grant or the genesis.
    pub(super) op: OpId,
    /// Its place among the stored ops.
    pub(super) place: u32,
    /// The device.
    pub(super) device: NodeId,
    /// The device's level.
    pub(super) level: Level,
    /// Its caps.
    pub(super) caps: Caps,
    /// What it may give without the cap `label`; none in a genesis, whose founder has the cap.
    pub(super) may_tag: Option<&'a Tags>,
    /// Its tags; none in a genesis.
    pub(super) tags: Option<&'a Tags>,
    /// Whose it is.
    pub(super) owner: Option<&'a Owner>,
    /// The claimed name.
    pub(super) name: &'a NodeName,
    /// The claimed address.
    pub(super) ipv4: Ipv4Addr,
    /// When it stops to count.
    pub(super) expires: Option<Timestamp>,
    /// The invite whose claim it settles.
    pub(super) invite: Option<OpId>,
    /// The level of the granter.
    pub(super) author: Level,
    /// The revocation that it does not survive.
    pub(super) revoked: Option<OpId>,
    /// Whether it makes its device live.
    pub(super) live: bool,
}

impl<'a> Title<'a> {
    /// The title that an op gives, if its kind gives any.
    fn of(place: u32, entry: &'a Entry) -> Option<Self> {
        let (op, author) = (entry.op.id(), entry.level);
        match entry.op.body() {
            Body::Genesis(genesis) => Some(Self {
                op,
                place,
                device: genesis.founder,
                level: Level::FOUNDER,
                caps: Caps::ALL,
                may_tag: None,
                tags: None,
                owner: genesis.owner.as_ref(),
                name: &genesis.founder_name,
                ipv4: genesis.founder_ipv4,
                expires: None,
                invite: None,
                author,
                revoked: None,
                live: true,
            }),
            Body::Grant(grant) => Some(Self {
                op,
                place,
                device: grant.device,
                level: grant.level,
                caps: grant.caps,
                may_tag: Some(&grant.may_tag),
                tags: Some(&grant.tags),
                owner: grant.owner.as_ref(),
                name: &grant.name,
                ipv4: grant.ipv4,
                expires: grant.expires,
                invite: grant.claim.as_ref().map(|claim| claim.terms.invite),
                author,
                revoked: None,
                live: true,
            }),
            Body::Invite(_)
            | Body::Revoke(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => None,
        }
    }
}

/// The titles that counting and understood ops give, in op order.
pub(super) fn titles<'a>(
    authority: &'a Authority,
    order: &[u32],
    verdicts: &Verdicts<'_>,
    left: &BTreeSet<NodeId>,
) -> Vec<Title<'a>> {
    order
        .iter()
        .filter_map(|place| title(authority, *place, verdicts, left))
        .collect()
}

/// The title that the op at a place gives, if it counts and is understood.
pub(super) fn title<'a>(
    authority: &'a Authority,
    place: u32,
    verdicts: &Verdicts<'_>,
    left: &BTreeSet<NodeId>,
) -> Option<Title<'a>> {
    let entry = authority.at(place);
    // What a genesis says stands whatever else it wants understood: without it there is no network.
    let read = understood(&entry.op) || matches!(entry.op.body(), Body::Genesis(_));
    let mut title = Title::of(place, entry).filter(|_| read && verdicts.counts(place))?;
    title.revoked = verdicts.revocation(&title);
    title.live = title.revoked.is_none() && !left.contains(&title.device);
    Some(title)
}

/// The one live title of each device that all its attributes come from: smallest level, then smallest level of the
/// granter, then last in op order.
pub(super) fn effective<'t, 'a>(titles: &'t [Title<'a>]) -> BTreeMap<NodeId, &'t Title<'a>> {
    let mut effective: BTreeMap<NodeId, (usize, &Title<'a>)> = BTreeMap::new();
    for (rank, title) in titles.iter().enumerate().filter(|(_, title)| title.live) {
        let seniority =
            |(rank, title): (usize, &Title<'a>)| (title.level, title.author, Reverse(rank));
        let holder = effective.entry(title.device).or_insert((rank, title));
        if seniority((rank, title)) < seniority(*holder) {
            *holder = (rank, title);
        }
    }
    effective
        .into_iter()
        .map(|(device, (_, title))| (device, title))
        .collect()
}
