//! Acts of admins: planned on a copy, told, and only then signed into the stored set.
//!
//! A [`Batch`] signs ops one after another over a copy of the stored set. What follows from them is the difference of
//! two views, so a dry run says exactly what the act would do.

mod listing;
mod people;
mod plan;
mod recovery;
mod revoke;

use super::Node;
use super::net::Net;
use crate::authority::{Authority, Inserted};
use crate::body::{Body, Caps, Level, Rekey};
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::identity::Secret;
use crate::io::{Act, Acted, CommandId, Plan, Refusal, Reply, Signed};
use crate::ledger::Change;
use crate::limits::PARENTS_MAX;
use crate::op::{Draft, Op};
use crate::seal::EpochKey;
use crate::structure::{Lookup, within};
use crate::time::{Moment, Timestamp};
use crate::view::{Before, View};
use crate::wire::Items;

/// Merges of heads before one op: 16 heads each, so that hundreds of concurrent admins are merged.
const MERGES_MAX: usize = 64;

/// Who signs.
#[derive(Clone, Debug)]
pub(super) enum Hand {
    /// This node's device key, by the authority of a grant or the genesis.
    Device(Box<Secret>, OpId),
    /// The root set.
    Root(Vec<Secret>),
}

/// Ops that belong together, tried on a copy of the stored set.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) authority: Authority,
    pub(super) ops: Vec<Op>,
    keys: Vec<(u32, EpochKey)>,
    time: Timestamp,
}

impl Batch {
    pub(super) fn new(net: &Net, now: Moment) -> Self {
        Self {
            authority: net.authority().clone(),
            ops: Vec::new(),
            keys: Vec::new(),
            time: now.wall,
        }
    }

    /// Signs a body over all heads of the copy.
    pub(super) fn sign(&mut self, body: Body, hand: &Hand) -> Result<OpId, Refusal> {
        self.merge(hand)?;
        self.put(body, hand)
    }

    /// Starts a new epoch.
    pub(super) fn rekey(&mut self, hand: &Hand, key: EpochKey) -> Result<OpId, Refusal> {
        self.merge(hand)?;
        let before = Lookup::epoch_before(&self.authority, &self.authority.heads());
        let epoch = before.checked_add(1);
        let epoch = epoch.ok_or(Refusal::Limit("there are no more epochs"))?;
        let rekey = Rekey {
            epoch,
            commitment: key.commitment(),
            ext: Ext::NONE,
        };
        let id = self.put(Body::Rekey(rekey), hand)?;
        self.keys.push((epoch, key));
        Ok(id)
    }

    fn merge(&mut self, hand: &Hand) -> Result<(), Refusal> {
        let mut merges = 0;
        while self.authority.heads().len() > PARENTS_MAX && merges < MERGES_MAX {
            merges += 1;
            self.put(Body::Noop, hand)?;
        }
        Ok(())
    }

    fn put(&mut self, body: Body, hand: &Hand) -> Result<OpId, Refusal> {
        let mut parents = self.authority.heads();
        parents.truncate(PARENTS_MAX);
        let realm = self.authority.realm().clone();
        let draft = |authority| Draft {
            network: realm.genesis.network(),
            authority,
            time: self.time,
            parents: parents.clone(),
        };
        let op = match hand {
            Hand::Device(device, authority) => {
                let cited = self.authority.op(authority).ok_or(Refusal::NotReady)?;
                Op::sign(within(body, cited), draft(*authority), device)
            }
            Hand::Root(secrets) => {
                Op::sign_as_root(body, draft(realm.genesis), secrets, &realm.roots)
            }
        };
        self.take(op)
    }

    /// Takes an op that is signed already.
    pub(super) fn take(&mut self, op: Op) -> Result<OpId, Refusal> {
        match self.authority.insert_op(op.bytes()) {
            Ok(Inserted::Added(_)) => {
                let id = op.id();
                self.ops.push(op);
                Ok(id)
            }
            Ok(Inserted::Known | Inserted::Held) | Err(_) => Err(Refusal::Limit(
                "the op was refused by this node's own rules",
            )),
        }
    }
}

impl Node {
    /// This node's hand as an admin with the cap `members`.
    pub(super) fn admin_hand(&mut self) -> Result<(Hand, Level), Refusal> {
        self.require_admin()?;
        let me = self.id;
        let device = self.keys.device.clone();
        let net = self.member_net()?;
        let own = net.view.live(&me).ok_or(Refusal::NotReady)?;
        let authority = own.authority.ok_or(Refusal::NotReady)?;
        Ok((Hand::Device(Box::new(device), authority), own.level))
    }

