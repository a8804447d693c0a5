//! The machine that ties the core together: [`Input`] in, [`Output`] out (`docs/architecture.md`).
//!
//! One mutation, then a complete drain of [`Node::poll_output`], in order; then wait until
//! [`Node::poll_timeout`]. Randomness comes from the seed given at the start, ids from counters inside.
//! The rooms below each own one part of the work: `links` who is connected and proven and whom to call,
//! `locators` where they are when nobody tells, `exchange` reconciliation and gossip, `joiner` and
//! `witness` the two ends of a join, `author` what this node signs, `history` what it tells and takes as a
//! file, `ways` the engine's peers and paths, `relays` the relays that this node uses and is, `rotation` a new tunnel
//! key, `block` whom a person shut out here, `turns` from whom records come just now, `report` and `card` what
//! people see.

mod acts;
mod author;
mod block;
mod card;
mod chores;
mod epoch;
mod errands;
mod exchange;
mod heard;
mod history;
mod joiner;
mod links;
mod locators;
mod net;
mod news;
mod policy;
mod relays;
mod report;
mod rotation;
mod service;
#[cfg(test)]
mod stage;
mod start;
mod surroundings;
mod timekeepers;
mod turns;
mod ways;
mod whereabouts;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use rand_chacha::ChaCha20Rng;

use crate::custody::Custody;
use crate::id::{Digest, NodeId, TransportKey};
use crate::identity::{Keys, Secret};
use crate::io::{Command, CommandId, Input, Mapped, Notice, Output, Refusal, Reply, Trial};
use crate::link::{CallId, DialId, LinkOutput, Service};
use crate::node::block::Wanted;
use crate::node::errands::Errands;
use crate::node::joiner::Joiner;
use crate::node::links::Links;
use crate::node::locators::Locators;
use crate::node::net::Net;
use crate::node::news::Mailbox;
use crate::node::relays::Relays;
use crate::node::service::Served;
use crate::node::witness::Door;
use crate::record::ControlAddress;
use crate::time::Moment;

pub use history::History;
pub use policy::{Former, Heritage, heritage};
pub use start::{Founded, Founding, HintAddress, Joining, Setup, StartError};

/// A node of a network, or one that is on its way in.
#[derive(Debug)]
pub struct Node {
    keys: Keys,
    /// The tunnel key that this node says is its own, while the engine still has the one before.
    coming: Option<Secret>,
    id: NodeId,
    setup: Setup,
    rng: ChaCha20Rng,
    custody: Custody,
    out: VecDeque<Output>,
    dials: u64,
    calls: u64,
    pending: BTreeMap<CallId, Pending>,
    links: Links,
    locators: Locators,
    relays: Relays,
    net: Option<Net>,
    joiner: Option<Joiner>,
    door: Door,
    mailbox: Mailbox,
    served: Served,
    errands: Errands,
    blocked: BTreeSet<NodeId>,
    trial: Option<Trial>,
    interfaces: Vec<IpAddr>,
    mapped: Mapped,
    listening: Vec<ControlAddress>,
    disk_failure: Option<String>,
    gone: bool,
}

/// What an outstanding question was for.
#[derive(Debug)]
enum Pending {
    Knock {
        peer: TransportKey,
        nonce: [u8; 32],
    },
    Redeem {
        peer: TransportKey,
    },
    HelloOpen {
        peer: TransportKey,
        nonce: [u8; 32],
    },
    HelloProve {
        peer: TransportKey,
    },
    Pull {
        peer: TransportKey,
    },
    Push {
        peer: TransportKey,
    },
    Epoch {
        peer: TransportKey,
        commitment: Digest,
    },
    News {
        peer: TransportKey,
        hang_up: bool,
    },
}

impl Pending {
    const fn peer(&self) -> TransportKey {
        match self {
            Self::Knock { peer, .. }
            | Self::Redeem { peer }
            | Self::HelloOpen { peer, .. }
            | Self::HelloProve { peer }
            | Self::Pull { peer }
            | Self::Push { peer }
            | Self::Epoch { peer, .. }
            | Self::News { peer, .. } => *peer,
        }
    }
}

