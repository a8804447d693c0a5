//! The policy that this node enforces: built from the ops that count, compiled with the members of the moment
//! (`docs/protocol.md` §10.5).
//!
//! It fails closed. A policy that exists and cannot be built here is the last one that could be, else it denies
//! everything; only where none has ever existed do all members reach each other.

mod answers;
mod blame;
mod built;
mod change;
mod draft;
mod heritage;
mod probation;
mod restate;
mod restricted;
mod transplant;

#[cfg(test)]
mod tests;

pub use self::heritage::{Former, Heritage, heritage};
pub(super) use self::restricted::Rules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Node;
use super::net::Net;
use crate::access::Filter;
use crate::authority::Authority;
use crate::body::Tags;
use crate::id::{NodeId, OpId};
use crate::io::{Notice, Output, PolicyState, Warning};
use crate::limits::TAGS_MAX;
use crate::node::policy::built::Built;
use crate::policy::{Directory, Pins, Reach};
use crate::time::Moment;
use crate::view::{Pinned, PolicyView, Turn};

/// How long this node waits before it proposes anew what lost its effect: what follows it may be on its way.
const ANEW_MS: u64 = 2000;
/// Warnings of one kind.
const WARNINGS_MAX: usize = 8;

/// The policy as this node enforces it.
#[derive(Debug)]
pub(super) struct Enforced {
    state: PolicyState,
    /// The last policy that could be built.
    built: Option<Built>,
    /// What it was made of, and with whom.
    of: Option<(PolicyView, Option<Directory>)>,
    filter: Arc<Filter>,
    /// Ops of this node that it need not propose anew in this life.
    settled: BTreeSet<OpId>,
}

impl Default for Enforced {
    fn default() -> Self {
        Self {
            state: PolicyState::Open,
            built: None,
            of: None,
            filter: Arc::new(Filter::Open),
            settled: BTreeSet::new(),
        }
    }
}

impl Enforced {
    /// The last op that went into what is enforced.
    pub(super) fn last(&self) -> Option<OpId> {
        self.built.as_ref().map(|built| built.last)
    }

    /// The policy that everybody wrote, if it could be built.
    fn current(&self) -> Option<&Built> {
        let current = self.state == PolicyState::InForce;
        self.built.as_ref().filter(|_| current)
    }

    /// What the policy that everybody wrote pins. One that was only kept pins nothing: others may have kept another,
    /// and a name must be the same everywhere.
    fn pins(&self) -> BTreeMap<NodeId, Pinned> {
        let nodes = self.current().map(|built| &built.reading.policy.nodes);
        let pinned = |pins: &Pins| Pinned {
            name: pins.name.clone(),
            tags: pins.tags.as_ref().map(|tags| {
                let tags = tags.iter().take(TAGS_MAX).cloned();
                Tags::new(tags.collect()).expect("no more than the limit")
            }),
            owner: pins.owner.clone(),
        };
        let nodes = nodes.into_iter().flatten();
        nodes.map(|(id, pins)| (*id, pinned(pins))).collect()
    }

    pub(super) fn warnings(&self, directory: impl FnOnce() -> Directory) -> Vec<Warning> {
        let troubles = self.built.iter().flat_map(|built| &built.reading.troubles);
        let troubles: Vec<_> = troubles.take(WARNINGS_MAX).cloned().collect();
        let mut warnings = Vec::new();
        if !troubles.is_empty() {
            let directory = directory();
            let named = troubles.into_iter().map(|one| one.named(&directory));
            warnings.extend(named.map(|one| Warning::PolicyConflict(one.to_string())));
        }
        match self.state {
            PolicyState::Open | PolicyState::InForce => {}
            PolicyState::Kept => warnings.push(Warning::PolicyUnbuilt { kept: true }),
            PolicyState::Denied => warnings.push(Warning::PolicyUnbuilt { kept: false }),
        }
        warnings
    }

