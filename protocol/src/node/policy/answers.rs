//! What people ask of the policy.

use std::collections::BTreeSet;

use crate::body::Kind;
use crate::id::{NodeId, OpId};
use crate::io::{
    CommandId, PolicyChange, PolicyChangeState, PolicyDiffed, PolicyExplained, PolicyQuestion,
    PolicyRule, PolicyShown, PolicyState, PolicyVerdict, Refusal, Reply,
};
use crate::node::Node;
use crate::node::net::Net;
use crate::node::policy::built::Built;
use crate::node::policy::change::checked;
use crate::op::Author;
use crate::policy::{Policy, Question, Reach, Verdict, difference, render};
use crate::time::Moment;

impl Node {
    pub(in crate::node) fn show_policy(
        &mut self,
        command: CommandId,
        at: Option<OpId>,
        now: Moment,
    ) -> Result<(), Refusal> {
        let me = self.id;
        let trial_ms = self.trial_left_ms(now).filter(|_| at.is_none());
        let net = self.open_net()?;
        let view = net.view.policy();
        let old = at.map(|op| net.policy_after(&op)).transpose()?;
        let built = old.as_ref().or(net.policy.built.as_ref());
        let rendered = built.map(|built| render(&built.reading.policy, &net.directory()));
        let version = at.map_or(view.ops.len(), |at| net.version(&at).unwrap_or_default());
        let shown = PolicyShown {
            exists: view.exists,
            state: net.policy.state,
            text: rendered.map_or_else(String::new, |rendered| rendered.text),
            version,
            base: built.map(|built| built.base),
            last: built.map(|built| built.last),
            conflicts: built.map_or_else(Vec::new, |built| {
                let directory = net.directory();
                let troubles = built.reading.troubles.iter().cloned();
                troubles.map(|one| one.named(&directory)).collect()
            }),
            orphans: view
                .ops
                .iter()
                .filter(|op| net.is_idle(op))
                .copied()
                .collect(),
            in_force: net.policy_in_force(&me),
            trial_ms,
        };
        self.reply(command, Reply::Policy(Box::new(shown)));
        Ok(())
    }

    pub(in crate::node) fn check_policy(
        &mut self,
        command: CommandId,
        text: &str,
    ) -> Result<(), Refusal> {
        let (_, checked) = checked(text, &self.open_net()?.directory());
        self.reply(command, Reply::PolicyChecked(Box::new(checked)));
        Ok(())
    }

    pub(in crate::node) fn diff_policy(
        &mut self,
        command: CommandId,
        from: Option<&str>,
        text: &str,
    ) -> Result<(), Refusal> {
        let net = self.open_net()?;
        let directory = net.directory();
        let (wanted, checked_text) = checked(text, &directory);
        let built = net.policy.built.as_ref();
        let held = built.map_or_else(Policy::default, |built| built.reading.policy.clone());
        let (old, checked_old) = match from.map(|from| checked(from, &directory)) {
            Some((old, checked)) => (old, Some(checked)),
            None => (Some(held), None),
        };
        let both = old.zip(wanted);
        let lines = both.map_or_else(Vec::new, |(old, new)| difference(&old, &new, &directory));
        let checked = checked_old.filter(|checked| !checked.faults.is_empty());
        let checked = checked.unwrap_or(checked_text);
        let diffed = PolicyDiffed { lines, checked };
        self.reply(command, Reply::PolicyDiff(Box::new(diffed)));
        Ok(())
    }

    pub(in crate::node) fn explain_policy(
        &mut self,
        command: CommandId,
        asked: PolicyQuestion,
    ) -> Result<(), Refusal> {
        let me = self.id;
        let question = asked.question;
        let net = self.open_net()?;
        let old = asked.at.map(|op| net.policy_after(&op)).transpose()?;
        let version = asked.at.and_then(|at| net.version(&at));
        let unknown = [question.src, question.dst];
        let mut unknown = unknown.into_iter().filter(|id| net.view.live(id).is_none());
        let held = old.as_ref().or(net.policy.built.as_ref());
        let state = match old {
            Some(_) => PolicyState::InForce,
            None => net.policy.state,
        };
        let (verdict, rule, note) = match (state, held, unknown.next()) {
            (_, _, Some(id)) => (PolicyVerdict::Unknown(id), None, None),
            (PolicyState::Open, _, None) => (PolicyVerdict::Open, None, None),
            (PolicyState::InForce | PolicyState::Kept, Some(built), None) => {
                net.explained(built, question)
            }
            (PolicyState::InForce | PolicyState::Kept | PolicyState::Denied, _, None) => {
                (PolicyVerdict::Denied, None, None)
            }
        };
        let explained = PolicyExplained {
            verdict,
            rule,
            note,
            state: net.policy.state,
            version: version.unwrap_or(net.view.policy().ops.len()),
            in_force: net.policy_in_force(&me),
        };
        self.reply(command, Reply::PolicyExplained(Box::new(explained)));
        Ok(())
    }

