//! The model's word on names and addresses, and with them on all members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshnode_protocol::address::{ipv4_assignable, ipv4_candidate, ipv6};
use meshnode_protocol::body::{Body, Caps, Level};
use meshnode_protocol::claim::Admit;
use meshnode_protocol::id::NodeId;
use meshnode_protocol::io::Standing;
use meshnode_protocol::name::NodeName;
use meshnode_protocol::view::ViewMember;

use crate::model::{Model, Title};
use crate::scenario::NOW;
use crate::slips::Slip;

/// Who holds something, and whether it is only reserved.
type Held<K> = BTreeMap<K, (NodeId, bool)>;

impl Model<'_> {
    /// Members but those that expired.
    pub(crate) fn members(&self) -> BTreeMap<NodeId, ViewMember> {
        let mut members = self.standing_members();
        members.retain(|_, member| member.expires.is_none_or(|expires| expires >= NOW));
        members
    }

    /// Everybody with a standing, before the clock hides anybody.
    pub(crate) fn standing_members(&self) -> BTreeMap<NodeId, ViewMember> {
        let mut members: BTreeMap<NodeId, ViewMember> = BTreeMap::new();
        let mut names: Held<NodeName> = BTreeMap::new();
        let mut ipv4s: Held<Ipv4Addr> = BTreeMap::new();
        let mut met: Vec<NodeId> = Vec::new();
        let (mut named, mut numbered) = (BTreeSet::new(), BTreeSet::new());
        for title in self.walk() {
            let device = title.member.id;
            if title.live && !members.contains_key(&device) {
                let effective = self.effective(&device).unwrap().member.clone();
                members.insert(device, first(effective, title));
                met.push(device);
            }
            if !(title.live && named.contains(&device))
                && self.take(&mut names, &title.member.name, title)
            {
                named.insert(device);
                members.get_mut(&device).unwrap().name = title.member.name.clone();
            }
            let address = title.member.ipv4.unwrap();
            if !(title.live && numbered.contains(&device))
                && self.claimable(title.author, address)
                && self.take(&mut ipv4s, &address, title)
            {
                numbered.insert(device);
                members.get_mut(&device).unwrap().ipv4 = Some(address);
            }
        }
        for device in met {
            let member = members.get_mut(&device).unwrap();
            if !named.contains(&device) {
                member.name = free_name(&names, &member.wished, &device);
                names.insert(member.name.clone(), (device, false));
            }
            if !numbered.contains(&device) {
                member.ipv4 = Some(self.free_ipv4(&ipv4s, &device));
                ipv4s.insert(member.ipv4.unwrap(), (device, false));
            }
        }
        for (standing, admit) in self.joiners() {
            let member = self.joined(standing, admit, &mut names, &mut ipv4s);
            members.insert(member.id, member);
        }
        members
    }

    /// Titles as they are called: by the granter's level, then in op order.
    fn walk(&self) -> Vec<&Title> {
        let mut walk: Vec<&Title> = self.titles.iter().collect();
        if !self.slips(Slip::FirstComeFirstNamed) {
            walk.sort_by_key(|title| title.author);
        }
        walk
    }

    /// A title takes or reserves something; true if its device uses it from now on.
    fn take<K: Ord + Clone>(&self, held: &mut Held<K>, what: &K, title: &Title) -> bool {
        let device = title.member.id;
        let free = match held.get(what) {
            None => true,
            Some((holder, _)) if *holder == device => true,
            Some((holder, reserved)) => {
                *reserved && title.live && self.may_take_over(title, holder)
            }
        };
        if free && title.live {
            held.insert(what.clone(), (device, false));
        } else if free {
            held.entry(what.clone()).or_insert((device, true));
        }
        free && title.live
    }

    /// Whether a title was given in knowledge of a counting revocation of who reserves something.
    fn may_take_over(&self, title: &Title, holder: &NodeId) -> bool {
        let past = self.past(&title.member.authority.unwrap());
        let revokes = self.revokes(holder);
        let mut counting = revokes.iter().filter(|(id, _)| self.counts(self.ops[id]));
        let heard = counting.any(|(id, _)| past.contains(id));
        (heard || self.slips(Slip::AnybodyTakesOver)) && !self.slips(Slip::NobodyTakesOver)
    }

    fn joined(
        &self,
        standing: Standing,
        admit: &Admit,
        names: &mut Held<NodeName>,
        ipv4s: &mut Held<Ipv4Addr>,
    ) -> ViewMember {
        let claim = admit.claim();
        let Body::Invite(invite) = self.ops[&claim.invite].body() else {
            panic!("an admit under no invite");
        };
        let device = claim.device;
        let wished = invite.terms.name.clone().unwrap_or(claim.name.clone());
        let name = free_name(names, &wished, &device);
        names.insert(name.clone(), (device, false));
        let mut ipv4 = None;
        if standing == Standing::Provisional {
            ipv4 = Some(self.free_ipv4(ipv4s, &device));
            ipv4s.insert(ipv4.unwrap(), (device, false));
        }
        ViewMember {
            id: device,
            name,
            wished,
            level: Level(255),
            caps: Caps::NONE,
            may_tag: meshnode_protocol::body::Tags::default(),
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

    /// The root set and the founder's genesis may claim any address of the range, others only assignable ones.
    fn claimable(&self, author: Level, address: Ipv4Addr) -> bool {
        let range = self.authority.genesis().ipv4_range;
        (author.0 == 0 && range.contains(address)) || ipv4_assignable(range, address)
    }

    fn free_ipv4(&self, taken: &Held<Ipv4Addr>, device: &NodeId) -> Ipv4Addr {
        let range = self.authority.genesis().ipv4_range;
        let network = self.authority.network();
        (0..)
            .map(|i| ipv4_candidate(range, &network, device, i))
            .find(|address| free(taken, address, device))
            .unwrap()
    }
}

/// The attributes of the effective title under the name that was claimed first.
fn first(effective: ViewMember, first: &Title) -> ViewMember {
    ViewMember {
        name: first.member.name.clone(),
        wished: first.member.name.clone(),
        ipv4: None,
        ..effective
    }
}

fn free<K: Ord>(taken: &Held<K>, what: &K, device: &NodeId) -> bool {
    taken.get(what).is_none_or(|(holder, _)| holder == device)
}

fn free_name(taken: &Held<NodeName>, wished: &NodeName, device: &NodeId) -> NodeName {
    let symbols = device.to_string()[..4].to_owned();
    let mut tries = vec![wished.clone(), wished.with_suffix(&symbols)];
    tries.extend((2..99).map(|n| wished.with_suffix(&format!("{symbols}-{n}"))));
    let mut tries = tries.into_iter();
    tries.find(|name| free(taken, name, device)).unwrap()
}
