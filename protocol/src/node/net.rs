//! The network as this node has it: what it stores, what it makes of it, and what hangs on that.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::history::Flips;
use super::policy::Enforced;
use super::timekeepers::Timekeepers;
use crate::authority::Authority;
use crate::body::Level;
use crate::epochs::Epochs;
use crate::id::{NodeId, OpId, TransportKey, TunnelKey, WireGuardKey};
use crate::io::{Interface, Standing};
use crate::ledger::Ledger;
use crate::paths::Paths;
use crate::peering::PeerConfig;
use crate::record::{RecordBody, RecordKind};
use crate::seal::Sealer;
use crate::time::{Moment, Timestamp};
use crate::view::{Before, View, ViewMember};

/// How far this node's own copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// A joiner that fetches what it must know before it opens its data plane.
    CatchingUp { witness: NodeId, goal: Vec<OpId> },
    /// The store lost ops that it had acknowledged; a member has to give them back.
    Recovering { goal: Vec<OpId> },
    /// In.
    Open,
}

/// Everything about the network.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) ledger: Ledger,
    pub(super) epochs: Epochs,
    pub(super) view: View,
    /// The other admins whose Tips tell the time: level and end of each.
    pub(super) timekeepers: Timekeepers,
    pub(super) hello: Sealer,
    pub(super) phase: Phase,
    pub(super) paths: Paths,
    /// What the engine has.
    pub(super) engine: BTreeMap<NodeId, PeerConfig>,
    /// Whose key a WireGuard key is.
    pub(super) wireguard: BTreeMap<WireGuardKey, NodeId>,
    /// The WireGuard keys of tunnel keys: to convert one costs a field inversion.
    pub(super) converted: BTreeMap<TunnelKey, WireGuardKey>,
    /// Whose key a transport key is: of every device that has any standing.
    pub(super) transports: BTreeMap<TransportKey, NodeId>,
    /// Whether two devices say the same transport key.
    pub(super) doubled: bool,
    pub(super) traffic: BTreeMap<NodeId, Traffic>,
    pub(super) shared_keys: BTreeSet<(NodeId, NodeId)>,
    pub(super) interface: Option<Interface>,
    /// Something that follows from the stored set must follow anew.
    pub(super) dirty: bool,
    /// The view stands, but what follows from records may differ.
    pub(super) moved: bool,
    /// One full round with a member since the start, or nobody else to have one with.
    pub(super) synced: bool,
    /// Full rounds with members since the start.
    pub(super) rounds: usize,
    /// Whether a revocation put this very node out.
    pub(super) out: bool,
    /// Whether an admin told of ops that are not here.
    pub(super) stale: bool,
    /// Since when the key of the epoch in force is missing.
    pub(super) keyless_ms: Option<u64>,
    pub(super) timers: Timers,
    /// The bodies this node last published, to notice when somebody shows a newer one of its own.
    pub(super) published: BTreeMap<RecordKind, RecordBody>,
    pub(super) heads_written: Vec<OpId>,
    /// When each op came, by this node's clock.
    pub(super) heard: BTreeMap<OpId, Timestamp>,
    pub(super) flips: Flips,
    pub(super) policy: Enforced,
    pub(super) isolated_ms: Option<u64>,
    pub(super) opened_ms: u64,
}

/// When what is due, uptime in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Timers {
    pub(super) sync_ms: u64,
    pub(super) settle_ms: Option<u64>,
    pub(super) endpoints_ms: Option<u64>,
    pub(super) tip_ms: Option<u64>,
    pub(super) expiry_ms: Option<u64>,
    pub(super) defend_ms: Option<u64>,
    pub(super) epoch_ms: Option<u64>,
    pub(super) rekey_ms: Option<u64>,
    pub(super) seen_ms: Option<u64>,
    pub(super) chores_ms: Option<u64>,
    pub(super) policy_ms: Option<u64>,
    /// When a change of the policy that is on trial is undone.
    pub(super) trial_ms: Option<u64>,
}

/// What moved with a peer since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Traffic {
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    pub(super) handshake: Option<Timestamp>,
}

