//! Where a code says that a newcomer may ask.

use crate::id::NodeId;
use crate::invite::Hint;
use crate::io::Refusal;
use crate::name::NodeName;
use crate::node::Node;
use crate::path::is_public;
use crate::record::{ControlAddress, Transport};

/// Hints of one member.
const HINTS_MAX: usize = 2;

impl Node {
    /// The hints typed, or those of a member that can be reached from outside: this node first, then the members at
    /// which it is at home, which are the nearest.
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
        Ok((Vec::new(), None))
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
