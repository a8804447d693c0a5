//! Changes of the policy: what people set, and what this node proposes anew.

use std::collections::BTreeSet;

use crate::body::{Body, Caps, Policy as PolicyOp, PolicyBase};
use crate::codec::Ext;
use crate::id::{NodeId, OpId};
use crate::io::{
    Act, Acted, CommandId, PolicyChecked, PolicyState, PolicyTest, PolicyText, Refusal, Reply,
};
use crate::node::Node;
use crate::node::acts::{Batch, Hand};
use crate::node::net::Net;
use crate::node::policy::built::{Built, When};
use crate::node::policy::probation::mark_trial;
use crate::node::policy::transplant::transplant;
use crate::op::Author;
use crate::policy::{Directory, Document, Policy, Proposal, TooLarge, Troubles, read, render};
use crate::time::Moment;
use crate::view::View;

impl Node {
    /// This node's hand as an admin with the cap `policy`.
    pub(in crate::node) fn policy_hand(&mut self) -> Result<Hand, Refusal> {
        let me = self.id;
        let device = self.keys.device.clone();
        let net = self.member_net()?;
        if net.may_write_policy(&me) {
            let own = net.view.live(&me).and_then(|own| own.authority);
            let authority = own.ok_or(Refusal::NotReady)?;
            return Ok(Hand::Device(Box::new(device), authority));
        }
        let members = net.view.members().values();
        let writers = members.filter(|member| net.may_write_policy(&member.id));
        let writers: Vec<_> = writers
            .map(|member| (member.id, member.name.clone()))
            .collect();
        let writers = writers.into_iter();
        let writers = writers.map(|(id, name)| (name, self.is_online(&id)));
        Err(Refusal::NotAdmin(writers.collect()))
    }

    pub(in crate::node) fn set_policy(
        &mut self,
        command: CommandId,
        wanted: &PolicyText,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.set_text(command, wanted, None, now)
    }

    /// Sets a text, for good or for a while.
    pub(super) fn set_text(
        &mut self,
        command: CommandId,
        wanted: &PolicyText,
        trial_ms: Option<u64>,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.policy_hand()?;
        self.require_no_trial(now)?;
        let net = self.member_net()?;
        if wanted.expect.is_some() && wanted.expect != net.policy.last() {
            return Err(Refusal::PolicyMoved);
        }
        let (policy, checked) = checked(&wanted.text, &net.directory());
        match policy.filter(|_| checked.is_sound()) {
            Some(policy) => self.change_policy(command, &policy, (wanted.act, trial_ms), now),
            None => {
                self.reply(command, Reply::PolicyChecked(Box::new(checked)));
                Ok(())
            }
        }
    }

    pub(in crate::node) fn roll_back_policy(
        &mut self,
        command: CommandId,
        op: &OpId,
        act: Act,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.policy_hand()?;
        let net = self.member_net()?;
        let old = net.policy_after(op)?.reading.policy;
        let directory = net.directory();
        let lines = render(&old, &directory).lines.tests;
        let tests = failures(&old, &lines, &directory);
        if tests.is_empty() {
            let done = self.change_policy(command, &old, (act, None), now);
            // Whoever takes an earlier version has decided.
            if done.is_ok() && !act.dry_run {
                self.end_trial();
            }
            return done;
        }
        let checked = PolicyChecked {
            tests,
            ..PolicyChecked::default()
        };
        self.reply(command, Reply::PolicyChecked(Box::new(checked)));
        Ok(())
    }

    fn change_policy(
        &mut self,
        command: CommandId,
        wanted: &Policy,
        (act, trial_ms): (Act, Option<u64>),
        now: Moment,
    ) -> Result<(), Refusal> {
        let hand = self.policy_hand()?;
        self.require_understanding()?;
        let mut batch = Batch::new(self.member_net()?, now);
        let Some(mut body) = self.policy_body(wanted, Troubles::Settle)? else {
            self.nothing_to_change(command, act);
            return Ok(());
        };
        if let Some(for_ms) = trial_ms {
            mark_trial(&mut body, now.wall.plus_ms(for_ms));
        }
        let op = batch.sign(body, &hand)?;
        let plan = self.plan_of(&batch, &[], now)?;
        if let (Some(for_ms), false) = (trial_ms, act.dry_run) {
            self.begin_trial(op, for_ms, now);
        }
        let done = self.carry_out(command, batch, plan, act, now);
        if done.is_err() && trial_ms.is_some() {
            self.end_trial();
        }
        done
    }

