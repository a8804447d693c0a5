//! Who is in the network, as a policy sees it: names to ids and back, owners, tags, addresses.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Pins, Prefix};
use crate::address::ipv6_prefix;
use crate::body::Ipv4Range;
use crate::id::{NodeId, OpId};
use crate::name::{NodeName, Owner, Tag};
use crate::view::{View, ViewMember};

/// Bits of a network's IPv6 prefix.
const IPV6_PREFIX_BITS: u8 = 48;

/// A node that has traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The device.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// Whether it may sign changes.
    pub admin: bool,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
}

impl Listing {
    /// Its addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(IpAddr::V4);
        ipv4.into_iter().chain([IpAddr::V6(self.ipv6)])
    }
}

impl From<&ViewMember> for Listing {
    fn from(member: &ViewMember) -> Self {
        Self {
            id: member.id,
            name: member.name.clone(),
            owner: member.owner.clone(),
            tags: member.tags.as_slice().iter().cloned().collect(),
            admin: member.level.is_admin(),
            ipv4: member.ipv4,
            ipv6: member.ipv6,
        }
    }
}

/// The nodes that have traffic, and the addresses that the network has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    listings: BTreeMap<NodeId, Listing>,
    names: BTreeMap<NodeName, NodeId>,
    owners: BTreeSet<Owner>,
    overlay: [Prefix; 2],
}

impl Directory {
    /// The directory of these nodes in the network of a genesis.
    #[must_use]
    pub fn new(
        genesis: &OpId,
        ipv4_range: Ipv4Range,
        nodes: impl IntoIterator<Item = Listing>,
    ) -> Self {
        let overlay = [
            Prefix::new(ipv4_range.base.into(), ipv4_range.prefix),
            Prefix::new(ipv6_prefix(genesis).into(), IPV6_PREFIX_BITS),
        ];
        let listings = nodes.into_iter().map(|listing| (listing.id, listing));
        Self::of(listings.collect(), overlay)
    }

    /// The directory of a view: its settled and provisional devices.
    #[must_use]
    pub fn of_view(genesis: &OpId, ipv4_range: Ipv4Range, view: &View) -> Self {
        let live = view.members().keys().filter_map(|id| view.live(id));
        // The names that people see; a policy pins tags and owners anew over those of the grants.
        let listings = live.map(|member| Listing {
            name: member.name.clone(),
            ..Listing::from(view.granted(&member.id).unwrap_or(member))
        });
        Self::new(genesis, ipv4_range, listings)
    }

    fn of(listings: BTreeMap<NodeId, Listing>, overlay: [Prefix; 2]) -> Self {
        let named = listings.values().map(|node| (node.name.clone(), node.id));
        let owners = listings.values().filter_map(|node| node.owner.clone());
        Self {
            names: named.collect(),
            owners: owners.collect(),
            listings,
            overlay,
        }
    }

    /// The nodes as a policy pins them: its tags and owners instead of those of the grants.
    #[must_use]
    pub fn pinned(&self, pins: &BTreeMap<NodeId, Pins>) -> Self {
        let mut listings = self.listings.clone();
        for (id, pins) in pins {
            if let Some(listing) = listings.get_mut(id) {
                if let Some(tags) = &pins.tags {
                    listing.tags.clone_from(tags);
                }
                if let Some(owner) = &pins.owner {
                    listing.owner = Some(owner.clone());
                }
            }
        }
        Self::of(listings, self.overlay)
    }

    /// The nodes, by id.
    #[must_use]
    pub const fn listings(&self) -> &BTreeMap<NodeId, Listing> {
        &self.listings
    }

    /// The node with a name.
    #[must_use]
    pub fn by_name(&self, name: &NodeName) -> Option<NodeId> {
        self.names.get(name).copied()
    }

    /// The name of a node.
    #[must_use]
    pub fn name(&self, id: &NodeId) -> Option<&NodeName> {
        self.listings.get(id).map(|listing| &listing.name)
    }

    /// Whether anybody's node is this owner's.
    #[must_use]
    pub fn knows_owner(&self, owner: &Owner) -> bool {
        self.owners.contains(owner)
    }

    /// Whether all of a prefix lies inside the network.
    #[must_use]
    pub fn encloses(&self, prefix: &Prefix) -> bool {
        self.overlay.iter().any(|own| own.encloses(prefix))
    }

    /// The network's own prefixes.
    #[must_use]
    pub const fn overlay(&self) -> &[Prefix; 2] {
        &self.overlay
    }
}
