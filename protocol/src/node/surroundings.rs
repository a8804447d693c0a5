//! What a node found out about the network around it, without asking anybody for it.

use super::Node;
use crate::id::{NodeId, TransportKey};
use crate::io::{PathKind, RelayNearby, Surroundings, Vantage};
use crate::path::kind_of;
use crate::paths::Vantage as Seer;
use crate::time::Moment;

impl Node {
    /// Where this node stands in the internet, as far as others told it; `None` outside of a network.
    #[must_use]
    pub fn surroundings(&self, now: Moment) -> Option<Surroundings> {
        let net = self.net.as_ref().filter(|net| net.is_open())?;
        let mut relays = self.known_relays(now);
        relays.sort_by_key(|relay| (relay.rtt_us.unwrap_or(u64::MAX), relay.key));
        let seen = net.paths.sightings().filter_map(|(who, at)| {
            let (who, volunteer) = match who {
                Seer::Member(node) => (net.name_of(&node)?.as_str().to_owned(), false),
                Seer::Relay(address) => {
                    let relay = relays.iter().find(|r| r.addresses.contains(&address))?;
                    (relay.name.as_str().to_owned(), relay.member.is_none())
                }
            };
            Some(Vantage { who, volunteer, at })
        });
        let mut vantages: Vec<Vantage> = Vec::new();
        for vantage in seen {
            if vantages.iter().all(|known| known.who != vantage.who) {
                vantages.push(vantage);
            }
        }
        let (mut direct, mut relayed) = (Vec::new(), Vec::new());
        for member in net.view.members().values().filter(|m| m.id != self.id) {
            let way = net.paths.peer(&member.id).filter(|way| way.answers());
            let kind = way.and_then(|way| way.active_path()).map(kind_of);
            let name = member.name.as_str().to_owned();
            match kind {
                Some(PathKind::Lan | PathKind::Direct) => direct.push(name),
                Some(PathKind::UdpRelay | PathKind::Circuit) => relayed.push(name),
                None => {}
            }
        }
        Some(Surroundings {
            addresses: self.interfaces.clone(),
            nat: net.paths.router(&self.interfaces).0,
            seen: vantages,
            relays: relays.into_iter().map(nearby).collect(),
            members: (direct, relayed),
            linked: self.links.trusted().next().is_some(),
        })
    }

    /// The member with this transport key.
    #[must_use]
    pub fn member_of(&self, transport: &TransportKey) -> Option<NodeId> {
        self.net.as_ref()?.transports.get(transport).copied()
    }
}

fn nearby(relay: crate::io::RelayInfo) -> RelayNearby {
    RelayNearby {
        key: relay.key,
        name: relay.name.as_str().to_owned(),
        volunteer: relay.member.is_none(),
        rtt_us: relay.rtt_us,
        home: relay.home,
    }
}