    /// An act without ops is over at once.
    fn nothing_to_change(&mut self, command: CommandId, act: Act) {
        let of = self.audience().len();
        let acted = Acted {
            ops: Vec::new(),
            plan: crate::io::Plan::default(),
            dry_run: act.dry_run,
            of,
        };
        self.reply(command, Reply::Acted(Box::new(acted)));
        if !act.dry_run {
            let unreached = Vec::new();
            let heard = of;
            self.reply(
                command,
                Reply::HeardDone {
                    heard,
                    of,
                    unreached,
                },
            );
        }
    }

    /// The op that makes the policy say something; `None`: it does.
    pub(super) fn policy_body(
        &mut self,
        wanted: &Policy,
        troubles: Troubles,
    ) -> Result<Option<Body>, Refusal> {
        let me = self.id;
        let net = self.net.as_ref().ok_or(Refusal::NotReady)?;
        let rng = &mut self.rng;
        let previous = net.view.policy().base;
        let fresh = |change| {
            let ext = Ext::NONE;
            Body::PolicyBase(PolicyBase {
                previous,
                change,
                ext,
            })
        };
        let Some(built) = net.policy.current() else {
            let base = Document::base_for(wanted, &me, rng).map_err(too_large)?;
            return Ok(Some(fresh(base)));
        };
        let proposal = built.document.propose(wanted, troubles, &me, rng);
        let change = match proposal.map_err(too_large)? {
            Proposal::Nothing => return Ok(None),
            Proposal::Base(base) => return Ok(Some(fresh(base))),
            Proposal::Edit(edit) => edit,
        };
        if built.document.base_is_due() && troubles == Troubles::Settle {
            let mut edited = built.document.clone();
            let applied = edited.apply(&change, &me).is_ok();
            // A policy that fits no base goes on by edits.
            if let (true, Ok(base)) = (applied, edited.rebase(&me, rng)) {
                return Ok(Some(fresh(base)));
            }
        }
        Ok(Some(Body::Policy(PolicyOp {
            base: built.base,
            change,
            ext: Ext::NONE,
        })))
    }

    /// Says again what this node's own ops said that lost their effect, as one edit; what cannot be said simply stays
    /// listed.
    pub(super) fn propose_anew(&mut self, now: Moment) {
        let me = self.id;
        let Ok(net) = self.member_net() else { return };
        let idle = net.idle_own(&me);
        net.policy.settled.extend(idle.iter().copied());
        let Some(built) = net.policy.current() else {
            return;
        };
        let directory = net.directory();
        let mut wanted = built.reading.policy.clone();
        for id in &idle {
            let authority = net.authority();
            let before = Built::at(authority, id, When::Before, None);
            let after = Built::at(authority, id, When::After, None);
            let step = before.zip(after).and_then(|(before, after)| {
                transplant(&before.reading.policy, &after.reading.policy, &wanted)
            });
            let sound = step.filter(|step| step.failures(&directory).is_empty());
            wanted = sound.unwrap_or(wanted);
        }
        if wanted == built.reading.policy {
            return;
        }
        // A refusal is this node's own state: the ops stay listed.
        let _done = self.sign_anew(&wanted, now);
    }

    pub(super) fn sign_anew(&mut self, wanted: &Policy, now: Moment) -> Result<(), Refusal> {
        let hand = self.policy_hand()?;
        self.require_understanding()?;
        let mut batch = Batch::new(self.member_net()?, now);
        if let Some(body) = self.policy_body(wanted, Troubles::Keep)? {
            batch.sign(body, &hand)?;
            self.commit(batch, now)?;
        }
        Ok(())
    }
}

