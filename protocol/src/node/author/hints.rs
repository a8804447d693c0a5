//! Where a code says that a newcomer may ask.

use crate::id::{NodeId, TransportKey};
use crate::invite::Hint;
use crate::io::{Refusal, Standing};
use crate::name::NodeName;
use crate::node::Node;
use crate::path::is_public;
use crate::record::{ControlAddress, Transport};

/// Hints of one member, and members that are hinted at by relays.
const HINTS_MAX: usize = 2;

impl Node {
    /// The hints typed, or those of a member that can be reached from outside: this node first, then the members at
    /// which it is at home, which are the nearest. If there is none, members by the relays at which they are at home;
    /// the name is then the relay's.
    pub(super) fn invite_hints(
        &mut self,
        typed: &[String],
    ) -> Result<(Vec<Hint>, Option<NodeName>), Refusal> {
        if !typed.is_empty() {
            let hints = typed
                .iter()
                .map(|text| Hint::parse(text))
                .collect::<Result<Vec<_>, _>>();
            return Ok((
                hints.map_err(|_| Refusal::Limit("a hint is host:port"))?,
                None,
            ));
        }
        let own = hints_at(&self.own_control());
        if !own.is_empty() {
            return Ok((own, None));
        }
        let me = self.id;
        let homes = self.relays.homes();
        let net = self.member_net()?;
        let homes = homes.iter().filter_map(|home| net.transports.get(home));
        let homes: Vec<NodeId> = homes.copied().collect();
        let others = net.view.members().keys().copied();
        for node in homes.into_iter().chain(others).filter(|node| *node != me) {
            let endpoints = net.ledger.records.endpoints(&node);
            let hints = endpoints.map(|endpoints| hints_at(&endpoints.control));
            if let Some(hints) = hints.filter(|hints| !hints.is_empty()) {
                return Ok((hints, net.name_of(&node)));
            }
        }
        Ok(self.hints_by_relays())
    }

    /// This node and another member, each by a relay that admins named.
    fn hints_by_relays(&self) -> (Vec<Hint>, Option<NodeName>) {
        let Some(net) = &self.net else {
            return (Vec::new(), None);
        };
        let own = TransportKey::new(self.keys.transport.public());
        let settled = |node: &NodeId| {
            let member = net.view.live(node);
            member.is_some_and(|member| member.standing == Standing::Settled)
        };
        let others = net.transports.iter().filter(|(_, node)| {
            // Who was heard lately is likely to be there when the newcomer asks.
            **node != self.id && settled(node) && net.engine.contains_key(node)
        });
        let mut others: Vec<_> = others
            .map(|(key, node)| (!self.links.peers.contains_key(key), *key, *node))
            .collect();
        others.sort_unstable();
        let others = others.into_iter().map(|(_, key, node)| {
            let endpoints = net.ledger.records.endpoints(&node);
            (key, endpoints.map_or_else(Vec::new, |e| e.homes.clone()))
        });
        let mut via = None;
        let mut hints = Vec::new();
        for (member, homes) in std::iter::once((own, self.relays.homes())).chain(others) {
            let found = homes.iter().find_map(|home| self.relays.place_of(home));
            if let Some((name, hint)) = found.filter(|_| hints.len() < HINTS_MAX) {
                via.get_or_insert(name);
                hints.push(hint.by_circuit(member));
            }
        }
        (hints, via)
    }
}

fn hints_at(control: &[ControlAddress]) -> Vec<Hint> {
    let tcp = control.iter().filter(|c| c.transport == Transport::Tcp);
    let public = tcp.map(|c| c.address).filter(is_public);
    public
        .filter_map(|a| Hint::parse(&a.to_string()).ok())
        .take(HINTS_MAX)
        .collect()
}