    /// Fails while this version does not understand what a senior said: then it lets nobody in.
    pub(super) fn require_understanding(&mut self) -> Result<(), Refusal> {
        match self.member_net()?.view.outdated() {
            Some(_) => Err(Refusal::Outdated),
            None => Ok(()),
        }
    }

    /// A view of what a batch makes of the network.
    pub(super) fn preview(&mut self, batch: &Batch, now: Moment) -> Result<View, Refusal> {
        let net = self.open_net()?;
        let left = net.ledger.records.left();
        let mut view = View::compute(&batch.authority, &left, Timestamp::default());
        let time = |level| net.time_for(level, now.wall);
        view.hide_expired(time, &mut Before::default());
        Ok(view)
    }

    /// Starts a new epoch for this node's own reasons.
    pub(super) fn start_epoch(&mut self, now: Moment) -> Result<(), Refusal> {
        let (hand, _) = self.admin_hand()?;
        let key = EpochKey::generate(&mut self.rng);
        let mut batch = Batch::new(self.member_net()?, now);
        batch.rekey(&hand, key)?;
        self.commit(batch, now).map(|_| ())
    }

    pub(super) fn rotate_network(
        &mut self,
        command: CommandId,
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let (hand, _) = self.admin_hand()?;
        let key = EpochKey::generate(&mut self.rng);
        let mut batch = Batch::new(self.member_net()?, now);
        batch.rekey(&hand, key)?;
        let plan = self.plan_of(&batch, &[], now)?;
        self.carry_out(command, batch, plan, act, now)
    }

    /// Tells what a batch does and, unless it is a dry run, does it and waits for others to hear.
    pub(super) fn carry_out(
        &mut self,
        command: CommandId,
        batch: Batch,
        plan: Plan,
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        let ops = self.describe(&batch, act.dry_run);
        let last = batch.ops.last().map(Op::id);
        let mut acted = Acted {
            ops,
            plan,
            dry_run: act.dry_run,
            of: self.audience().len(),
        };
        let (Some(last), false) = (last, act.dry_run) else {
            self.reply(command, Reply::Acted(Box::new(acted)));
            return Ok(());
        };
        let items = self.commit(batch, now)?;
        acted.of = self.audience().len();
        self.reply(command, Reply::Acted(Box::new(acted)));
        self.watch_act(command, (last, &items), act.wait_ms, now);
        Ok(())
    }

    fn describe(&self, batch: &Batch, dry_run: bool) -> Vec<Signed> {
        let subject = |op: &Op| match op.body() {
            Body::Grant(grant) => Some(grant.name.clone()),
            Body::Revoke(revoke) => self.net.as_ref()?.name_of(&revoke.device),
            Body::Genesis(_)
            | Body::Invite(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => None,
        };
        let signed = batch.ops.iter().map(|op| Signed {
            id: (!dry_run).then(|| op.id()),
            kind: op.header().kind,
            subject: subject(op),
            said: op.header().time,
        });
        signed.collect()
    }

    /// Keeps a batch and tells everybody. Keys first: whoever hears of an epoch asks for its key.
    pub(super) fn commit(&mut self, batch: Batch, now: Moment) -> Result<Items, Refusal> {
        let net = self.open_net()?;
        let keys = !batch.keys.is_empty();
        for (number, key) in batch.keys {
            net.epochs.insert(number, key);
        }
        if keys {
            self.keep_epochs();
        }
        let net = self.open_net()?;
        let mut change = Change::default();
        for op in &batch.ops {
            net.ledger.insert_op(op.bytes(), &mut change);
        }
        self.absorb(change, true, now);
        let items = Items {
            ops: batch.ops.iter().map(|op| op.bytes().to_vec()).collect(),
            ..Items::default()
        };
        // Under the epoch of before: the others do not have the new key yet.
        self.spread(&items);
        self.refresh(now);
        Ok(items)
    }

    /// Fails unless this node is senior to a level, and names who is.
    pub(super) fn require_senior(
        &self,
        target: (&NodeId, Level),
        own: Level,
    ) -> Result<(), Refusal> {
        let (node, level) = target;
        if level > own {
            return Ok(());
        }
        let Some(net) = &self.net else {
            return Err(Refusal::NotReady);
        };
        let members = net.view.members().values();
        let seniors = members.filter(|member| {
            let may = member.caps.contains(Caps::MEMBERS) && net.view.is_admin(&member.id);
            may && member.level < level && member.id != *node
        });
        let admins = seniors.map(|member| (member.name.clone(), self.is_online(&member.id)));
        Err(Refusal::TooJunior {
            node: net.name_of(node).ok_or(Refusal::UnknownNode)?,
            level,
            own,
            admins: admins.collect(),
        })
    }
}
