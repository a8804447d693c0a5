//! Where this node is: its own addresses, where others see it, and which ways are looked after from there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::Node;
use crate::limits::CANDIDATES_MAX;
use crate::link::LinkOutput;
use crate::path::{Punch, is_probeable, is_public};
use crate::paths::Vantage;
use crate::record::{Candidate, CandidateKind};
use crate::time::Moment;

impl Node {
    pub(super) fn on_interfaces(&mut self, addresses: Vec<IpAddr>, now: Moment) {
        if self.interfaces == addresses {
            return;
        }
        let before = std::mem::replace(&mut self.interfaces, addresses);
        let lost = before
            .iter()
            .any(|address| !self.interfaces.contains(address));
        if let Some(net) = &mut self.net {
            net.paths.shake(&self.interfaces, now);
            let members: Vec<_> = net.transports.keys().copied().collect();
            for peer in members {
                // A connection from an address that is gone is dead, and nobody says so for minutes.
                if lost && self.links.peers.contains_key(&peer) {
                    self.link(LinkOutput::HangUp { peer });
                }
                self.links.hurry(&peer);
            }
        }
        self.relays_restart(now);
        self.endpoints_changed(now);
    }

    /// A member or a relay, at an address, saw this node at another.
    pub(super) fn on_seen(&mut self, who: Vantage, by: SocketAddr, seen: SocketAddr, now: Moment) {
        let own = &self.interfaces;
        let Some(net) = &mut self.net else { return };
        let elsewhere = net.paths.is_elsewhere(who, by, seen);
        if net.paths.saw_us(who, by, seen, own, now) {
            self.announce_ways(now);
            self.endpoints_changed(now);
        }
        if let Some(net) = self.net.as_mut().filter(|_| elsewhere) {
            net.paths.jolt(now);
            self.relays_doubt(now);
        }
    }

    /// Where this node's tunnel may be reached, strictly ascending.
    pub(super) fn own_tunnel(&self) -> Vec<Candidate> {
        let Some(net) = &self.net else {
            return Vec::new();
        };
        let port = self.setup.tunnel_port;
        let host = self.interfaces.iter().filter(|ip| !net.is_overlay(**ip));
        let host = host.map(|ip| Candidate {
            kind: CandidateKind::Host,
            address: (*ip, port).into(),
        });
        let mapped = self.mapped.tunnel.iter().copied();
        let mapped: Vec<_> = mapped.filter(is_public).collect();
        let observed = net.paths.observed(&self.interfaces).into_iter();
        // Peers see a node at its mapping when the router keeps the port: one address, one candidate.
        let observed = observed.filter(|address| !mapped.contains(address));
        let observed = observed.map(|address| Candidate {
            kind: CandidateKind::Observed,
            address,
        });
        let mapped = mapped.iter().map(|address| Candidate {
            kind: CandidateKind::Mapped,
            address: *address,
        });
        let mut tunnel: Vec<_> = mapped
            .chain(observed)
            .chain(host)
            .filter(|c| is_probeable(&c.address))
            .collect();
        tunnel.truncate(CANDIDATES_MAX);
        tunnel.sort_unstable();
        tunnel.dedup();
        tunnel
    }

    /// Tells the ways where this node may be found: what a CALL says is fresher than any record.
    pub(super) fn announce_ways(&mut self, now: Moment) {
        let tunnel = self.own_tunnel();
        let Some(net) = &mut self.net else { return };
        let (nat, plan) = net.paths.router(&self.interfaces);
        net.paths.means_mut().set_punch(self.setup.punch);
        net.paths.announce(tunnel, nat, plan, now);
    }

    /// What may be done from now on against routers that map every destination anew.
    pub(super) fn set_punch(&mut self, punch: Punch) {
        self.setup.punch = punch;
        if let Some(net) = &mut self.net {
            net.paths.means_mut().set_punch(punch);
        }
    }

    /// Chooses, when it is time to, which ways are looked after although nobody wants them.
    pub(super) fn choose_ways(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        if !net.paths.is_choice_due(now) {
            return;
        }
        let linked = self.links.trusted().filter_map(|(_, peer)| peer.device);
        let linked: BTreeSet<_> = linked.collect();
        net.paths.choose(&linked, now);
    }
}
