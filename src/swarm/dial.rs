//! Attempts to connect: many addresses, one end.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use meshnode_protocol::link::DialId;
use meshnode_protocol::record::ControlAddress;

use super::address;
use super::behaviour::Links;
use super::guard::Unwanted;

type Inner = libp2p::Swarm<Links>;

/// The attempts that run.
#[derive(Default)]
pub(super) struct Dials {
    running: BTreeMap<DialId, Attempt>,
}

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) dial: DialId,
    /// Who should have answered.
    pub(super) expected: Option<PeerId>,
    /// No use to try again.
    pub(super) useless: bool,
}

/// One attempt of the core.
struct Attempt {
    expected: Option<PeerId>,
    /// Whether a relay's circuit is tried.
    by_circuit: bool,
    /// Where the expected peer is dialled, all by one connection.
    addresses: BTreeSet<ControlAddress>,
    /// Connections that have not ended yet.
    left: usize,
    won: bool,
    /// Whether all that ended, ended at the wrong peer.
    useless: bool,
}

impl Dials {
    /// Starts an attempt; gives its end when that is known at once.
    pub(super) fn start(
        &mut self,
        swarm: &mut Inner,
        dial: DialId,
        expected: Option<PeerId>,
        addresses: Vec<ControlAddress>,
    ) -> Option<Failed> {
        let addresses: BTreeSet<_> = addresses.into_iter().take(ADDRESSES_MAX).collect();
        let is_known = expected.is_some_and(|peer| {
            peer == *swarm.local_peer_id() || swarm.behaviour().guard.is_direct(&peer)
        });
        let useless = addresses.is_empty() || is_known;
        if useless || self.is_calling(expected, false) {
            return Some(Failed {
                dial,
                expected,
                useless,
            });
        }
        let options = match expected {
            Some(peer) => vec![to_peer(peer, &addresses)],
            None => addresses.iter().map(to_anybody).collect(),
        };
        let left = options.len();
        let attempt = Attempt {
            expected,
            by_circuit: false,
            addresses,
            left,
            won: false,
            useless: true,
        };
        self.running.insert(dial, attempt);
        options
            .into_iter()
            .fold(None, |end, options| self.dial(swarm, dial, options).or(end))
    }

    /// Starts an attempt by a circuit; the connection to its relay stands.
    pub(super) fn start_by(
        &mut self,
        swarm: &mut Inner,
        dial: DialId,
        peer: PeerId,
        way: Multiaddr,
    ) -> Option<Failed> {
        let expected = Some(peer);
        if self.is_calling(expected, true) {
            let useless = false;
            return Some(Failed {
                dial,
                expected,
                useless,
            });
        }
        let attempt = Attempt {
            expected,
            by_circuit: true,
            addresses: BTreeSet::new(),
            left: 1,
            won: false,
            useless: true,
        };
        self.running.insert(dial, attempt);
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![way])
            .build();
        self.dial(swarm, dial, options)
    }

    /// Whether a call to the same peer runs; one directly and one by a circuit may.
    fn is_calling(&self, expected: Option<PeerId>, by_circuit: bool) -> bool {
        expected.is_some()
            && self
                .running
                .values()
                .any(|attempt| attempt.expected == expected && attempt.by_circuit == by_circuit)
    }

    fn dial(&mut self, swarm: &mut Inner, dial: DialId, options: DialOpts) -> Option<Failed> {
        let connection = options.connection_id();
        swarm.behaviour_mut().guard.expect(connection, dial);
        match swarm.dial(options) {
            Ok(()) => None,
            Err(error) => self.failed(swarm, connection, &error),
        }
    }

    /// A connection of ours stands; gives the attempt that it ends.
    pub(super) fn succeeded(
        &mut self,
        swarm: &mut Inner,
        connection: ConnectionId,
    ) -> Option<DialId> {
        let dial = swarm.behaviour_mut().guard.take_dial(&connection)?;
        if let Some(attempt) = self.running.get_mut(&dial) {
            attempt.won = true;
        }
        self.ended(swarm, dial);
        Some(dial)
    }

    /// A connection of ours was not made; gives the end of its attempt if this was the last hope.
    pub(super) fn failed(
        &mut self,
        swarm: &mut Inner,
        connection: ConnectionId,
        error: &DialError,
    ) -> Option<Failed> {
        let dial = swarm.behaviour_mut().guard.take_dial(&connection)?;
        tracing::debug!(reason = %reason(error), "A connection was not made");
        let attempt = self.running.get_mut(&dial)?;
        // Somebody else at one address says nothing about the other addresses.
        if let Some(peer) = attempt.expected
            && let Some(wrong) = wrong_address(error)
            && attempt.addresses.remove(&wrong)
            && !attempt.addresses.is_empty()
        {
            let options = to_peer(peer, &attempt.addresses);
            return self.dial(swarm, dial, options);
        }
        attempt.useless &= is_useless(error);
        self.ended(swarm, dial)
    }

    fn ended(&mut self, swarm: &mut Inner, dial: DialId) -> Option<Failed> {
        let attempt = self.running.get_mut(&dial)?;
        attempt.left -= 1;
        if attempt.left > 0 {
            return None;
        }
        let ended = self.running.remove(&dial)?;
        swarm.behaviour_mut().guard.forget(&dial);
        (!ended.won).then_some(Failed {
            dial,
            expected: ended.expected,
            useless: ended.useless,
        })
    }
}

fn to_peer(peer: PeerId, addresses: &BTreeSet<ControlAddress>) -> DialOpts {
    DialOpts::peer_id(peer)
        // Whether it is connected is judged here, and again when the connection stands: a circuit is no reason not to.
        .condition(PeerCondition::Always)
        .addresses(addresses.iter().map(address::multiaddr).collect())
        .override_dial_concurrency_factor(CONCURRENCY)
        .build()
}

fn to_anybody(address: &ControlAddress) -> DialOpts {
    DialOpts::unknown_peer_id()
        .address(address::multiaddr(address))
        .build()
}

fn wrong_address(error: &DialError) -> Option<ControlAddress> {
    if let DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } = error {
        address::control_address(address)
    } else {
        None
    }
}

/// Whether the same attempt would end the same way.
fn is_useless(error: &DialError) -> bool {
    match error {
        DialError::LocalPeerId { .. } | DialError::WrongPeerId { .. } | DialError::NoAddresses => {
            true
        }
        DialError::Denied { cause } => matches!(
            cause.downcast_ref::<Unwanted>(),
            Some(Unwanted::Connected | Unwanted::Full | Unwanted::Key)
        ),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted | DialError::Transport(_) => {
            false
        }
    }
}

/// The kind of an error, without the addresses in its text.
const fn reason(error: &DialError) -> &'static str {
    match error {
        DialError::LocalPeerId { .. } => "the address is our own",
        DialError::NoAddresses => "no address",
        DialError::DialPeerConditionFalse(_) => "connected or being dialled already",
        DialError::Aborted => "aborted",
        DialError::WrongPeerId { .. } => "another peer answered",
        DialError::Denied { .. } => "not wanted",
        DialError::Transport(_) => "no transport reached the peer",
    }
}

/// Addresses of one attempt: as many as a record holds, and some of the LAN's.
pub(super) const ADDRESSES_MAX: usize = 16;
/// All of them at once.
pub(super) const CONCURRENCY: NonZeroU8 = NonZeroU8::new(16).expect("16 is not zero");
