//! The view: who is in, by what right, under which name and address (`docs/protocol.md` §3.8).
//!
//! A pure function of the stored set and of the devices that left; the clock only hides what has expired.

mod digest;
mod epoch;
mod follow;
mod ground;
mod joiners;
mod past;
mod pins;
mod policy;
mod register;
mod titles;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address::ipv6;
use crate::authority::Authority;
use crate::body::{Body, Caps, Level, Tags};
use crate::id::{AdmitId, Digest, NodeId, OpId};
use crate::io::Standing;
use crate::name::{NodeName, Owner};
use crate::structure::understood;
use crate::time::Timestamp;

use self::ground::Ground;
use self::joiners::Joiner;
use self::past::Knowledge;
use self::register::{Binding, Register};
use self::titles::Title;
use self::verdict::Verdicts;

pub use self::epoch::EpochView;
pub use self::follow::{Before, Turn};
pub use self::pins::Pinned;
pub use self::policy::PolicyView;
pub use self::verdict::Void;

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
    /// The op that closed it, if one did.
    pub closed: Option<OpId>,
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
#[derive(Clone, Debug)]
pub struct View {
    members: BTreeMap<NodeId, ViewMember>,
    /// Whose membership is over by the clock.
    expired: BTreeMap<NodeId, ViewMember>,
    /// Members as their grants say, of whom the policy says something else.
    granted: BTreeMap<NodeId, ViewMember>,
    pins: BTreeMap<NodeId, Pinned>,
    invites: BTreeMap<OpId, InviteView>,
    register: Register,
    revoked: BTreeMap<NodeId, OpId>,
    voids: BTreeMap<OpId, Void>,
    epoch: EpochView,
    policy: PolicyView,
    outdated: Option<OpId>,
    ground: Ground,
}

impl PartialEq for View {
    /// Equal views say the same; what is remembered of the way there, such as the order of arrival, does not count.
    fn eq(&self, other: &Self) -> bool {
        self.members == other.members
            && self.granted_members().eq(other.granted_members())
            && self.invites == other.invites
            && self.register == other.register
            && self.revoked == other.revoked
            && self.voids == other.voids
            && self.epoch == other.epoch
            && self.policy == other.policy
            && self.outdated == other.outdated
    }
}

impl Eq for View {}

impl View {
    /// Computes the view of a stored set. `left` are the devices with a Left record; `wall` only hides what expired.
    #[must_use]
    pub fn compute(authority: &Authority, left: &BTreeSet<NodeId>, wall: Timestamp) -> Self {
        let order = authority.order();
        let verdicts = Verdicts::of(authority);
        let titles = titles::titles(authority, &order, &verdicts, left);
        let mut invites = joiners::invites(authority, &order, &verdicts, &titles);
        let mut register = Register::new(authority.network(), authority.genesis().ipv4_range);
        let mut bindings = register.walk(&titles, &mut Knowledge::new(authority, &verdicts));
        let genesis = authority.realm().genesis;
        let mut members = BTreeMap::new();
        for (device, title) in titles::effective(&titles) {
            if let Some(binding) = bindings.remove(&device) {
                members.insert(device, by_title(title, binding, &genesis));
            }
        }
        let mut ground = Ground::new(authority, &verdicts, left, &titles);
        ground.call(authority, &mut members, &mut invites, &mut register);
        let mut view = Self {
            revoked: ground.revoked(authority, &verdicts, &members),
            voids: verdicts.voids(),
            epoch: epoch::of(authority, &verdicts, &invites),
            policy: policy::of(authority, &verdicts, &order),
            outdated: not_understood(authority, &order, &verdicts),
            members,
            expired: BTreeMap::new(),
            granted: BTreeMap::new(),
            pins: BTreeMap::new(),
            invites,
            register,
            ground,
        };
        view.ground.keep(order, verdicts);
        view.hide(|_| wall);
        view
    }

    /// Hides the devices whose membership is over, by the time that holds for a level; notes what they were.
    pub fn hide_expired(&mut self, time: impl Fn(Level) -> Timestamp, before: &mut Before) {
        for device in &self.ground.expiring {
            before.note(device, &self.members);
        }
        self.hide(time);
        before.retain(&self.members);
    }