impl Net {
    pub(super) fn new(ledger: Ledger, epochs: Epochs, phase: Phase, now: Moment) -> Self {
        let hello = Sealer::for_hello(&ledger.authority.realm().genesis);
        let view = View::compute(&ledger.authority, &BTreeSet::new(), now.wall);
        let mut paths = Paths::default();
        let ipv6 = crate::address::ipv6_prefix(&ledger.authority.realm().genesis);
        let ipv4 = ledger.authority.genesis().ipv4_range;
        paths.means_mut().set_overlay(ipv4, ipv6);
        Self {
            ledger,
            epochs,
            view,
            timekeepers: Timekeepers::default(),
            hello,
            phase,
            paths,
            engine: BTreeMap::new(),
            wireguard: BTreeMap::new(),
            converted: BTreeMap::new(),
            transports: BTreeMap::new(),
            doubled: false,
            traffic: BTreeMap::new(),
            shared_keys: BTreeSet::new(),
            interface: None,
            dirty: true,
            moved: false,
            synced: false,
            rounds: 0,
            out: false,
            stale: false,
            keyless_ms: None,
            timers: Timers::default(),
            published: BTreeMap::new(),
            heads_written: Vec::new(),
            heard: BTreeMap::new(),
            flips: Flips::default(),
            policy: Enforced::default(),
            isolated_ms: None,
            opened_ms: now.uptime_ms(),
        }
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.ledger.authority
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The ops that this node waits for, while it waits.
    pub(super) fn goal_is_met(&self) -> bool {
        match &self.phase {
            Phase::CatchingUp { goal, .. } | Phase::Recovering { goal } => {
                goal.iter().all(|id| self.authority().contains(id))
            }
            Phase::Open => true,
        }
    }

    /// Whether the reconciler serves a device: members, and those whose right is only in doubt.
    pub(super) fn serves(&self, device: &NodeId) -> bool {
        match &self.phase {
            // Nobody else has proved anything to a newcomer.
            Phase::CatchingUp { witness, .. } => device == witness,
            // Who is out hears the news, and nothing else.
            Phase::Recovering { .. } | Phase::Open if self.out => false,
            Phase::Recovering { .. } | Phase::Open => {
                let member = self.view.members().get(device);
                member.is_some_and(|member| match member.standing {
                    Standing::Settled | Standing::Provisional | Standing::Quarantined => true,
                    // Who was let in once and lost its place to another must hear that it did. Who waits for a first
                    // approval hears nothing.
                    Standing::Pending => {
                        let invite = member.invite.and_then(|id| self.view.invites().get(&id));
                        invite.is_some_and(|invite| !invite.approve)
                    }
                })
            }
        }
    }

    /// A device's tunnel key: from its newest record, else from the claim by which it came in.
    pub(super) fn tunnel_key(&self, member: &ViewMember) -> Option<TunnelKey> {
        match self.ledger.records.node(&member.id) {
            Some(node) => Some(node.tunnel.key),
            None => self.claim_keys(member).map(|(_, tunnel)| tunnel),
        }
    }

    /// A device's transport key, likewise.
    pub(super) fn transport_key(&self, member: &ViewMember) -> Option<TransportKey> {
        match self.ledger.records.node(&member.id) {
            Some(node) => Some(node.transport.key),
            None => self.claim_keys(member).map(|(transport, _)| transport),
        }
    }

    fn claim_keys(&self, member: &ViewMember) -> Option<(TransportKey, TunnelKey)> {
        let claim = match (member.admit, member.authority) {
            (Some(admit), _) => self.authority().admit(&admit)?.claim(),
            (None, Some(grant)) => {
                let grant = self.authority().op(&grant)?.body().grant()?;
                &grant.claim.as_ref()?.terms
            }
            (None, None) => return None,
        };
        (claim.device == member.id).then_some((claim.transport.key, claim.tunnel.key))
    }

    /// Whether a device's keys are those that the engine and the links know, so that only where it is may be new.
    pub(super) fn keys_stand(&self, device: &NodeId, me: &NodeId) -> bool {
        let Some(member) = self.view.members().get(device) else {
            return false;
        };
        let transport = self.transport_key(member);
        let linked = transport.is_some_and(|key| self.transports.get(&key) == Some(device));
        let tunnel = self.tunnel_key(member);
        let tunnel = tunnel.and_then(|key| self.converted.get(&key));
        let programmed = self.engine.get(device).map(|config| &config.key) == tunnel;
        linked && tunnel.is_some() && (programmed || device == me)
    }

    /// Whether an address belongs to the overlay itself: no way may lead through it.
    pub(super) fn is_overlay(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.authority().genesis().ipv4_range.contains(v4),
            IpAddr::V6(v6) => {
                let own = crate::address::ipv6(
                    &self.authority().realm().genesis,
                    &self.authority().genesis().founder,
                );
                v6.octets()[..6] == own.octets()[..6]
            }
        }
    }

    /// Hides whose time is over in a view in which nobody is hidden: who tells the time is looked up in it first, so
    /// that nothing depends on who was hidden before.
    pub(super) fn hide_expired(&mut self, me: &NodeId, wall: Timestamp, before: &mut Before) {
        self.timekeepers = Timekeepers::of(&self.view, me);
        let (keepers, ledger) = (&self.timekeepers, &self.ledger);
        let time = |level| keepers.time_for(ledger, level, wall);
        self.view.hide_expired(time, before);
    }

    /// The time by which memberships of a level are over.
    pub(super) fn time_for(&self, level: Level, wall: Timestamp) -> Timestamp {
        self.timekeepers.time_for(&self.ledger, level, wall)
    }

    /// The network's idea of the time, as those of a level or above told it.
    pub(super) fn newest_tip(&self, level: Level, wall: Timestamp) -> Timestamp {
        self.timekeepers.newest(&self.ledger, level, wall)
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let timers = &self.timers;
        let syncs = !matches!(self.phase, Phase::CatchingUp { .. });
        let sync = syncs.then_some(timers.sync_ms);
        [
            sync,
            timers.settle_ms,
            timers.endpoints_ms,
            timers.tip_ms,
            timers.expiry_ms,
            timers.defend_ms,
            timers.epoch_ms,
            timers.rekey_ms,
            timers.seen_ms,
            timers.chores_ms,
            timers.policy_ms,
            timers.trial_ms,
            self.epochs.poll_timeout(),
            self.paths.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