    /// Builds what counts now; what is there already is not built again.
    fn follow(&mut self, authority: &Authority, view: &PolicyView) {
        if !view.exists {
            self.built = None;
            self.state = PolicyState::Open;
            return;
        }
        if let (Some(base), true) = (view.base, view.missing.is_empty()) {
            let held = self.built.as_mut().filter(|held| held.base == base);
            if held.is_some_and(|held| held.grow(authority, &view.changes)) {
                self.state = PolicyState::InForce;
                return;
            }
            if let Some(built) = Built::of(authority, &base, &view.changes) {
                self.built = Some(built);
                self.state = PolicyState::InForce;
                return;
            }
        }
        self.state = match self.built {
            Some(_) => PolicyState::Kept,
            None => PolicyState::Denied,
        };
    }

    fn compile(&self, directory: Option<&Directory>, me: &NodeId) -> Filter {
        match (self.state, self.built.as_ref().zip(directory)) {
            (PolicyState::Open, _) => Filter::Open,
            (PolicyState::InForce | PolicyState::Kept, Some((built, directory))) => {
                Reach::compile(&built.reading.policy, directory).filter(me)
            }
            (PolicyState::InForce | PolicyState::Kept | PolicyState::Denied, _) => {
                Filter::deny_all()
            }
        }
    }
}

impl Node {
    /// Enforces what the view says now; `turn`: what is new in it. What the policy pins is entered there, too.
    pub(super) fn enforce(&mut self, turn: Option<&mut Turn>, now: Moment) {
        let me = self.id;
        let Some(net) = self.net.as_mut().filter(|net| net.is_open()) else {
            return;
        };
        if turn.is_none() && net.policy.of.is_some() {
            return;
        }
        let (authority, policy) = (&net.ledger.authority, &mut net.policy);
        let view = net.view.policy().clone();
        let before = (policy.state, policy.last(), policy.unread());
        let same = policy.of.as_ref().is_some_and(|of| of.0 == view);
        if !same {
            policy.follow(authority, &view);
        }
        let mut moved = net.view.pin(policy.pins());
        if let Some(turn) = turn {
            turn.before.then(std::mem::take(&mut moved));
            if same && turn.before.is_empty() {
                return;
            }
        }
        // Without a policy it is nothing to a filter who is in.
        let closed = net.policy.state != PolicyState::Open;
        let directory = closed.then(|| net.directory());
        let policy = &mut net.policy;
        if same && policy.of.as_ref().is_some_and(|of| of.1 == directory) {
            return;
        }
        let filter = policy.compile(directory.as_ref(), &me);
        let mut notices: Vec<_> = policy
            .unread()
            .difference(&before.2)
            .map(|op| Notice::PolicyUnread(*op))
            .collect();
        if (policy.state, policy.last()) != (before.0, before.1) {
            notices.push(Notice::Policy(policy.state, view.ops.len()));
        }
        policy.of = Some((view, directory));
        if *policy.filter != filter {
            policy.filter = Arc::new(filter);
            let filter = Arc::clone(&policy.filter);
            self.out.push_back(Output::Filter(filter));
        }
        if !net.idle_own(&me).is_empty() {
            let due = now.uptime_ms() + ANEW_MS;
            net.timers.policy_ms.get_or_insert(due);
        }
        for notice in notices {
            self.notice(notice);
        }
    }

    pub(super) fn policy_on_time(&mut self, now: Moment) {
        self.trial_on_time(now);
        let at = now.uptime_ms();
        let timer = self.net.as_mut().map(|net| &mut net.timers.policy_ms);
        let due = timer.and_then(|timer| timer.take_if(|due| *due <= at));
        if due.is_none() {
            return;
        }
        match &mut self.net {
            // Whoever knows nothing of the others yet says nothing anew.
            Some(net) if !net.synced => net.timers.policy_ms = Some(at + ANEW_MS),
            Some(_) => self.propose_anew(now),
            None => {}
        }
    }
}

impl Enforced {
    fn unread(&self) -> BTreeSet<OpId> {
        let built = self.built.as_ref();
        built.map_or_else(BTreeSet::new, |built| built.unread.clone())
    }
}

impl Net {
    pub(super) fn directory(&self) -> Directory {
        let realm = self.authority().realm();
        let range = self.authority().genesis().ipv4_range;
        Directory::of_view(&realm.genesis, range, &self.view)
    }
}
