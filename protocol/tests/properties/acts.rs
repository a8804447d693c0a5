//! What admins, and those who no longer are, do to each other in a random network.

use std::collections::BTreeSet;

use meshnode_protocol::body::{
    Body, Cut, InviteClose, Level, OpIds, Policy, PolicyBase, Rekey, Revoke,
};
use meshnode_protocol::id::{Digest, NodeId, OpId};
use meshnode_protocol::op::Author;

use crate::scenario::{ACTORS, Scenario};

impl Scenario {
    /// Somebody puts somebody out, by any cut, sparing some.
    pub(crate) fn say_revoke(&mut self, partition: usize) {
        let (author, authority) = self.speaker(partition);
        let device = if self.one_in(3) {
            let actor = self.below(ACTORS);
            self.nodes[actor]
        } else {
            self.granted(partition)
        };
        let body = self.revocation(partition, device);
        self.say(partition, author, authority, body);
    }

    /// A device that somebody granted.
    fn granted(&mut self, partition: usize) -> NodeId {
        let devices: Vec<NodeId> = self.heard[partition]
            .iter()
            .filter_map(|id| Some(self.authority.op(id)?.body().grant()?.device))
            .collect();
        if devices.is_empty() {
            return self.nodes[1];
        }
        devices[self.below(devices.len())]
    }

    /// A revocation with a random cut and random spares: mostly of the device's own ops.
    pub(crate) fn revocation(&mut self, partition: usize, device: NodeId) -> Body {
        let cut = match self.below(4) {
            0 => Cut::Nothing,
            1 | 2 => Cut::Parents,
            _ => {
                let count = 1 + self.below(3);
                let heads = (0..count).map(|_| self.any(partition)).collect();
                Cut::Heads(OpIds::new(heads).unwrap())
            }
        };
        let own: Vec<OpId> = self.heard[partition]
            .iter()
            .filter(|id| self.author(id) == Some(device))
            .copied()
            .collect();
        let mut spare = Vec::new();
        while self.one_in(3) {
            spare.push(if own.is_empty() || self.one_in(6) {
                self.any(partition)
            } else {
                own[self.below(own.len())]
            });
        }
        Body::Revoke(Box::new(Revoke {
            device,
            cut,
            spare: OpIds::new(spare).unwrap(),
            reason: String::new(),
            ext: self.ext(),
        }))
    }

    fn author(&self, id: &OpId) -> Option<NodeId> {
        match self.authority.op(id)?.header().author {
            Author::Device(device) => Some(device),
            Author::Root => None,
        }
    }

    /// An op that a partition heard; seldom one that it did not.
    fn any(&mut self, partition: usize) -> OpId {
        let heard: Vec<OpId> = if self.one_in(12) {
            self.authority.ops().map(|op| op.id()).collect()
        } else {
            self.heard[partition].iter().copied().collect()
        };
        heard[self.below(heard.len())]
    }

    /// Revocations that a partition heard: the device and the op.
    pub(crate) fn revocations(&self, partition: usize) -> Vec<(NodeId, OpId)> {
        let heard = self.heard[partition].iter();
        heard
            .filter_map(|id| Some((self.authority.op(id)?.body().revoke()?.device, *id)))
            .collect()
    }

    /// Somebody lets one in again that was put out, or gives its name and address to another.
    pub(crate) fn say_again(&mut self, partition: usize) {
        let revoked = self.revocations(partition);
        if revoked.is_empty() {
            return;
        }
        let (device, _) = revoked[self.below(revoked.len())];
        let level = [10, 20, 30, 255][self.below(4)];
        let actor = self.below(ACTORS);
        let mut grant = self.grant(actor, Level(level));
        if self.one_in(3) {
            let old = self.heard[partition].iter();
            let old = old.filter_map(|id| self.authority.op(id)?.body().grant());
            if let Some(old) = old.rev().find(|old| old.device == device) {
                (grant.name, grant.ipv4) = (old.name.clone(), old.ipv4);
            }
        } else {
            grant.device = device;
        }
        self.say_body(partition, Body::Grant(Box::new(grant)));
    }

