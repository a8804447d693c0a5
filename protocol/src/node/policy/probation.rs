//! Changes on trial: in force at once everywhere, and undone by an ordinary edit unless somebody keeps them
//! (`docs/protocol.md` §10.7).
//!
//! The note of a trial is on the disk before its op is, so that no end of the program makes a trial permanent.

use crate::authority::Authority;
use crate::body::{Body, Kind};
use crate::codec::Ext;
use crate::id::OpId;
use crate::io::{CommandId, Notice, PolicyTrial, Refusal, Reply, Trial, Write};
use crate::limits::{POLICY_TRIAL_MS_MAX, POLICY_TRIAL_MS_MIN};
use crate::node::Node;
use crate::node::policy::built::{Built, When};
use crate::node::policy::draft::open_policy;
use crate::node::policy::transplant::transplant;
use crate::policy::Policy;
use crate::time::{Moment, Timestamp};

/// How long this node waits before it tries again to undo what it could not.
const AGAIN_MS: u64 = 30_000;

/// What becomes of a trial whose time is over.
enum End {
    /// This is to be the policy.
    Undo(Box<Policy>),
    /// It is as it was before, or somebody decided otherwise since.
    Nothing { undone: bool },
    /// The policy cannot be built now.
    Later,
}

impl Node {
    pub(in crate::node) fn try_policy(
        &mut self,
        command: CommandId,
        trial: &PolicyTrial,
        now: Moment,
    ) -> Result<(), Refusal> {
        if !(POLICY_TRIAL_MS_MIN..=POLICY_TRIAL_MS_MAX).contains(&trial.for_ms) {
            return Err(Refusal::Limit("a trial lasts from 1 second to 7 days"));
        }
        self.set_text(command, &trial.wanted, Some(trial.for_ms), now)
    }

    pub(in crate::node) fn keep_policy(&mut self, command: CommandId) -> Result<(), Refusal> {
        self.member_net()?;
        let Some(trial) = self.trial else {
            return Err(Refusal::NoTrial);
        };
        self.end_trial();
        self.member_net()?.policy.settled.remove(&trial.op);
        self.reply(command, Reply::PolicyKept);
        Ok(())
    }

    /// Fails while something is on trial: what comes on top of it would be hard to tell from it.
    pub(super) fn require_no_trial(&self, now: Moment) -> Result<(), Refusal> {
        match self.trial_left_ms(now) {
            Some(left) => Err(Refusal::OnTrial(left)),
            None => Ok(()),
        }
    }

    /// Milliseconds until the trial is undone.
    pub(super) fn trial_left_ms(&self, now: Moment) -> Option<u64> {
        self.trial.map(|trial| left(&trial, now))
    }

    /// Notes that an op which is about to be signed is on trial.
    pub(super) fn begin_trial(&mut self, op: OpId, for_ms: u64, now: Moment) {
        let due = now.wall.plus_ms(for_ms);
        let trial = Trial { op, due, for_ms };
        self.trial = Some(trial);
        self.persist(vec![Write::Trial(Some(trial))], true);
        self.wait_for_trial(&trial, for_ms, now);
    }

    /// Nothing is on trial any more.
    pub(super) fn end_trial(&mut self) {
        if self.trial.take().is_some() {
            self.persist(vec![Write::Trial(None)], true);
        }
        if let Some(net) = &mut self.net {
            net.timers.trial_ms = None;
        }
    }

    /// A trial is over without an op that says so: what was tried may have lost its effect to others, and no later life
    /// of this node is to say it anew. Until something else is tried, the note tells that.
    fn settle_trial(&mut self, trial: &Trial) {
        let stored = self
            .net
            .as_ref()
            .map(|net| net.authority().contains(&trial.op));
        self.end_trial();
        if stored == Some(true) {
            let over = Trial {
                for_ms: 0,
                ..*trial
            };
            self.persist(vec![Write::Trial(Some(over))], true);
        }
    }

    /// Takes the note of a trial that the store kept: of one that is over, only what it tried.
    pub(in crate::node) fn resume_trial(&mut self, kept: Option<Trial>) {
        let over = |trial: &Trial| trial.for_ms == 0;
        self.trial = kept.filter(|trial| !over(trial));
        if let (Some(over), Some(net)) = (kept.filter(over), &mut self.net) {
            net.policy.settled.insert(over.op);
        }
    }

    fn wait_for_trial(&mut self, trial: &Trial, ms: u64, now: Moment) {
        if let Some(net) = &mut self.net {
            net.timers.trial_ms = Some(now.uptime_ms().saturating_add(ms));
            // If it loses its effect, it is not said anew: nothing would end that.
            net.policy.settled.insert(trial.op);
        }
    }

