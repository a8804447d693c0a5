//! What the policy would be after a step of one kind: the way by which names, tags and owners are changed.

use std::collections::BTreeSet;

use crate::body::Tags;
use crate::id::{NodeId, OpId};
use crate::io::{CommandId, PolicyDraft, PolicyState, PolicyStep, Refusal, Reply};
use crate::name::{NodeName, Tag};
use crate::node::Node;
use crate::node::net::Net;
use crate::policy::{Directory, Pins, Policy, Rule, Selector, Service, Terms, render};

/// Said above the one rule of a policy that somebody made without meaning to forbid anything.
const OPEN_NOTE: &str = "Everybody reaches everybody, as without a policy.";

impl Node {
    pub(in crate::node) fn draft_policy(
        &mut self,
        command: CommandId,
        step: &PolicyStep,
    ) -> Result<(), Refusal> {
        let net = self.member_net()?;
        let directory = net.directory();
        let (mut policy, last) = net.editable_policy()?;
        take(step, &mut policy, &directory)?;
        let draft = PolicyDraft {
            text: render(&policy, &directory).text,
            last,
            exists: last.is_some(),
        };
        self.reply(command, Reply::PolicyDraft(Box::new(draft)));
        Ok(())
    }
}

impl Net {
    /// The policy that a step is taken on, and its last op: what is in force, or one that allows what holds without.
    pub(super) fn editable_policy(&self) -> Result<(Policy, Option<OpId>), Refusal> {
        match (self.policy.state, &self.policy.built) {
            (PolicyState::Open, _) => Ok((open_policy(), None)),
            (PolicyState::InForce, Some(built)) => {
                Ok((built.reading.policy.clone(), Some(built.last)))
            }
            // Whoever cannot build it would take away what others wrote.
            (PolicyState::InForce | PolicyState::Kept | PolicyState::Denied, _) => {
                Err(Refusal::PolicyUnbuilt)
            }
        }
    }
}

/// The policy that allows what holds without one.
pub(super) fn open_policy() -> Policy {
    let all = || vec![Selector::All];
    let rule = Rule {
        src: all(),
        terms: Terms::Grant {
            dst: all(),
            ip: vec![Service::All],
        },
        note: OPEN_NOTE.to_owned(),
    };
    Policy {
        rules: vec![rule],
        ..Policy::default()
    }
}

fn take(step: &PolicyStep, policy: &mut Policy, directory: &Directory) -> Result<(), Refusal> {
    match step {
        PolicyStep::Rename { node, name } => {
            let known = directory.listings().contains_key(node);
            if !known {
                return Err(Refusal::UnknownNode);
            }
            if is_taken(name, node, policy, directory) {
                return Err(Refusal::NameTaken(name.clone()));
            }
            policy.nodes.entry(*node).or_default().name = Some(name.clone());
        }
        PolicyStep::Tag {
            node,
            add,
            remove,
            owner,
        } => {
            let listing = directory.listings().get(node);
            let listing = listing.ok_or(Refusal::UnknownNode)?;
            let pins = policy.nodes.entry(*node).or_default();
            let old = pins.tags.as_ref().unwrap_or(&listing.tags);
            let kept = old.iter().filter(|tag| !remove.contains(tag));
            let tags: BTreeSet<Tag> = kept.chain(add).cloned().collect();
            Tags::new(tags.iter().cloned().collect())
                .map_err(|_| Refusal::Limit("a node has at most 16 tags"))?;
            if tags != *old {
                pins.tags = Some(tags);
            }
            let owned = pins.owner.as_ref().or(listing.owner.as_ref());
            if owner.is_some() && owner.as_ref() != owned {
                pins.owner.clone_from(owner);
            }
            if *pins == Pins::default() {
                policy.nodes.remove(node);
            }
        }
    }
    Ok(())
}

/// Whether another node has a name, or is to have it.
fn is_taken(name: &NodeName, of: &NodeId, policy: &Policy, directory: &Directory) -> bool {
    let pinned = |id: &NodeId| policy.nodes.get(id).and_then(|pins| pins.name.as_ref());
    let mut pins = policy.nodes.keys().filter(|id| *id != of);
    let mut listed = directory.listings().values();
    pins.any(|id| pinned(id) == Some(name))
        || listed.any(|other| other.id != *of && pinned(&other.id).unwrap_or(&other.name) == name)
}
