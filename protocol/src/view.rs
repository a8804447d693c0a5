//! The view: who is in, by what right, under which name and address (`docs/protocol.md` §3.8).
//!
//! A pure function of the stored set and of the devices that left; the clock only hides what has expired.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::authority::Authority;
use crate::body::{Caps, Level, Tags};
use crate::id::{AdmitId, Digest, NodeId, OpId};
use crate::io::Standing;
use crate::name::{NodeName, Owner};
use crate::time::Timestamp;

/// A device with a standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewMember {
    /// The device.
    pub id: NodeId,
    /// Its name; no two devices share one.
    pub name: NodeName,
    /// The name that was claimed for it, or that it wished for.
    pub wished: NodeName,
    /// Its level.
    pub level: Level,
    /// What it may do.
    pub caps: Caps,
    /// Tags that it may give although it has not the cap `label`.
    pub may_tag: Tags,
    /// How far it is in.
    pub standing: Standing,
    /// Its tags.
    pub tags: Tags,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Its IPv4 address; none while it waits, or when the range is full. No two devices share one.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The effective grant (or the genesis): what it cites as authority. None unless settled.
    pub authority: Option<OpId>,
    /// The admit that lets it in. None when settled.
    pub admit: Option<AdmitId>,
    /// The invite that it redeemed.
    pub invite: Option<OpId>,
    /// When it stops to count, if ever.
    pub expires: Option<Timestamp>,
}

/// An invite and who redeemed it; every list ascends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteView {
    /// Who made it.
    pub issuer: NodeId,
    /// How many devices may redeem it.
    pub uses: u16,
    /// Whether an admin must approve each joiner.
    pub approve: bool,
    /// When it ends, by the clock of the member that answers. Not judged here.
    pub not_after: Timestamp,
    /// Whether it still lets anybody in.
    pub open: bool,
    /// Devices that an admin's grant settled under it.
    pub used: Vec<NodeId>,
    /// Devices that a member let in under it.
    pub provisional: Vec<NodeId>,
    /// Devices that wait for an admin.
    pub pending: Vec<NodeId>,
    /// Devices that are too many for it.
    pub quarantined: Vec<NodeId>,
}

/// What a replica makes of its stored set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {}

impl View {
    /// Computes the view of a stored set. `left` are the devices with a Left record; `wall` only hides what expired.
    #[must_use]
    pub fn compute(authority: &Authority, left: &BTreeSet<NodeId>, wall: Timestamp) -> Self {
        let _ = (authority, left, wall);
        todo!()
    }

    /// Everybody with a standing: settled, provisional, pending and quarantined devices.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, ViewMember> {
        todo!()
    }

    /// A device that has traffic: settled or provisional.
    #[must_use]
    pub fn live(&self, device: &NodeId) -> Option<&ViewMember> {
        let _ = device;
        todo!()
    }

    /// Whether a device is a live admin.
    #[must_use]
    pub fn is_admin(&self, device: &NodeId) -> bool {
        let _ = device;
        todo!()
    }

    /// Whether a device is live by grant: may witness and serve newcomers.
    #[must_use]
    pub fn settled_witness(&self, device: &NodeId) -> bool {
        let _ = device;
        todo!()
    }

    /// Every stored invite.
    #[must_use]
    pub fn invites(&self) -> &BTreeMap<OpId, InviteView> {
        todo!()
    }

    /// The IPv4 address a granter claims for a device: what it has, else its first free candidate.
    #[must_use]
    pub fn free_ipv4(&self, device: &NodeId) -> Ipv4Addr {
        let _ = device;
        todo!()
    }

    /// The name a granter claims for a device: what it has for this wish, else the wish or its first free variant.
    #[must_use]
    pub fn free_name(&self, wished: &NodeName, device: &NodeId) -> NodeName {
        let _ = (wished, device);
        todo!()
    }

    /// The first op of a senior that this version does not understand.
    #[must_use]
    pub fn outdated(&self) -> Option<OpId> {
        todo!()
    }

    /// A digest of everything but what the clock hides: equal on replicas whose views agree.
    #[must_use]
    pub fn digest(&self) -> Digest {
        todo!()
    }
}
