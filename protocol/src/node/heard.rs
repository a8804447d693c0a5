//! Who has heard what: this node's own acknowledgement, and what those of the others say (`docs/protocol.md` §5.6).

use std::collections::{BTreeMap, BTreeSet};

use rand_core::Rng;

use super::net::Net;
use super::{Node, Pending};
use crate::body::Kind;
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::io::{CommandId, HeardBy, Reply, Unheard, Unreached};
use crate::limits::PARENTS_MAX;
use crate::link::{CallId, Service};
use crate::record::{RecordBody, Seen};
use crate::time::Moment;
use crate::wire::{Items, SyncRequest};

/// How soon a node of a small network says what it has heard.
const SEEN_SOON_MS: u64 = 300;
/// Members up to which a network is small.
const SMALL_NETWORK: usize = 64;
/// In a larger one each member says it within so many milliseconds per member: so many a second in all, however large.
const SEEN_EACH_MS: u64 = 60;
/// Members that an act is told to directly; all others hear by gossip and by rounds.
const TOLD_MAX: usize = 16;

/// An act whose author waits for others to hear it.
#[derive(Debug)]
pub(super) struct Watch {
    command: CommandId,
    /// The last op of the act: who has it has all.
    op: OpId,
    calls: BTreeMap<CallId, NodeId>,
    waiting: BTreeSet<NodeId>,
    of: usize,
    since_ms: u64,
    until_ms: u64,
}

impl Watch {
    pub(super) const fn until_ms(&self) -> u64 {
        self.until_ms
    }

    pub(super) fn command(&self) -> CommandId {
        self.command
    }
}

impl Node {
    /// Plans to say what this node has heard.
    pub(super) fn plan_seen(&mut self, now: Moment) {
        let Some(net) = self.net.as_mut().filter(|net| net.is_open()) else {
            return;
        };
        let members = net.view.members().len();
        let delay = if members <= SMALL_NETWORK {
            SEEN_SOON_MS
        } else {
            u64::from(self.rng.next_u32()) % (SEEN_EACH_MS * members as u64)
        };
        net.timers.seen_ms.get_or_insert(now.uptime_ms() + delay);
    }

    fn publish_seen(&mut self, now: Moment) {
        let Some(net) = self.net.as_ref().filter(|net| net.is_open() && !net.out) else {
            return;
        };
        let mut heads = net.authority().heads();
        heads.truncate(PARENTS_MAX);
        let seen = Seen {
            heads,
            ops: u32::try_from(net.authority().op_count()).unwrap_or(u32::MAX),
            epoch: net.epochs.number(),
            policy: net.policy.last(),
            ext: Ext::NONE,
        };
        self.publish(RecordBody::Seen(seen), now);
    }

    /// Whether a device is known to have an op.
    pub(super) fn has_heard(&self, device: &NodeId, op: &OpId) -> bool {
        let linked = self.links.of(device).is_some_and(|(_, peer)| peer.in_sync);
        linked
            || self
                .net
                .as_ref()
                .is_some_and(|net| net.has_seen(device, op))
    }

    /// Tells an act's ops to connected members, and its author who hears it.
    pub(super) fn watch_act(
        &mut self,
        command: CommandId,
        (op, items): (OpId, &Items),
        wait_ms: u64,
        now: Moment,
    ) {
        let peers: Vec<_> = self
            .links
            .trusted()
            .filter_map(|(key, peer)| Some((*key, peer.device?)))
            .take(TOLD_MAX)
            .collect();
        let bytes = SyncRequest::Push(items.clone()).to_bytes();
        let mut calls = BTreeMap::new();
        for (peer, device) in peers {
            let call = self.ask(peer, Service::Sync, bytes.clone(), Pending::Push { peer });
            calls.insert(call, device);
        }
        let waiting = self.audience();
        self.errands.watches.push(Watch {
            command,
            op,
            calls,
            of: waiting.len(),
            waiting,
            since_ms: now.uptime_ms(),
            until_ms: now.uptime_ms().saturating_add(wait_ms),
        });
        self.errands.news = true;
    }

    /// All live nodes but this one.
    pub(super) fn audience(&self) -> BTreeSet<NodeId> {
        let members = self.net.iter().flat_map(|net| {
            let live = |id: &&NodeId| net.view.live(id).is_some();
            net.view.members().keys().filter(live)
        });
        members.filter(|id| **id != self.id).copied().collect()
    }

