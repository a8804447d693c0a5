//! What this node carries for others, and what engine and links were told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::id::TransportKey;
use crate::io::{CarryTerms, Carrying, Output};
use crate::link::LinkOutput;
use crate::node::Node;
use crate::record::ControlAddress;
use crate::relay::frame::mailbox_of;
use crate::time::Moment;

/// Bytes a second that a member carries of all pairs together, and of one: 1 Gbit/s. Both ends and the relay have one
/// owner, or know each other; what is to stop is a program gone mad, not a copy.
const RATE: (u64, u64) = (125_000_000, 125_000_000);
/// Pairs that a member carries for at the same time.
const PAIRS: usize = 256;

/// What was told last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) relays: Vec<SocketAddr>,
    pub(super) carry: Option<CarryTerms>,
    pub(super) homes: Vec<(TransportKey, Vec<ControlAddress>)>,
}

impl Node {
    /// Whether this node carries datagrams and circuits for members.
    pub(in crate::node) const fn carries(&self) -> bool {
        match self.relays.wish.mode {
            // Whoever cannot be reached is never chosen, so nothing is lost by offering it.
            Carrying::Auto | Carrying::On => true,
            Carrying::Off => false,
        }
    }

    /// Lets bind here whom the engine has as a peer: live, and not blocked; and learns whose mailboxes those are.
    pub(super) fn follow_members(&mut self, now: Moment) {
        let Some(net) = &self.net else { return };
        let peers = net.transports.iter();
        let peers = peers.filter(|(_, device)| net.engine.contains_key(device));
        let peers: BTreeMap<_, _> = peers.map(|(key, device)| (*key, *device)).collect();
        let mailboxes = peers.iter().map(|(key, device)| (mailbox_of(key), *device));
        self.relays.mailboxes = mailboxes.collect();
        let engine = &net.engine;
        self.relays
            .wanted
            .retain(|node, _| engine.contains_key(node));
        self.relays
            .met
            .retain(|(node, _), _| engine.contains_key(node));
        self.relays.ways.retain(|node, _| engine.contains_key(node));
        self.learn_volunteers(now);
        let terms = self.carries().then(|| CarryTerms {
            key: TransportKey::new(self.keys.transport.public()),
            clients: Some(peers.into_keys().collect()),
            rate: self
                .relays
                .wish
                .rate
                .map_or(RATE, |rate| (rate.min(RATE.0), rate.min(RATE.1))),
            pairs: PAIRS,
            month_bytes: None,
        });
        let told = &mut self.relays.told.carry;
        if *told == terms {
            return;
        }
        let turned = told.is_some() != terms.is_some();
        told.clone_from(&terms);
        self.out.push_back(Output::Carry(terms));
        if turned {
            let carries = self.carries();
            self.link(LinkOutput::Relaying(carries));
            self.endpoints_changed(now);
        }
    }
}
