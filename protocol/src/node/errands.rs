//! Acts of people that take a while: who has heard, which probes are out.

use std::collections::{BTreeMap, BTreeSet};

use super::heard::Watch;
use super::rotation::Wish;
use super::{Node, Pending};
use crate::id::{NodeId, TransportKey};
use crate::io::{CommandId, Invited, Refusal, Reply};
use crate::link::{CallError, CallId, Service};
use crate::time::Moment;
use crate::wire::{Items, SyncRequest};

/// Peers that an act is told to directly; all others hear by gossip and by rounds.
const TOLD_MAX: usize = 16;

/// What is told when the act is over.
#[derive(Debug)]
pub(super) enum Errand {
    Invite {
        command: CommandId,
        invited: Invited,
    },
    Leave {
        command: CommandId,
    },
    Rotate {
        command: CommandId,
        restart: bool,
    },
}

#[derive(Debug)]
struct Telling {
    errand: Errand,
    calls: BTreeSet<CallId>,
    heard: usize,
    of: usize,
    until_ms: u64,
}

/// A person's probes of one peer.
#[derive(Debug)]
pub(super) struct Ping {
    node: NodeId,
    count: u32,
    interval_ms: u64,
    timeout_ms: u64,
    sent: u32,
    /// Probes that were sent and have not come to their end.
    out: BTreeSet<u32>,
    next_ms: u64,
}

impl Ping {
    pub(super) const fn new(node: NodeId, count: u32, interval_ms: u64, timeout_ms: u64) -> Self {
        Self {
            node,
            count,
            interval_ms,
            timeout_ms,
            sent: 0,
            out: BTreeSet::new(),
            next_ms: 0,
        }
    }
}

/// All errands.
#[derive(Debug, Default)]
pub(super) struct Errands {
    tellings: Vec<Telling>,
    pings: BTreeMap<CommandId, Ping>,
    pub(super) watches: Vec<Watch>,
    /// New keys that wait until somebody can be told.
    pub(super) wishes: Vec<Wish>,
    /// Whether somebody may have heard something since the watches were looked at.
    pub(super) news: bool,
}

impl Errands {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let tellings = self.tellings.iter().map(|telling| telling.until_ms).min();
        let pings = self
            .pings
            .values()
            .filter(|p| p.sent < p.count)
            .map(|p| p.next_ms)
            .min();
        let watches = self.watches.iter().map(Watch::until_ms).min();
        let wishes = self.wishes.iter().map(Wish::until_ms).min();
        [tellings, pings, watches, wishes]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether peers are being told of a key of this node.
    pub(super) fn rotates(&self) -> bool {
        let mut errands = self.tellings.iter().map(|telling| &telling.errand);
        errands.any(|errand| matches!(errand, Errand::Rotate { .. }))
    }

    pub(super) fn forget(&mut self, id: CommandId) {
        self.pings.remove(&id);
        self.watches.retain(|watch| watch.command() != id);
        self.wishes.retain(|wish| wish.command() != id);
    }
}

impl Node {
    /// Gives items to all connected members and ends the errand when they all heard, or when the time is over.
    pub(super) fn push_to_all(&mut self, errand: Errand, items: &Items, wait_ms: u64, now: Moment) {
        let peers: Vec<_> = self
            .links
            .trusted()
            .map(|(key, _)| *key)
            .take(TOLD_MAX)
            .collect();
        let members = self.net.as_ref().map_or(0, |net| net.view.members().len());
        let bytes = SyncRequest::Push(items.clone()).to_bytes();
        let mut calls = BTreeSet::new();
        for peer in peers {
            calls.insert(self.ask(peer, Service::Sync, bytes.clone(), Pending::Push { peer }));
        }
        let telling = Telling {
            errand,
            calls,
            heard: 0,
            of: members.saturating_sub(1),
            until_ms: now.uptime_ms().saturating_add(wait_ms),
        };
        self.errands.tellings.push(telling);
        self.end_tellings(now);
    }

