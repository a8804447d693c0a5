//! The view once more, slow and obvious, in the words of `docs/protocol.md` §3.8. Shares no code with the real one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshnode_protocol::address::{ipv4_assignable, ipv4_candidate, ipv6};
use meshnode_protocol::authority::Authority;
use meshnode_protocol::body::{Body, Caps, Kind, Level, Tags};
use meshnode_protocol::claim::Admit;
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::io::Standing;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::op::{Author, Op};
use meshnode_protocol::view::{InviteView, ViewMember};
use proptest::prelude::*;

use crate::cases;
use crate::scenario::{NOW, Scenario};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_view_is_what_the_naive_model_says(seed: u64) {
        let scenario = Scenario::random(seed);
        let view = scenario.view();
        let model = Model::new(&scenario.authority, &scenario.left);
        prop_assert_eq!(view.invites(), &model.invites());
        prop_assert_eq!(view.members(), &model.members());
        prop_assert_eq!(view.outdated(), model.outdated());
    }
}

struct Model<'a> {
    authority: &'a Authority,
    left: &'a BTreeSet<NodeId>,
    ops: BTreeMap<OpId, &'a Op>,
    order: Vec<&'a Op>,
    titles: Vec<(Level, ViewMember)>,
}

fn demands(ext: &Ext) -> bool {
    ext.entries().iter().any(|(kind, _)| *kind >= 0x8000)
}

impl<'a> Model<'a> {
    fn new(authority: &'a Authority, left: &'a BTreeSet<NodeId>) -> Self {
        let ops = authority.ops().map(|op| (op.id(), op)).collect();
        let mut model = Self {
            authority,
            left,
            ops,
            order: Vec::new(),
            titles: Vec::new(),
        };
        model.order = model.order();
        model.titles = model.titles();
        model
    }

    fn genesis(&self) -> OpId {
        self.authority.realm().genesis
    }

    /// The level of an op's author.
    fn level(&self, op: &Op) -> Level {
        match (op.header().author, self.ops.get(&op.header().authority)) {
            (Author::Root, _) => Level(0),
            (Author::Device(_), Some(title)) => match title.body() {
                Body::Grant(grant) => grant.level,
                _ => Level(1),
            },
            (Author::Device(_), None) => panic!("stored without authority"),
        }
    }

    fn clear(&self, op: &Op) -> bool {
        let kind = op.header().kind;
        let known = [Kind::GENESIS, Kind::GRANT, Kind::INVITE, Kind::NOOP].contains(&kind);
        (known || kind.0 >= 0x8000) && !demands(&op.header().ext) && !demands(op.body().ext())
    }

    fn counts(&self, op: &Op) -> bool {
        let genesis = self.genesis();
        let authority = op.header().authority;
        if op.id() == genesis || authority == genesis {
            return true;
        }
        self.counts(self.ops[&authority]) && self.clear(self.ops[&authority])
    }