    pub(in crate::node) fn log_policy(&mut self, command: CommandId) -> Result<(), Refusal> {
        let net = self.open_net()?;
        let ops = net.view.policy().ops.iter();
        let changes = ops.filter_map(|op| net.policy_change(op)).collect();
        self.reply(command, Reply::PolicyLog(changes));
        Ok(())
    }
}

impl Net {
    /// The newest version; `None` without a policy.
    pub(in crate::node) fn policy_version(&self) -> Option<usize> {
        let view = self.view.policy();
        view.exists.then_some(view.ops.len())
    }

    fn version(&self, op: &OpId) -> Option<usize> {
        let mut ops = self.view.policy().ops.iter();
        ops.position(|other| other == op).map(|at| at + 1)
    }

    fn explained(
        &self,
        built: &Built,
        question: Question,
    ) -> (PolicyVerdict, Option<PolicyRule>, Option<&'static str>) {
        let (policy, directory) = (&built.reading.policy, self.directory());
        let explanation = Reach::compile(policy, &directory).explain(question);
        let (verdict, number) = match explanation.verdict {
            Verdict::Allowed { rule } => (PolicyVerdict::Allowed, Some(rule)),
            Verdict::Denied { nearest } => (PolicyVerdict::Denied, nearest),
            Verdict::Unknown(id) => (PolicyVerdict::Unknown(id), None),
        };
        let rule = number.and_then(|number| {
            let rendered = render(policy, &directory);
            let line = *rendered.lines.rules.get(number)?;
            let text = rendered.text.lines().nth(line.checked_sub(1)? as usize)?;
            let source = built.reading.rules.get(number)?;
            let op = source.edit.and_then(|edit| built.ops.get(&edit));
            Some(PolicyRule {
                line,
                text: text.trim().trim_end_matches(',').to_owned(),
                by: op.and_then(|op| self.policy_change(op)),
            })
        });
        (verdict, rule, explanation.note)
    }

    pub(super) fn policy_change(&self, id: &OpId) -> Option<PolicyChange> {
        let op = self.authority().op(id)?;
        let view = self.view.policy();
        let built = self.policy.current();
        let unread = view.missing.contains(id) || op.is_stub();
        let garbled = built.is_some_and(|built| built.unread.contains(id));
        let effect = built.is_some_and(|built| built.base == *id || built.in_effect.contains(id));
        let replaced = view
            .base
            .is_some_and(|base| self.authority().in_past(id, &base));
        let state = match (unread || garbled, effect, replaced) {
            (_, true, _) => PolicyChangeState::InForce,
            (_, false, true) => PolicyChangeState::Replaced,
            (true, false, false) => PolicyChangeState::Unread,
            (false, false, false) => PolicyChangeState::Orphan,
        };
        Some(PolicyChange {
            version: self.version(id)?,
            op: *id,
            base: op.header().kind == Kind::POLICY_BASE,
            author: match op.header().author {
                Author::Device(author) => self.name_of(&author),
                Author::Root => None,
            },
            said: op.header().time,
            heard: self.heard.get(id).copied(),
            state,
        })
    }

    /// How many live nodes are known to enforce what this node enforces, and how many there are.
    fn policy_in_force(&self, me: &NodeId) -> (usize, usize) {
        let live = self.view.members().keys();
        let live: BTreeSet<&NodeId> = live.filter(|id| self.view.live(id).is_some()).collect();
        if !self.policy_is_current() {
            return (0, live.len());
        }
        let last = self.policy.last();
        let same = live.iter().filter(|id| {
            let seen = self.ledger.records.seen(id);
            ***id == *me || seen.is_some_and(|seen| seen.policy == last)
        });
        (same.count(), live.len())
    }
}