    pub(super) fn on_pushed(
        &mut self,
        peer: &TransportKey,
        call: CallId,
        failed: Option<CallError>,
        now: Moment,
    ) {
        let heard = failed.is_none();
        // Who hears a goodbye hangs up, before or after its answer is out.
        let hung_up = matches!(failed, Some(CallError::Refused | CallError::Broken));
        for telling in &mut self.errands.tellings {
            let counts = match telling.errand {
                Errand::Invite { .. } | Errand::Rotate { .. } => heard,
                Errand::Leave { .. } => heard || hung_up,
            };
            if telling.calls.remove(&call) && counts {
                telling.heard += 1;
            }
        }
        if let (true, Some(entry)) = (heard, self.links.peers.get_mut(peer)) {
            entry.heard_ms = now.uptime_ms();
        }
        self.note_told(call, heard, now);
        self.end_tellings(now);
    }

    fn end_tellings(&mut self, now: Moment) {
        let over =
            |telling: &Telling| telling.calls.is_empty() || telling.until_ms <= now.uptime_ms();
        let (done, waiting): (Vec<_>, Vec<_>) = self.errands.tellings.drain(..).partition(over);
        self.errands.tellings = waiting;
        for Telling {
            errand, heard, of, ..
        } in done
        {
            match errand {
                Errand::Invite {
                    command,
                    mut invited,
                } => {
                    invited.heard = (heard, of);
                    self.reply(command, Reply::Invited(Box::new(invited)));
                }
                Errand::Leave { command } => {
                    self.reply(command, Reply::Left { heard, of });
                    self.vanish();
                }
                Errand::Rotate { command, restart } => {
                    self.take_coming_key(now);
                    self.on_rotated(command, restart);
                }
            }
        }
    }

    pub(super) fn start_ping(
        &mut self,
        command: CommandId,
        ping: Ping,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        let net = self.member_net()?;
        if ping.node == me {
            return Err(Refusal::SelfPing);
        }
        net.view.live(&ping.node).ok_or(Refusal::UnknownNode)?;
        self.errands.pings.insert(
            command,
            Ping {
                next_ms: now.uptime_ms(),
                ..ping
            },
        );
        self.send_pings(now);
        Ok(())
    }

    fn send_pings(&mut self, now: Moment) {
        let Some(net) = &mut self.net else { return };
        let mut silent = Vec::new();
        for (command, ping) in &mut self.errands.pings {
            if ping.sent >= ping.count || ping.next_ms > now.uptime_ms() {
                continue;
            }
            ping.sent += 1;
            ping.next_ms = now.uptime_ms() + ping.interval_ms;
            let (command, seq, timeout_ms) = (*command, ping.sent, ping.timeout_ms);
            ping.out.insert(seq);
            if net.paths.peer(&ping.node).is_none() {
                // Blocked, or without a usable key: there is no way to it, and nobody to wait for.
                silent.push((command, seq));
                continue;
            }
            let rng = &mut self.rng;
            net.paths.with(&ping.node, |peer| {
                peer.ping(command, seq, timeout_ms, now, rng)
            });
        }
        for (command, seq) in silent {
            self.on_ping_ended(command, seq, Reply::Silence { seq });
        }
    }

    /// The way to a device is gone, and with it what was on its way.
    pub(super) fn end_probes(&mut self, node: &NodeId) {
        let pings = self.errands.pings.iter();
        let lost: Vec<_> = pings
            .filter(|(_, ping)| ping.node == *node)
            .flat_map(|(command, ping)| ping.out.iter().map(|seq| (*command, *seq)))
            .collect();
        for (command, seq) in lost {
            self.on_ping_ended(command, seq, Reply::Silence { seq });
        }
    }

    /// One of a person's probes came to its end.
    pub(super) fn on_ping_ended(&mut self, command: CommandId, seq: u32, reply: Reply) {
        let Some(ping) = self.errands.pings.get_mut(&command) else {
            return;
        };
        ping.out.remove(&seq);
        let over = ping.sent >= ping.count && ping.out.is_empty();
        self.reply(command, reply);
        if over {
            self.errands.pings.remove(&command);
            self.reply(command, Reply::PingDone);
        }
    }

    pub(super) fn errands_on_time(&mut self, now: Moment) {
        self.rotation_on_time(now);
        self.end_tellings(now);
        self.send_pings(now);
    }
}