    pub(in crate::node) fn trial_on_time(&mut self, now: Moment) {
        let Some(trial) = self.trial else { return };
        let Some(net) = self.net.as_ref().filter(|net| net.is_open()) else {
            return;
        };
        match net.timers.trial_ms {
            // The start of the program: what is left of its time.
            None => self.wait_for_trial(&trial, left(&trial, now), now),
            Some(due) if due <= now.uptime_ms() => self.undo(&trial, now),
            Some(_) => {}
        }
    }

    fn undo(&mut self, trial: &Trial, now: Moment) {
        let undone = match self.end_of(trial) {
            End::Nothing { undone } => {
                self.settle_trial(trial);
                self.notice(Notice::TrialOver(undone));
                return;
            }
            End::Later => return self.wait_for_trial(trial, AGAIN_MS, now),
            End::Undo(wanted) => match self.sign_anew(&wanted, now) {
                Ok(()) => true,
                // Not an admin any more, or out: it never will be.
                Err(Refusal::NotAdmin(_) | Refusal::Revoked) => false,
                Err(_) => return self.wait_for_trial(trial, AGAIN_MS, now),
            },
        };
        self.end_trial();
        self.notice(Notice::TrialOver(undone));
    }

    /// What the policy is to be without what was on trial. What others changed meanwhile stays.
    fn end_of(&self, trial: &Trial) -> End {
        let Some(net) = &self.net else {
            return End::Later;
        };
        let authority = net.authority();
        if !authority.contains(&trial.op) {
            // It was noted, and the program ended before it was signed.
            return End::Nothing { undone: true };
        }
        // What does not count any more is not brought back by the way.
        let counting = net.view.policy().ops.iter().copied().collect();
        let after = Built::at(authority, &trial.op, When::After, Some(&counting));
        let (Some(built), Some(after)) = (net.policy.current(), after) else {
            return End::Later;
        };
        let after = after.reading.policy;
        let before = Built::at(authority, &trial.op, When::Before, Some(&counting));
        let before = match before {
            Some(before) => before.reading.policy,
            None if was_open(authority, &trial.op) => open_policy(),
            // It denied, and so it does again.
            None => Policy::default(),
        };
        match transplant(&after, &before, &built.reading.policy) {
            Some(wanted) if wanted == built.reading.policy => End::Nothing { undone: true },
            Some(wanted) => End::Undo(Box::new(wanted)),
            None => End::Nothing { undone: false },
        }
    }
}

/// Whether there had never been a policy when an op was written: then everybody reached everybody.
pub(super) fn was_open(authority: &Authority, op: &OpId) -> bool {
    let mut earlier = authority.ops().filter(|earlier| {
        let kind = earlier.header().kind;
        kind == Kind::POLICY || kind == Kind::POLICY_BASE
    });
    let earlier =
        earlier.any(|earlier| earlier.id() != *op && authority.in_past(&earlier.id(), op));
    !earlier && !authority.genesis().closed
}

/// Says in an op's body until when it is on trial: for whoever puts its author out before that.
pub(super) fn mark_trial(body: &mut Body, until: Timestamp) {
    let entry = (TRIAL_UNTIL, until.ms().to_le_bytes().to_vec());
    let ext = Ext::new(vec![entry]).expect("one entry of eight bytes is bounded");
    match body {
        Body::Policy(policy) => policy.ext = ext,
        Body::PolicyBase(base) => base.ext = ext,
        Body::Genesis(_)
        | Body::Grant(_)
        | Body::Invite(_)
        | Body::Revoke(_)
        | Body::InviteClose(_)
        | Body::Rekey(_)
        | Body::Noop
        | Body::Opaque => {}
    }
}

/// Until when an op is on trial, by its author's clock, if its body says so.
pub(super) fn trial_until(ext: &Ext) -> Option<Timestamp> {
    let mut entries = ext.entries().iter();
    let (_, value) = entries.find(|(kind, _)| *kind == TRIAL_UNTIL)?;
    let ms = u64::from_le_bytes(value.as_slice().try_into().ok()?);
    Some(Timestamp::from_ms(ms))
}

/// The type of the extension of a policy op that says until when it is on trial.
const TRIAL_UNTIL: u16 = 1;

/// What is left of a trial, by a clock that may have been set meanwhile.
fn left(trial: &Trial, now: Moment) -> u64 {
    trial.due.since_ms(now.wall).min(trial.for_ms)
}
