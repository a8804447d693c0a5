//! Acting as the root set: this node becomes an admin of level 1, lost admins are put out.
//!
//! Root ops are made unsigned, signed by the keys that are here, and, if those are too few, go from holder to holder as
//! a petition until they are enough. An op's id does not depend on who signs, so all of them sign the same.

use std::collections::BTreeSet;

use crate::body::{Body, Caps, Grant, Level, Tags};
use crate::codec::Ext;
use crate::id::NodeId;
use crate::identity::Secret;
use crate::io::{CommandId, Petition, RecoveryOptions, Refusal, Reply, Roots};
use crate::limits::PARENTS_MAX;
use crate::node::Node;
use crate::node::acts::revoke::{Reach, again, revocation};
use crate::node::acts::{Batch, Hand};
use crate::node::net::Net;
use crate::op::petition::{self, Unsigned};
use crate::op::{Draft, Op};
use crate::seal::EpochKey;
use crate::time::Moment;

impl Node {
    /// The root set's hand, if the keys are enough of it.
    pub(super) fn root_hand(&mut self, secrets: &[Secret]) -> Result<Hand, Refusal> {
        let net = self.open_net()?;
        require_roots(net, secrets)?;
        let keys: BTreeSet<_> = secrets.iter().map(Secret::public).collect();
        if keys.len() < usize::from(net.authority().realm().roots.threshold) {
            return Err(Refusal::Limit("more root keys have to sign"));
        }
        Ok(Hand::Root(secrets.to_vec()))
    }

    pub(in crate::node) fn use_recovery(
        &mut self,
        command: CommandId,
        options: &RecoveryOptions,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        if options.lost.contains(&me) {
            return Err(Refusal::RevokeSelf);
        }
        let secrets = options.roots.secrets();
        let net = self.open_net()?;
        require_roots(net, secrets)?;
        if options.act.dry_run
            && secrets.len() < usize::from(net.authority().realm().roots.threshold)
        {
            // What a root key has signed cannot be taken back, so a dry run signs nothing even for a petition.
            return Err(Refusal::Limit("a dry run needs all phrases here"));
        }
        let mut ops = match &options.petition {
            Some(petition) => net.petitioned(&petition.bytes, Some(&me))?,
            None => net.root_ops(&me, options, now)?,
        };
        let realm = net.authority().realm().clone();
        for op in &mut ops {
            op.sign(secrets, &realm.roots);
        }
        if let Some(petition) = unfinished(&ops, usize::from(realm.roots.threshold)) {
            self.reply(command, Reply::Petition(petition));
            return Ok(());
        }
        let mut batch = Batch::new(self.open_net()?, now);
        let mut lost = Vec::new();
        let mut grant = None;
        for op in &ops {
            let op = op.op(&realm).ok_or(Refusal::BadPetition)?;
            lost.extend(op.body().revoke().map(|revoke| revoke.device));
            grant = op.body().grant().map(|_| op.id()).or(grant);
            batch.take(op).map_err(|_| Refusal::BadPetition)?;
        }
        let grant = grant.ok_or(Refusal::BadPetition)?;
        // The key of an epoch is this node's secret: it is no part of what others sign.
        let hand = Hand::Device(Box::new(self.keys.device.clone()), grant);
        batch.rekey(&hand, EpochKey::generate(&mut self.rng))?;
        let plan = self.plan_of(&batch, &lost, now)?;
        self.carry_out(command, batch, plan, options.act, now)
    }

    pub(in crate::node) fn sign_petition(
        &mut self,
        command: CommandId,
        petition: &Petition,
        roots: &Roots,
    ) -> Result<(), Refusal> {
        let net = self.open_net()?;
        require_roots(net, roots.secrets())?;
        let mut ops = net.petitioned(&petition.bytes, None)?;
        let set = net.authority().realm().roots.clone();
        for op in &mut ops {
            op.sign(roots.secrets(), &set);
        }
        let petition = told(&ops, usize::from(set.threshold));
        self.reply(command, Reply::Petition(petition));
        Ok(())
    }
}

fn require_roots(net: &Net, secrets: &[Secret]) -> Result<(), Refusal> {
    let keys = &net.authority().realm().roots.keys;
    let known = |secret: &Secret| keys.iter().any(|key| *key.key() == secret.public());
    if !secrets.is_empty() && secrets.iter().all(known) {
        Ok(())
    } else {
        Err(Refusal::WrongPhrase)
    }
}

