//! Where a code says that a newcomer may ask: a member, or a relay by whose circuit a member is reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::id::TransportKey;
use crate::link::{DialId, LinkOutput};
use crate::node::{HintAddress, Node};
use crate::record::{ControlAddress, Transport};

/// A join's hints, and what is under way with each.
#[derive(Debug)]
pub(super) struct Hints {
    all: Vec<HintAddress>,
    dials: BTreeMap<DialId, usize>,
    /// Those who answered where a relay is to be.
    relays: BTreeMap<TransportKey, ControlAddress>,
}

/// What is done about a hint.
enum Call {
    Place(SocketAddr),
    By {
        member: TransportKey,
        relay: TransportKey,
        remote: ControlAddress,
    },
}

impl Hints {
    pub(super) const fn new(all: Vec<HintAddress>) -> Self {
        Self {
            all,
            dials: BTreeMap::new(),
            relays: BTreeMap::new(),
        }
    }

    /// The places, for people.
    pub(super) fn places(&self) -> impl Iterator<Item = String> {
        self.all.iter().map(|hint| match hint.member {
            None => hint.place.clone(),
            Some(_) => format!("a member by {}", hint.place),
        })
    }

    /// Whether some hint leads to a place.
    pub(super) fn leads_to(&self, remote: &ControlAddress) -> bool {
        self.all.iter().any(|hint| leads_to(hint.address, remote))
    }

    /// Whether somebody is held for a relay of the code.
    pub(super) fn is_relay(&self, peer: &TransportKey) -> bool {
        self.relays.contains_key(peer)
    }

    /// Somebody answers at a place. Gives whether only a relay is to be there: it is not asked to let anybody in.
    pub(super) fn reached(&mut self, peer: TransportKey, remote: ControlAddress) -> bool {
        let all = &self.all;
        let leads = |hint: &&HintAddress| leads_to(hint.address, &remote);
        self.dials
            .retain(|_, at| all.get(*at).is_some_and(|hint| !leads(&hint)));
        let by_relay = all
            .iter()
            .filter(leads)
            .any(|hint| hint.member.is_some_and(|member| member != peer));
        let only = by_relay && all.iter().filter(leads).all(|hint| hint.member.is_some());
        if by_relay {
            self.relays.insert(peer, remote);
        }
        only
    }

    /// Nobody is connected with a peer any more.
    pub(super) fn lost(&mut self, peer: &TransportKey) {
        self.relays.remove(peer);
    }

    fn call(&self, at: usize, hint: &HintAddress) -> Option<Call> {
        let HintAddress { address, .. } = *hint;
        let relay = hint.member.zip(
            self.relays
                .iter()
                .find(|(_, remote)| leads_to(address, remote)),
        );
        if let Some((member, (relay, remote))) = relay {
            let (relay, remote) = (*relay, *remote);
            let busy = self.dials.values().any(|dialed| *dialed == at);
            return (!busy).then_some(Call::By {
                member,
                relay,
                remote,
            });
        }
        // Two members may be reached by one relay, which is called once.
        let same = |dialed: &usize| self.all.get(*dialed).is_some_and(|h| h.address == address);
        let busy = self.dials.values().any(same);
        (!busy).then_some(Call::Place(address))
    }
}

impl Node {
    /// Calls every hint: by TCP at its port, by QUIC at the port above; and members by those of them that are relays.
    pub(in crate::node) fn dial_hints(&mut self) {
        let Some(joiner) = &self.joiner else { return };
        for (at, hint) in joiner.hints.all.clone().iter().enumerate() {
            let Some(joiner) = &self.joiner else { return };
            let known = match &hint.member {
                Some(member) => joiner.attempts.contains_key(member),
                None => {
                    let mut attempts = joiner.attempts.values();
                    attempts.any(|attempt| leads_to(hint.address, &attempt.remote))
                }
            };
            let call = joiner.hints.call(at, hint).filter(|_| !known);
            let dial = match call {
                None => continue,
                Some(Call::Place(address)) => self.call(None, hint_addresses(address)),
                Some(Call::By {
                    member,
                    relay,
                    remote,
                }) => {
                    let dial = self.next_dial(member);
                    self.link(LinkOutput::DialBy {
                        dial,
                        peer: member,
                        relay,
                        addresses: vec![remote],
                    });
                    dial
                }
            };
            if let Some(joiner) = &mut self.joiner {
                joiner.hints.dials.insert(dial, at);
            }
        }
    }

    pub(in crate::node) fn joiner_on_dial_failed(&mut self, dial: DialId) {
        if let Some(joiner) = &mut self.joiner {
            joiner.hints.dials.remove(&dial);
        }
    }
}

fn hint_addresses(address: SocketAddr) -> Vec<ControlAddress> {
    let quic = address
        .port()
        .checked_add(1)
        .map(|port| SocketAddr::new(address.ip(), port));
    let tcp = ControlAddress {
        transport: Transport::Tcp,
        address,
    };
    let quic = quic.map(|address| ControlAddress {
        transport: Transport::Quic,
        address,
    });
    std::iter::once(tcp).chain(quic).collect()
}

fn leads_to(hint: SocketAddr, remote: &ControlAddress) -> bool {
    hint_addresses(hint).contains(remote)
}
