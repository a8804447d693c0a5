//! The register of names and IPv4 addresses: no two devices share one, seniors' claims first (`docs/protocol.md` §6.5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::past::Knowledge;
use super::titles::Title;

use crate::address::{ipv4_assignable, ipv4_assignable_count, ipv4_candidate};
use crate::body::{Ipv4Range, Level};
use crate::id::{NetworkId, NodeId};
use crate::name::NodeName;

/// Candidates a device tries before it goes without IPv4: only a nearly full range makes it try so many.
const IPV4_TRIES_MAX: u32 = 4096;
/// Symbols of the device id in the name of a device that lost its claim.
const SUFFIX_SYMBOLS: usize = 4;

/// Who has which name and address, or keeps it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Register {
    network: NetworkId,
    range: Ipv4Range,
    names: BTreeMap<NodeName, Holder>,
    ipv4s: BTreeMap<Ipv4Addr, Holder>,
    /// How many of the held addresses are assignable: the founder may have chosen another.
    assigned: u32,
}

/// Who holds a name or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    device: NodeId,
    /// Nobody uses it: who knows that its device was revoked may give it on.
    reserved: bool,
}

/// What a device is called.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    /// Its name.
    pub(super) name: NodeName,
    /// What was claimed first.
    pub(super) wished: NodeName,
    /// Its address, if one is left.
    pub(super) ipv4: Option<Ipv4Addr>,
}

/// What a device got of its claims so far.
struct Claimed<'a> {
    device: NodeId,
    wished: &'a NodeName,
    name: Option<&'a NodeName>,
    ipv4: Option<Ipv4Addr>,
}

impl Register {
    /// An empty register.
    pub(super) fn new(network: NetworkId, range: Ipv4Range) -> Self {
        Self {
            network,
            range,
            names: BTreeMap::new(),
            ipv4s: BTreeMap::new(),
            assigned: 0,
        }
    }