fn told(ops: &[Unsigned], threshold: usize) -> Petition {
    Petition {
        bytes: petition::write(ops),
        signed: ops.iter().map(Unsigned::signed).min().unwrap_or(0),
        threshold,
    }
}

fn unfinished(ops: &[Unsigned], threshold: usize) -> Option<Petition> {
    Some(told(ops, threshold)).filter(|petition| petition.signed < threshold)
}

impl Net {
    /// What the root set is to say: who is out, and who is in its place.
    fn root_ops(
        &self,
        me: &NodeId,
        options: &RecoveryOptions,
        now: Moment,
    ) -> Result<Vec<Unsigned>, Refusal> {
        let realm = self.authority().realm();
        let mut parents = self.authority().heads();
        parents.truncate(PARENTS_MAX);
        let reach = Reach {
            since: options.since,
            stolen: options.stolen,
        };
        let mut bodies = Vec::new();
        for lost in &options.lost {
            let known = self.name_of(lost).is_some();
            if !known {
                return Err(Refusal::UnknownNode);
            }
            let revoke = revocation(self.authority(), lost, "recovered", reach)?;
            bodies.push(Body::Revoke(Box::new(revoke)));
        }
        let grant = self.former_grant(me).ok_or(Refusal::NotReady)?;
        let grant = Grant {
            level: Level::FOUNDER,
            caps: Caps::ALL,
            expires: None,
            ..grant
        };
        bodies.push(Body::Grant(Box::new(grant)));
        let mut ops: Vec<Unsigned> = Vec::new();
        for body in &bodies {
            let parents = ops
                .last()
                .map_or_else(|| parents.clone(), |op| vec![op.id()]);
            let draft = Draft {
                network: realm.genesis.network(),
                authority: realm.genesis,
                time: now.wall,
                parents,
            };
            ops.push(Unsigned::new(body, draft));
        }
        Ok(ops)
    }

    /// Reads a petition: revocations, then a grant of level 1; with `to`, to this very device.
    fn petitioned(&self, bytes: &[u8], to: Option<&NodeId>) -> Result<Vec<Unsigned>, Refusal> {
        let ops = petition::read(bytes).map_err(|_| Refusal::BadPetition)?;
        let sound = ops.split_last().is_some_and(|(last, rest)| {
            let granted = last.body();
            let granted = granted.as_ref().and_then(Body::grant);
            let to_whom = |grant: &Grant| to.is_none_or(|to| grant.device == *to);
            let revokes = |op: &Unsigned| op.body().is_some_and(|body| body.revoke().is_some());
            granted.is_some_and(|grant| grant.level == Level::FOUNDER && to_whom(grant))
                && rest.iter().all(revokes)
        });
        sound.then_some(ops).ok_or(Refusal::BadPetition)
    }

    /// The grant that gives a device what it has, or had last.
    pub(in crate::node) fn former_grant(&self, device: &NodeId) -> Option<Grant> {
        if let Some(member) = self.view.members().get(device) {
            return again(member, self);
        }
        let entries = self.authority().entries().iter().rev();
        let ops = entries.map(|entry| entry.op.as_ref());
        let granted = |op: &Op| match op.body() {
            Body::Grant(grant) if grant.device == *device => Some(grant.as_ref().clone()),
            Body::Genesis(genesis) if genesis.founder == *device => Some(Grant {
                device: *device,
                level: Level::FOUNDER,
                caps: Caps::ALL,
                may_tag: Tags::default(),
                owner: genesis.owner.clone(),
                tags: Tags::default(),
                name: genesis.founder_name.clone(),
                ipv4: genesis.founder_ipv4,
                expires: None,
                claim: None,
                ext: Ext::NONE,
            }),
            Body::Genesis(_)
            | Body::Grant(_)
            | Body::Invite(_)
            | Body::Revoke(_)
            | Body::InviteClose(_)
            | Body::Policy(_)
            | Body::PolicyBase(_)
            | Body::Rekey(_)
            | Body::Noop
            | Body::Opaque => None,
        };
        let mut granted = ops.filter_map(granted);
        granted.next()
    }
}