impl Node {
    /// Takes one input. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, input: Input, now: Moment) {
        if self.gone {
            return;
        }
        match input {
            Input::Link(input) => self.on_link(input, now),
            Input::Tunnel(input) => self.on_tunnel(input, now),
            Input::Interfaces(addresses) => self.on_interfaces(addresses, now),
            Input::Mapped(mapped) => self.on_mapped(mapped, now),
            Input::Carrying(wish) => self.set_carrying(wish, now),
            Input::Punch(punch) => self.set_punch(punch),
            Input::Command(id, command) => self.on_command(id, command, now),
            Input::Hangup(id) => self.on_hangup(id),
            Input::PersistFailed(reason) => self.disk_failure = Some(reason),
            Input::PersistWorks => self.disk_failure = None,
            Input::Timeout => {}
        }
        self.on_time(now);
        self.refresh(now);
        self.relays_on_time(now);
        self.carry_ways(now);
        self.links.settle();
    }

    /// The next thing to do, in order.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Until when the driver may wait for other inputs, uptime in milliseconds. May change after every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let net = self.net.as_ref().and_then(Net::poll_timeout);
        let joiner = self.joiner.as_ref().and_then(Joiner::poll_timeout);
        [
            net,
            joiner,
            self.links.poll_timeout(),
            self.locators.poll_timeout(),
            self.errands.poll_timeout(),
            self.relays.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether the control plane listens at an address of this machine, as far as it has any.
    #[must_use]
    pub fn listens(&self) -> bool {
        let own = |address: &ControlAddress| self.interfaces.contains(&address.address.ip());
        self.interfaces.is_empty() || self.listening.iter().any(own)
    }

    /// Who this node is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    fn on_command(&mut self, id: CommandId, command: Command, now: Moment) {
        let result = match command {
            Command::Invite(options) => self.invite(id, &options, now),
            Command::InviteOnly(asked) => self.invite_only(id, &asked, now),
            Command::Leave { wait_ms, force } => self.leave(id, wait_ms, force, now),
            Command::Ping {
                node,
                count,
                interval_ms,
                timeout_ms,
            } => self.start_ping(
                id,
                errands::Ping::new(node, count, interval_ms, timeout_ms),
                now,
            ),
            Command::WatchJoin => self.watch_join(id),
            Command::Revoke(options) => self.revoke(id, &options, now),
            Command::Pending => self.list_pending(id),
            Command::Approve { joiners, act } => self.approve(id, &joiners, act, now),
            Command::Deny {
                joiners,
                reason,
                act,
            } => self.deny(id, &joiners, &reason, act, now),
            Command::InviteList => self.list_invites(id, now),
            Command::InviteCancel { invites, act } => self.cancel_invites(id, &invites, act, now),
            Command::AdminAdd { node, act } => self.add_admin(id, &node, act, now),
            Command::AdminRemove { node, act } => self.remove_admin(id, &node, act, now),
            Command::AdminList => self.list_admins(id),
            Command::RecoveryUse(options) => self.use_recovery(id, &options, now),
            Command::RecoverySign { petition, roots } => self.sign_petition(id, &petition, &roots),
            Command::Rotate { transport } => self.rotate(id, transport, now),
            Command::RotateNetwork { act } => self.rotate_network(id, act, now),
            Command::Import(items) => self.import(id, &items, now),
            Command::Block(node) => self.block(id, node, Wanted::Blocked, now),
            Command::Unblock(node) => self.block(id, node, Wanted::Free, now),
            Command::Whois(node) => self.whois(id, &node),
            Command::PolicyShow { at } => self.show_policy(id, at, now),
            Command::PolicySet(text) => self.set_policy(id, &text, now),
            Command::PolicyCheck { text } => self.check_policy(id, &text),
            Command::PolicyExplain(asked) => self.explain_policy(id, asked),
            Command::PolicyDraft(step) => self.draft_policy(id, &step),
            Command::PolicyTry(trial) => self.try_policy(id, &trial, now),
            Command::PolicyKeep => self.keep_policy(id),
            Command::PolicyBlame { at } => self.blame_policy(id, at),
            Command::PolicyDiff { from, text } => self.diff_policy(id, from.as_deref(), &text),
            Command::PolicyRollback { op, act } => self.roll_back_policy(id, &op, act, now),
            Command::PolicyLog => self.log_policy(id),
            Command::RelayAdd {
                key,
                name,
                addresses,
            } => self.add_relay(id, key, &name, &addresses, now),
            Command::RelayRemove { name } => self.remove_relay(id, &name, now),
            Command::RelayList => self.list_relays(id, now),
        };
        if let Err(refusal) = result {
            self.reply(id, Reply::Refused(refusal));
        }
    }

    fn on_hangup(&mut self, id: CommandId) {
        self.errands.forget(id);
        if let Some(net) = &mut self.net {
            net.paths.forget(id);
        }
        if let Some(joiner) = &mut self.joiner {
            joiner.forget_watcher(id);
        }
    }

    fn on_time(&mut self, now: Moment) {
        self.links_on_time(now);
        self.locators_on_time(now);
        self.joiner_on_time(now);
        self.exchange_on_time(now);
        self.author_on_time(now);
        self.epochs_on_time(now);
        self.chores_on_time(now);
        self.policy_on_time(now);
        self.heard_on_time(now);
        self.errands_on_time(now);
        if let Some(net) = &mut self.net {
            net.paths.timeout(now, &mut self.rng);
        }
        self.choose_ways(now);
    }

    fn reply(&mut self, id: CommandId, reply: Reply) {
        self.out.push_back(Output::Reply(id, reply));
    }

    fn notice(&mut self, notice: Notice) {
        self.out.push_back(Output::Notice(notice));
    }

    fn link(&mut self, output: LinkOutput) {
        self.out.push_back(Output::Link(output));
    }

    fn dial(&mut self, peer: Option<TransportKey>, addresses: Vec<ControlAddress>) -> DialId {
        self.dials += 1;
        let dial = DialId(self.dials);
        self.link(LinkOutput::Dial {
            dial,
            peer,
            addresses,
        });
        dial
    }

    fn ask(
        &mut self,
        peer: TransportKey,
        service: Service,
        bytes: Vec<u8>,
        pending: Pending,
    ) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.pending.insert(call, pending);
        self.link(LinkOutput::Ask {
            call,
            peer,
            service,
            bytes,
        });
        call
    }

    /// The network, as long as this node is in it.
    fn member_net(&mut self) -> Result<&mut Net, Refusal> {
        let net = self.open_net()?;
        if net.out {
            return Err(Refusal::Revoked);
        }
        Ok(net)
    }

    /// The network, once this node came in, even if it was put out since.
    fn open_net(&mut self) -> Result<&mut Net, Refusal> {
        if let Some(reason) = &self.disk_failure {
            return Err(Refusal::Disk(reason.clone()));
        }
        let net = self.net.as_mut().filter(|net| net.is_open());
        net.ok_or(Refusal::NotReady)
    }
}