    /// A member answered that it took an act.
    pub(super) fn note_told(&mut self, call: CallId, heard: bool, now: Moment) {
        let mut news = Vec::new();
        for watch in &mut self.errands.watches {
            let device = watch.calls.remove(&call).filter(|_| heard);
            if let Some(device) = device.filter(|device| watch.waiting.remove(device)) {
                let ms = now.uptime_ms().saturating_sub(watch.since_ms);
                news.push((watch.command, device, ms));
            }
        }
        self.tell_heard(news);
        self.errands.news = true;
    }

    fn tell_heard(&mut self, news: Vec<(CommandId, NodeId, u64)>) {
        for (command, id, ms) in news {
            let name = self.net.as_ref().and_then(|net| net.name_of(&id));
            if let Some(name) = name {
                self.reply(command, Reply::Heard(HeardBy { id, name, ms }));
            }
        }
    }

    /// Looks who has heard what meanwhile, and ends what all have heard or waited long enough.
    fn end_watches(&mut self, now: Moment) {
        let at = now.uptime_ms();
        if std::mem::take(&mut self.errands.news) {
            let mut news = Vec::new();
            for index in 0..self.errands.watches.len() {
                let watch = &self.errands.watches[index];
                let (command, ms) = (watch.command, at.saturating_sub(watch.since_ms));
                let heard: Vec<_> = watch
                    .waiting
                    .iter()
                    .filter(|device| self.has_heard(device, &watch.op))
                    .copied()
                    .collect();
                for device in heard {
                    self.errands.watches[index].waiting.remove(&device);
                    news.push((command, device, ms));
                }
            }
            self.tell_heard(news);
        }
        let watches = std::mem::take(&mut self.errands.watches);
        for watch in watches {
            if watch.until_ms > at && !watch.waiting.is_empty() {
                self.errands.watches.push(watch);
                continue;
            }
            let mut unreached: Vec<_> = watch
                .waiting
                .iter()
                .filter_map(|id| {
                    let name = self.net.as_ref()?.name_of(id)?;
                    let last_seen_ms = self.last_seen_ms(id, now);
                    Some(Unreached {
                        id: *id,
                        name,
                        last_seen_ms,
                    })
                })
                .collect();
            unreached.sort_by(|a, b| a.name.cmp(&b.name));
            let done = Reply::HeardDone {
                heard: watch.of - watch.waiting.len(),
                of: watch.of,
                unreached,
            };
            self.reply(watch.command, done);
        }
    }

    /// The newest revocation or policy change that some live node has not heard.
    pub(super) fn unheard(&self, net: &Net) -> Option<Unheard> {
        let ops: Vec<_> = net.authority().ops().collect();
        let newest = ops.into_iter().rev().find(|op| {
            let kind = op.header().kind;
            let tells = matches!(kind, Kind::REVOKE | Kind::POLICY | Kind::POLICY_BASE);
            tells && !net.view.voids().contains_key(&op.id())
        })?;
        let id = newest.id();
        let nodes: BTreeSet<_> = self
            .audience()
            .into_iter()
            .filter(|device| !self.has_heard(device, &id))
            .filter_map(|device| net.name_of(&device))
            .collect();
        (!nodes.is_empty()).then(|| Unheard {
            op: id,
            revoked: newest
                .body()
                .revoke()
                .and_then(|revoke| net.name_of(&revoke.device)),
            said: newest.header().time,
            nodes: nodes.into_iter().collect(),
        })
    }

    pub(super) fn heard_on_time(&mut self, now: Moment) {
        let at = now.uptime_ms();
        let timer = self.net.as_mut().map(|net| &mut net.timers.seen_ms);
        if timer.is_some_and(|timer| timer.take_if(|due| *due <= at).is_some()) {
            self.publish_seen(now);
        }
        self.end_watches(now);
    }
}

impl Net {
    /// Whether a device said that it has an op.
    fn has_seen(&self, device: &NodeId, op: &OpId) -> bool {
        let seen = self.ledger.records.seen(device);
        seen.is_some_and(|seen| {
            let mut heads = seen.heads.iter();
            heads.any(|head| head == op || self.authority().in_past(op, head))
        })
    }

    /// Whether a device said that it has everything that is here.
    pub(super) fn has_seen_all(&self, device: &NodeId) -> bool {
        let heads = self.authority().heads();
        let seen = self.ledger.records.seen(device);
        let same = seen.is_some_and(|seen| seen.heads == heads);
        same || heads.iter().all(|head| self.has_seen(device, head))
    }
}