/// Whether a device's policy ops count in a view.
pub(super) fn may_write_policy(view: &View, device: &NodeId) -> bool {
    let member = view.live(device);
    member.is_some_and(|own| own.level.is_admin() && own.caps.contains(Caps::POLICY))
}

const fn too_large(error: TooLarge) -> Refusal {
    Refusal::PolicyTooLarge {
        bytes: error.bytes,
        max: error.max,
    }
}

/// A text as a policy, if it is one, and what there is to say of it.
pub(super) fn checked(text: &str, directory: &Directory) -> (Option<Policy>, PolicyChecked) {
    match read(text, directory) {
        Ok(read) => {
            let checked = PolicyChecked {
                faults: Vec::new(),
                tests: failures(&read.policy, &read.lines.tests, directory),
                notices: read.notices,
            };
            (Some(read.policy), checked)
        }
        Err(faults) => {
            let checked = PolicyChecked {
                faults,
                ..PolicyChecked::default()
            };
            (None, checked)
        }
    }
}

fn failures(policy: &Policy, lines: &[u32], directory: &Directory) -> Vec<PolicyTest> {
    let failures = policy.failures(directory).into_iter();
    let failures = failures.filter_map(|failure| {
        let test = policy.tests.get(failure.test)?;
        let [src, dst] = test.said(&failure.target, policy, directory);
        let name = |id: Option<NodeId>| id.and_then(|id| directory.name(&id)).cloned();
        Some(PolicyTest {
            line: lines.get(failure.test).copied().unwrap_or_default(),
            src: name(failure.pair.0).map_or(src, |name| name.to_string()),
            dst,
            node: name(failure.pair.1),
            want: failure.want,
        })
    });
    failures.collect()
}

impl Net {
    /// Whether a device's policy ops count.
    pub(super) fn may_write_policy(&self, device: &NodeId) -> bool {
        may_write_policy(&self.view, device)
    }

    /// The policy as it was after a counting op.
    pub(super) fn policy_after(&self, op: &OpId) -> Result<Built, Refusal> {
        let counting: BTreeSet<OpId> = self.view.policy().ops.iter().copied().collect();
        let built = Built::at(self.authority(), op, When::After, Some(&counting));
        let built = built.filter(|_| counting.contains(op));
        built.ok_or(Refusal::UnknownVersion(*op))
    }

    /// Whether a counting op of the policy has no effect, although nobody replaced it knowingly.
    pub(super) fn is_idle(&self, op: &OpId) -> bool {
        let view = self.view.policy();
        let Some(built) = self.policy.current() else {
            return false;
        };
        let replaced = self.authority().in_past(op, &built.base);
        let effect = *op == built.base || built.in_effect.contains(op);
        !replaced && !effect && !built.unread.contains(op) && view.ops.contains(op)
    }

    /// Ops of this node that lost their effect, and that nothing in effect of this node took notice of.
    pub(super) fn idle_own(&self, me: &NodeId) -> Vec<OpId> {
        let Some(built) = self.policy.current() else {
            return Vec::new();
        };
        if !self.may_write_policy(me) {
            return Vec::new();
        }
        let own = |op: &&OpId| {
            let op = self.authority().op(op);
            op.is_some_and(|op| op.header().author == Author::Device(*me))
        };
        let ops: Vec<&OpId> = self.view.policy().ops.iter().filter(own).collect();
        let said = |op: &&&OpId| **op == &built.base || built.in_effect.contains(**op);
        let said: Vec<_> = ops.iter().filter(said).collect();
        let noticed = |op: &OpId| said.iter().any(|own| self.authority().in_past(op, own));
        let idle = ops
            .iter()
            .filter(|op| !self.policy.settled.contains(**op) && self.is_idle(op) && !noticed(op));
        idle.map(|op| **op).collect()
    }

    /// Whether this node enforces what everybody wrote.
    pub(super) fn policy_is_current(&self) -> bool {
        match self.policy.state {
            PolicyState::Open | PolicyState::InForce => true,
            PolicyState::Kept | PolicyState::Denied => false,
        }
    }
}