    /// Everybody with a standing: settled, provisional, pending and quarantined devices.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<NodeId, ViewMember> {
        &self.members
    }

    /// A device that has traffic: settled or provisional.
    #[must_use]
    pub fn live(&self, device: &NodeId) -> Option<&ViewMember> {
        self.members
            .get(device)
            .filter(|member| match member.standing {
                Standing::Settled | Standing::Provisional => true,
                Standing::Pending | Standing::Quarantined => false,
            })
    }

    /// Whether a device is a live admin.
    #[must_use]
    pub fn is_admin(&self, device: &NodeId) -> bool {
        self.live(device)
            .is_some_and(|member| member.level.is_admin())
    }

    /// The live admins.
    pub fn admins(&self) -> impl Iterator<Item = &ViewMember> {
        // Who is an admin has a title, and so is live.
        let members = self.members.values();
        members.filter(|member| member.level.is_admin())
    }

    /// Whether a device is live by grant: may witness and serve newcomers.
    #[must_use]
    pub fn settled_witness(&self, device: &NodeId) -> bool {
        self.live(device)
            .is_some_and(|member| member.standing == Standing::Settled)
    }

    /// A device with a standing as its grant says, whatever the policy pins: what a further grant repeats.
    #[must_use]
    pub fn granted(&self, device: &NodeId) -> Option<&ViewMember> {
        let granted = self.granted.get(device);
        granted.or_else(|| self.members.get(device))
    }

    /// Every stored invite.
    #[must_use]
    pub const fn invites(&self) -> &BTreeMap<OpId, InviteView> {
        &self.invites
    }

    /// The IPv4 address a granter claims for a device: what it has, else its first free candidate. In a full range
    /// that is its first candidate, free or not: the grant counts, and its device goes without IPv4.
    #[must_use]
    pub fn free_ipv4(&self, device: &NodeId) -> Ipv4Addr {
        self.members
            .get(device)
            .and_then(|member| member.ipv4)
            .or_else(|| self.register.free_ipv4(device))
            .unwrap_or_else(|| self.register.first_ipv4(device))
    }

    /// The name a granter claims for a device: what it has for this wish, else the wish or its first free variant.
    #[must_use]
    pub fn free_name(&self, wished: &NodeName, device: &NodeId) -> NodeName {
        match self.granted(device) {
            Some(member) if member.wished == *wished => member.name.clone(),
            Some(_) | None => self.register.free_name(wished, device),
        }
    }

    /// Devices that were in, or came in, and are out by a revocation; and the revocation.
    #[must_use]
    pub const fn revoked(&self) -> &BTreeMap<NodeId, OpId> {
        &self.revoked
    }

    /// Stored ops that do not count, and why.
    #[must_use]
    pub const fn voids(&self) -> &BTreeMap<OpId, Void> {
        &self.voids
    }

    /// The epoch in force.
    #[must_use]
    pub const fn epoch(&self) -> EpochView {
        self.epoch
    }

    /// The ops of the policy in force.
    #[must_use]
    pub const fn policy(&self) -> &PolicyView {
        &self.policy
    }

    /// The first op of a senior that this version does not understand.
    #[must_use]
    pub const fn outdated(&self) -> Option<OpId> {
        self.outdated
    }

    /// A digest of everything but what the clock hides and the policy pins: equal on replicas whose views agree. It is
    /// computed when it is asked for.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest::of(self)
    }

    /// Members as their grants say, those whom the clock hides among them, by id.
    fn granted_members(&self) -> impl Iterator<Item = &ViewMember> {
        let as_granted = |(id, member)| self.granted.get::<NodeId>(id).unwrap_or(member);
        let mut shown = self.members.iter().map(as_granted).peekable();
        let mut hidden = self.expired.iter().map(as_granted).peekable();
        std::iter::from_fn(move || match (shown.peek(), hidden.peek()) {
            (Some(one), Some(other)) if other.id < one.id => hidden.next(),
            (None, _) => hidden.next(),
            (Some(_), _) => shown.next(),
        })
    }

    /// Hides whose membership is over.
    fn hide(&mut self, time: impl Fn(Level) -> Timestamp) {
        for device in &self.ground.expiring {
            let over = |member: &ViewMember| {
                let end = member.expires;
                end.is_some_and(|end| end < time(member.level))
            };
            if self.members.get(device).is_some_and(over) {
                let member = self.members.remove_entry(device);
                self.expired.extend(member);
            }
        }
    }
}

fn by_title(title: &Title<'_>, binding: Binding, genesis: &OpId) -> ViewMember {
    ViewMember {
        id: title.device,
        name: binding.name,
        wished: binding.wished,
        level: title.level,
        caps: title.caps,
        may_tag: title.may_tag.cloned().unwrap_or_default(),
        standing: Standing::Settled,
        tags: title.tags.cloned().unwrap_or_default(),
        owner: title.owner.cloned(),
        ipv4: binding.ipv4,
        ipv6: ipv6(genesis, &title.device),
        authority: Some(title.op),
        admit: None,
        invite: title.invite,
        expires: title.expires,
    }
}

/// A joiner has what its invite says; while it waits it has a name to be told by, but no address.
fn by_admit(
    joiner: Joiner<'_>,
    authority: &Authority,
    register: &mut Register,
) -> Option<ViewMember> {
    let claim = joiner.admit.claim();
    let Body::Invite(invite) = authority.op(&claim.invite)?.body() else {
        return None;
    };
    let wished = invite.terms.name.as_ref().unwrap_or(&claim.name);
    let name = register.name(wished, &claim.device);
    let ipv4 = match joiner.standing {
        Standing::Settled | Standing::Provisional => register.ipv4(&claim.device),
        Standing::Pending | Standing::Quarantined => None,
    };
    Some(ViewMember {
        id: claim.device,
        name,
        wished: wished.clone(),
        level: Level::MEMBER,
        caps: Caps::NONE,
        may_tag: Tags::default(),
        standing: joiner.standing,
        tags: invite.terms.tags.clone(),
        owner: invite.terms.owner.clone(),
        ipv4,
        ipv6: ipv6(&authority.realm().genesis, &claim.device),
        authority: None,
        admit: Some(joiner.admit.id()),
        invite: Some(claim.invite),
        expires: None,
    })
}

/// The first counting op by the root set or a founder that wants more understood than this version does. Never a
/// junior's: one stolen key would freeze the network.
fn not_understood(authority: &Authority, order: &[u32], verdicts: &Verdicts<'_>) -> Option<OpId> {
    order
        .iter()
        .filter(|place| verdicts.counts(**place))
        .map(|place| authority.at(*place))
        .find(|entry| entry.level <= Level::FOUNDER && !understood(&entry.op))
        .map(|entry| entry.op.id())
}