    /// Somebody ends an invite.
    pub(crate) fn say_close(&mut self, partition: usize) {
        let invites: Vec<OpId> = self.invites.keys().copied().collect();
        if invites.is_empty() {
            return;
        }
        let invite = if self.one_in(8) {
            self.any(partition)
        } else {
            invites[self.below(invites.len())]
        };
        let ext = self.ext();
        self.say_body(partition, Body::InviteClose(InviteClose { invite, ext }));
    }

    /// Somebody announces an epoch, mostly the one that follows.
    pub(crate) fn say_rekey(&mut self, partition: usize) {
        let (author, authority) = self.speaker(partition);
        let parents = self.parents(partition, authority);
        let before = self
            .past(&parents)
            .iter()
            .filter_map(|id| match self.authority.op(id)?.body() {
                Body::Rekey(rekey) => Some(rekey.epoch),
                _ => None,
            })
            .max();
        let mut epoch = 1 + before.unwrap_or(0);
        if self.one_in(5) {
            epoch = [0, 1, epoch + 1, u32::MAX][self.below(4)];
        }
        let commitment = Digest::new([self.below(256) as u8; 32]);
        let ext = self.ext();
        let body = Body::Rekey(Rekey {
            epoch,
            commitment,
            ext,
        });
        self.say_over(partition, (author, authority), parents, body);
    }

    /// Ops and everything before them.
    pub(crate) fn past(&self, of: &[OpId]) -> BTreeSet<OpId> {
        let mut past = BTreeSet::new();
        let mut stack = of.to_vec();
        while let Some(id) = stack.pop() {
            if past.insert(id) {
                let op = self.authority.op(&id);
                stack.extend(op.iter().flat_map(|op| &op.header().parents));
            }
        }
        past
    }

    /// Somebody writes the policy.
    pub(crate) fn say_policy(&mut self, partition: usize) {
        let bases: Vec<OpId> = self.heard[partition]
            .iter()
            .filter(|id| {
                self.authority
                    .op(id)
                    .unwrap()
                    .body()
                    .policy_base()
                    .is_some()
            })
            .copied()
            .collect();
        let base = (!bases.is_empty()).then(|| bases[self.below(bases.len())]);
        let (change, ext) = (vec![self.below(256) as u8], self.ext());
        let body = if base.is_none() || self.one_in(3) {
            let previous = base.filter(|_| !self.one_in(3));
            Body::PolicyBase(PolicyBase {
                previous,
                change,
                ext,
            })
        } else {
            let base = base.unwrap_or(OpId::ZERO);
            Body::Policy(Policy { base, change, ext })
        };
        self.say_body(partition, body);
    }

    /// One that was put out speaks over what it knew before.
    pub(crate) fn say_late(&mut self, partition: usize) {
        let revoked = self.revocations(partition);
        if revoked.is_empty() {
            return;
        }
        let (device, revoke) = revoked[self.below(revoked.len())];
        self.late += usize::from(self.backdate(partition, device, revoke));
    }

    /// A hostile word of a device over ops that lie before its revocation; true if it passed.
    pub(crate) fn backdate(&mut self, partition: usize, device: NodeId, revoke: OpId) -> bool {
        let before: Vec<OpId> = self.past(&[revoke]).into_iter().collect();
        let titles: Vec<OpId> = before
            .iter()
            .filter(|id| match self.authority.op(id).unwrap().body() {
                Body::Genesis(genesis) => genesis.founder == device,
                Body::Grant(grant) => grant.device == device && grant.level.is_admin(),
                _ => false,
            })
            .copied()
            .collect();
        let actor = self.nodes.iter().position(|node| *node == device);
        let (Some(actor), false) = (actor, titles.is_empty()) else {
            return false;
        };
        let title = titles[self.below(titles.len())];
        let mut parents = vec![title];
        if self.one_in(2) {
            let other = before[self.below(before.len())];
            if other != revoke {
                parents.push(other);
            }
        }
        let victim = self.below(ACTORS);
        let node = self.nodes[victim];
        let body = match self.below(5) {
            0 => Body::Noop,
            1 => self.revocation(partition, node),
            2 => Body::PolicyBase(PolicyBase {
                previous: None,
                change: vec![9],
                ext: self.ext(),
            }),
            _ => {
                let level = [11, 21, 31, 255][self.below(4)];
                Body::Grant(Box::new(self.grant(victim, Level(level))))
            }
        };
        self.say_over(partition, (actor, title), parents, body)
    }
}