    /// Walks the titles by the granter's level, then op order: a live device takes the first of its claims that is
    /// free, a title that does not make its device live only reserves. Then the losers take what is left.
    pub(super) fn walk(
        &mut self,
        titles: &[Title<'_>],
        known: &mut Knowledge<'_, '_>,
    ) -> BTreeMap<NodeId, Binding> {
        let mut walk: Vec<&Title<'_>> = titles.iter().collect();
        walk.sort_by_key(|title| title.author);
        let mut claimed: Vec<Claimed<'_>> = Vec::new();
        let mut places: BTreeMap<NodeId, usize> = BTreeMap::new();
        for title in walk {
            if !title.live {
                self.take_name(title, known);
                self.take_ipv4(title, known);
                continue;
            }
            let place = *places.entry(title.device).or_insert_with(|| {
                claimed.push(Claimed {
                    device: title.device,
                    wished: title.name,
                    name: None,
                    ipv4: None,
                });
                claimed.len() - 1
            });
            let claimed = &mut claimed[place];
            if claimed.name.is_none() && self.take_name(title, known) {
                claimed.name = Some(title.name);
            }
            if claimed.ipv4.is_none() && self.take_ipv4(title, known) {
                claimed.ipv4 = Some(title.ipv4);
            }
        }
        claimed
            .into_iter()
            .map(|claimed| (claimed.device, self.complete(&claimed)))
            .collect()
    }

    /// Gives a loser of a claim a name, and an address, that nobody has.
    fn complete(&mut self, claimed: &Claimed<'_>) -> Binding {
        let device = &claimed.device;
        Binding {
            name: match claimed.name {
                Some(name) => name.clone(),
                None => self.name(claimed.wished, device),
            },
            wished: claimed.wished.clone(),
            ipv4: claimed.ipv4.or_else(|| self.ipv4(device)),
        }
    }

    /// Gives a device an address that nobody has, if one is left.
    pub(super) fn ipv4(&mut self, device: &NodeId) -> Option<Ipv4Addr> {
        let address = self.free_ipv4(device)?;
        if !self.ipv4s.contains_key(&address) {
            self.assigned += 1;
        }
        self.ipv4s.insert(address, Holder::live(*device));
        Some(address)
    }

    /// Gives a device a name that nobody has.
    pub(super) fn name(&mut self, wished: &NodeName, device: &NodeId) -> NodeName {
        let name = self.free_name(wished, device);
        self.names.insert(name.clone(), Holder::live(*device));
        name
    }

    /// The wish if it is free to the device, else with four symbols of the device id, else with a count behind them.
    pub(super) fn free_name(&self, wished: &NodeName, device: &NodeId) -> NodeName {
        let free = |name: &NodeName| {
            let holder = self.names.get(name);
            holder.is_none_or(|holder| holder.device == *device)
        };
        first_free(wished, device, free)
    }

    /// A name for a device whose name was given to another: nobody's by a claim, and none of those that are taken.
    pub(super) fn variant(
        &self,
        wished: &NodeName,
        device: &NodeId,
        taken: &BTreeSet<NodeName>,
    ) -> NodeName {
        let free = |name: &NodeName| {
            let holder = self.names.get(name);
            !taken.contains(name) && holder.is_none_or(|holder| holder.device == *device)
        };
        first_free(wished, device, free)
    }

    /// The first candidate that is free to the device.
    pub(super) fn free_ipv4(&self, device: &NodeId) -> Option<Ipv4Addr> {
        if self.assigned >= ipv4_assignable_count(self.range) {
            return None;
        }
        (0..IPV4_TRIES_MAX)
            .map(|i| ipv4_candidate(self.range, &self.network, device, i))
            .find(|address| {
                self.ipv4s
                    .get(address)
                    .is_none_or(|holder| holder.device == *device)
            })
    }

    /// The first candidate of a device, free or not.
    pub(super) fn first_ipv4(&self, device: &NodeId) -> Ipv4Addr {
        ipv4_candidate(self.range, &self.network, device, 0)
    }

    /// Whether a live title claims a name and an address that nobody ever asked for, so that it moves nobody wherever
    /// it stands in the walk: what somebody asked for in vain is held by another for good.
    pub(super) fn is_unasked(&self, title: &Title<'_>) -> bool {
        let assignable = ipv4_assignable(self.range, title.ipv4);
        let room = self.assigned + u32::from(assignable) < ipv4_assignable_count(self.range);
        room && (assignable || self.is_founders(title))
            && !self.names.contains_key(title.name)
            && !self.ipv4s.contains_key(&title.ipv4)
    }

    /// Enters a live title that moves nobody.
    pub(super) fn enter(&mut self, title: &Title<'_>) -> Binding {
        self.assigned += u32::from(ipv4_assignable(self.range, title.ipv4));
        let holder = Holder::live(title.device);
        self.names.insert(title.name.clone(), holder);
        self.ipv4s.insert(title.ipv4, holder);
        Binding {
            name: title.name.clone(),
            wished: title.name.clone(),
            ipv4: Some(title.ipv4),
        }
    }

    /// Keeps what a device had by its titles for it, now that it left.
    pub(super) fn reserve(&mut self, title: &Title<'_>) {
        let holder = Holder {
            device: title.device,
            reserved: true,
        };
        self.names.insert(title.name.clone(), holder);
        self.ipv4s.insert(title.ipv4, holder);
    }

    /// Takes back what a device without titles was given.
    pub(super) fn release(&mut self, name: &NodeName, ipv4: Option<Ipv4Addr>) {
        self.names.remove(name);
        if let Some(ipv4) = ipv4 {
            self.ipv4s.remove(&ipv4);
            self.assigned -= 1;
        }
    }

    /// Who uses a name.
    pub(super) fn user(&self, name: &NodeName) -> Option<NodeId> {
        let holder = self.names.get(name).filter(|holder| !holder.reserved);
        holder.map(|holder| holder.device)
    }

    /// The names and their holders.
    pub(super) fn names(&self) -> Vec<(&NodeName, NodeId)> {
        self.names
            .iter()
            .map(|(name, holder)| (name, holder.device))
            .collect()
    }

    /// The addresses and their holders.
    pub(super) fn ipv4s(&self) -> Vec<(&Ipv4Addr, NodeId)> {
        self.ipv4s
            .iter()
            .map(|(ipv4, holder)| (ipv4, holder.device))
            .collect()
    }

    fn take_name(&mut self, title: &Title<'_>, known: &mut Knowledge<'_, '_>) -> bool {
        let holder = self.names.get(title.name);
        let free = holder.is_none_or(|holder| holder.yields_to(title, known));
        if free {
            self.names
                .insert(title.name.clone(), Holder::of(title, holder));
        }
        free
    }

    fn is_founders(&self, title: &Title<'_>) -> bool {
        title.author == Level::ROOT && self.range.contains(title.ipv4)
    }

    /// A grant claims assignable addresses only; the founder may have any of the range it chose.
    fn take_ipv4(&mut self, title: &Title<'_>, known: &mut Knowledge<'_, '_>) -> bool {
        let founders = self.is_founders(title);
        let assignable = ipv4_assignable(self.range, title.ipv4);
        let holder = self.ipv4s.get(&title.ipv4);
        let free = holder.is_none_or(|holder| holder.yields_to(title, known));
        if !free || !(founders || assignable) {
            return false;
        }
        if holder.is_none() && assignable {
            self.assigned += 1;
        }
        let holder = Holder::of(title, holder);
        self.ipv4s.insert(title.ipv4, holder);
        true
    }
}

impl Holder {
    const fn live(device: NodeId) -> Self {
        Self {
            device,
            reserved: false,
        }
    }

    /// The holder after a title took the place; a device that is live there does not lose it by an old title.
    fn of(title: &Title<'_>, before: Option<&Self>) -> Self {
        let used = before.is_some_and(|before| before.device == title.device && !before.reserved);
        Self {
            device: title.device,
            reserved: !title.live && !used,
        }
    }

    /// A claim is free to its own device, and a reserved one to a title that was given in knowledge of the revocation.
    fn yields_to(&self, title: &Title<'_>, known: &mut Knowledge<'_, '_>) -> bool {
        self.device == title.device
            || (self.reserved && title.live && known.has(title.place, &self.device))
    }
}

/// The wish if it is free, else with four symbols of the device id, else with a count behind them.
fn first_free(wished: &NodeName, device: &NodeId, free: impl Fn(&NodeName) -> bool) -> NodeName {
    if free(wished) {
        return wished.clone();
    }
    let mut symbols = device.short();
    symbols.truncate(SUFFIX_SYMBOLS);
    let mut name = wished.with_suffix(&symbols);
    // Finitely many names are held, so this ends.
    let mut count: u32 = 2;
    while !free(&name) {
        name = wished.with_suffix(&format!("{symbols}-{count}"));
        count += 1;
    }
    name
}