    /// Again and again the smallest (level, id) of the ops whose parents all stand already.
    fn order(&self) -> Vec<&'a Op> {
        let mut order: Vec<&Op> = Vec::new();
        while order.len() < self.ops.len() {
            let stands = |id: &OpId| order.iter().any(|op| op.id() == *id);
            let next = self
                .ops
                .values()
                .filter(|op| !stands(&op.id()) && op.header().parents.iter().all(stands))
                .min_by_key(|op| (self.level(op), op.id()))
                .unwrap();
            order.push(next);
        }
        order
    }

    /// Counting grants in op order, the genesis among them as what it gives its founder: (level of the granter, op,
    /// device, name, address, the rest of the member).
    fn titles(&self) -> Vec<(Level, ViewMember)> {
        let counting = |op: &&&Op| self.counts(op) && (self.clear(op) || op.id() == self.genesis());
        let titles = self.order.iter().filter(counting).filter_map(|op| {
            let member = match op.body() {
                Body::Genesis(genesis) => ViewMember {
                    id: genesis.founder,
                    name: genesis.founder_name.clone(),
                    wished: genesis.founder_name.clone(),
                    level: Level(1),
                    caps: Caps::ALL,
                    may_tag: Tags::default(),
                    standing: Standing::Settled,
                    tags: Tags::default(),
                    owner: genesis.owner.clone(),
                    ipv4: Some(genesis.founder_ipv4),
                    ipv6: ipv6(&self.genesis(), &genesis.founder),
                    authority: Some(op.id()),
                    admit: None,
                    invite: None,
                    expires: None,
                },
                Body::Grant(grant) => ViewMember {
                    id: grant.device,
                    name: grant.name.clone(),
                    wished: grant.name.clone(),
                    level: grant.level,
                    caps: grant.caps,
                    may_tag: grant.may_tag.clone(),
                    standing: Standing::Settled,
                    tags: grant.tags.clone(),
                    owner: grant.owner.clone(),
                    ipv4: Some(grant.ipv4),
                    ipv6: ipv6(&self.genesis(), &grant.device),
                    authority: Some(op.id()),
                    admit: None,
                    invite: grant.claim.as_ref().map(|claim| claim.terms.invite),
                    expires: grant.expires,
                },
                _ => return None,
            };
            Some((self.level(op), member))
        });
        titles.collect()
    }

    /// Admits under an invite that may count at all.
    fn waiting(&self, invite: &OpId) -> Vec<&'a Admit> {
        let titled = |device: &NodeId| self.titles.iter().any(|(_, title)| title.id == *device);
        let admits = self.authority.admits().filter(|admit| {
            let claim = admit.claim();
            claim.invite == *invite
                && !demands(&claim.ext)
                && !demands(&admit.terms().ext)
                && !titled(&claim.device)
                && !self.left.contains(&claim.device)
                && titled(&claim.witness)
                && !self.left.contains(&claim.witness)
        });
        admits.collect()
    }

    fn standing(&self, invite: &OpId) -> Standing {
        let op = self.ops[invite];
        let (Body::Invite(body), Author::Device(issuer)) = (op.body(), op.header().author) else {
            panic!("an admit under no invite");
        };
        let open = self.counts(op) && self.clear(op) && !self.left.contains(&issuer);
        let (used, uses) = (self.used(invite).len(), usize::from(body.terms.uses));
        if !open || body.terms.approve || used >= uses {
            Standing::Pending
        } else if used + self.waiting(invite).len() > uses {
            Standing::Quarantined
        } else {
            Standing::Provisional
        }
    }

    fn used(&self, invite: &OpId) -> BTreeSet<NodeId> {
        let uses = self
            .titles
            .iter()
            .filter(|(_, title)| title.invite == Some(*invite));
        uses.map(|(_, title)| title.id).collect()
    }

    /// The unsettled devices in the order of their call, each by its best admit.
    fn joiners(&self) -> Vec<(Standing, &'a Admit)> {
        let mut invites: Vec<OpId> = self.ops.keys().copied().collect();
        invites.retain(|id| matches!(self.ops[id].body(), Body::Invite(_)));
        let mut all: Vec<(Standing, &Admit)> = Vec::new();
        for invite in invites {
            let admits = self.waiting(&invite);
            all.extend(
                admits
                    .into_iter()
                    .map(|admit| (self.standing(&invite), admit)),
            );
        }
        all.sort_by_key(|(standing, admit)| (*standing, admit.id()));
        let mut called = BTreeSet::new();
        all.retain(|(_, admit)| called.insert(admit.claim().device));
        all
    }

    fn invites(&self) -> BTreeMap<OpId, InviteView> {
        let joiners = self.joiners();
        let mut invites = BTreeMap::new();
        for (id, op) in &self.ops {
            let (Body::Invite(body), Author::Device(issuer)) = (op.body(), op.header().author)
            else {
                continue;
            };
            let under = |standing: Standing| {
                let mine = joiners
                    .iter()
                    .filter(|(as_what, admit)| *as_what == standing && admit.claim().invite == *id);
                let devices: BTreeSet<NodeId> =
                    mine.map(|(_, admit)| admit.claim().device).collect();
                devices.into_iter().collect()
            };
            let view = InviteView {
                issuer,
                uses: body.terms.uses,
                approve: body.terms.approve,
                closed: None,
                not_after: body.terms.not_after,
                open: self.counts(op) && self.clear(op) && !self.left.contains(&issuer),
                used: self.used(id).into_iter().collect(),
                provisional: under(Standing::Provisional),
                pending: under(Standing::Pending),
                quarantined: under(Standing::Quarantined),
            };
            invites.insert(*id, view);
        }
        invites
    }

    fn members(&self) -> BTreeMap<NodeId, ViewMember> {
        let mut members: BTreeMap<NodeId, ViewMember> = BTreeMap::new();
        let mut names: BTreeMap<NodeName, NodeId> = BTreeMap::new();
        let mut ipv4s: BTreeMap<Ipv4Addr, NodeId> = BTreeMap::new();
        let mut losers: Vec<NodeId> = Vec::new();
        let mut named = BTreeSet::new();
        let mut numbered = BTreeSet::new();
        for level in 0..=255 {
            for (_, title) in self.titles.iter().filter(|(author, _)| author.0 == level) {
                let (device, live) = (title.id, !self.left.contains(&title.id));
                if live && !members.contains_key(&device) {
                    members.insert(device, self.effective(title));
                    losers.push(device);
                }
                let free = *names.get(&title.name).unwrap_or(&device) == device;
                if free && !named.contains(&device) {
                    names.insert(title.name.clone(), device);
                    if live {
                        named.insert(device);
                        members.get_mut(&device).unwrap().name = title.name.clone();
                    }
                }
                let address = title.ipv4.unwrap();
                let free = *ipv4s.get(&address).unwrap_or(&device) == device;
                if free && !numbered.contains(&device) && self.claimable(level, address) {
                    ipv4s.insert(address, device);
                    if live {
                        numbered.insert(device);
                        members.get_mut(&device).unwrap().ipv4 = Some(address);
                    }
                }
            }
        }
        for device in losers {
            let member = members.get_mut(&device).unwrap();
            if !named.contains(&device) {
                member.name = free_name(&names, &member.wished, &device);
                names.insert(member.name.clone(), device);
            }
            if !numbered.contains(&device) {
                member.ipv4 = Some(self.free_ipv4(&ipv4s, &device));
                ipv4s.insert(member.ipv4.unwrap(), device);
            }
        }
        for (standing, admit) in self.joiners() {
            let member = self.joined(standing, admit, &mut names, &mut ipv4s);
            members.insert(member.id, member);
        }
        members.retain(|_, member| member.expires.is_none_or(|expires| expires >= NOW));
        members
    }

    fn joined(
        &self,
        standing: Standing,
        admit: &Admit,
        names: &mut BTreeMap<NodeName, NodeId>,
        ipv4s: &mut BTreeMap<Ipv4Addr, NodeId>,
    ) -> ViewMember {
        let claim = admit.claim();
        let Body::Invite(invite) = self.ops[&claim.invite].body() else {
            panic!("an admit under no invite");
        };
        let device = claim.device;
        let wished = invite.terms.name.clone().unwrap_or(claim.name.clone());
        let name = free_name(names, &wished, &device);
        names.insert(name.clone(), device);
        let mut ipv4 = None;
        if standing == Standing::Provisional {
            ipv4 = Some(self.free_ipv4(ipv4s, &device));
            ipv4s.insert(ipv4.unwrap(), device);
        }
        ViewMember {
            id: device,
            name,
            wished,
            level: Level(255),
            caps: Caps::NONE,
            may_tag: Tags::default(),
            standing,
            tags: invite.terms.tags.clone(),
            owner: invite.terms.owner.clone(),
            ipv4,
            ipv6: ipv6(&self.genesis(), &device),
            authority: None,
            admit: Some(admit.id()),
            invite: Some(claim.invite),
            expires: None,
        }
    }

    /// The attributes of a device's effective title under the name that was claimed first.
    fn effective(&self, first: &ViewMember) -> ViewMember {
        let own = self
            .titles
            .iter()
            .enumerate()
            .filter(|(_, (_, title))| title.id == first.id);
        let (_, (_, best)) = own
            .min_by_key(|(rank, (author, title))| (title.level, *author, Reverse(*rank)))
            .unwrap();
        ViewMember {
            name: first.name.clone(),
            wished: first.name.clone(),
            ipv4: None,
            ..best.clone()
        }
    }

    /// The root set and the founder's genesis may claim any address of the range, others only assignable ones.
    fn claimable(&self, author: u8, address: Ipv4Addr) -> bool {
        let range = self.authority.genesis().ipv4_range;
        (author == 0 && range.contains(address)) || ipv4_assignable(range, address)
    }

    fn free_ipv4(&self, taken: &BTreeMap<Ipv4Addr, NodeId>, device: &NodeId) -> Ipv4Addr {
        let range = self.authority.genesis().ipv4_range;
        let network = self.authority.network();
        (0..)
            .map(|i| ipv4_candidate(range, &network, device, i))
            .find(|address| taken.get(address).unwrap_or(device) == device)
            .unwrap()
    }

    fn outdated(&self) -> Option<OpId> {
        let beyond = |op: &&&Op| self.counts(op) && self.level(op).0 <= 1 && !self.clear(op);
        self.order.iter().find(beyond).map(|op| op.id())
    }
}

fn free_name(taken: &BTreeMap<NodeName, NodeId>, wished: &NodeName, device: &NodeId) -> NodeName {
    let symbols = device.to_string()[..4].to_owned();
    let mut tries = vec![wished.clone(), wished.with_suffix(&symbols)];
    tries.extend((2..99).map(|n| wished.with_suffix(&format!("{symbols}-{n}"))));
    let free = |name: &NodeName| taken.get(name).unwrap_or(device) == device;
    tries.into_iter().find(free).unwrap()
}
