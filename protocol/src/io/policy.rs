//! What people ask of the policy, and what they are told of it.

use std::collections::BTreeSet;

use super::Act;
use crate::id::{NodeId, OpId};
use crate::name::{NodeName, Owner, Tag};
use crate::policy::{Difference, Fault, Outcome, Question, Trouble};
use crate::time::Timestamp;

/// How the policy of a network stands at this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyState {
    /// None has ever existed: all members reach each other.
    #[default]
    Open,
    /// What everybody wrote is enforced.
    InForce,
    /// It cannot be built here: the last one that could is enforced.
    Kept,
    /// It cannot be built here, and none ever could: everything is denied.
    Denied,
}

/// A new text of the whole policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    /// HuJSON.
    pub text: String,
    /// [`PolicyShown::last`] of what the person edited; refused if it is another by now. `None`: whatever it is.
    pub expect: Option<OpId>,
    /// How.
    pub act: Act,
}

/// A text that is the policy for a while only, unless a person keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTrial {
    /// The text.
    pub wanted: PolicyText,
    /// How long, in milliseconds.
    pub for_ms: u64,
}

/// A change of what the policy says of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyStep {
    /// Another name.
    Rename {
        /// Which node.
        node: NodeId,
        /// Its name from then on.
        name: NodeName,
    },
    /// Other tags, another owner.
    Tag {
        /// Which node.
        node: NodeId,
        /// Tags that it is to have.
        add: BTreeSet<Tag>,
        /// Tags that it is not to have.
        remove: BTreeSet<Tag>,
        /// Whose it is from then on; `None`: whose it was.
        owner: Option<Owner>,
    },
}

/// What a policy would be after a step: nothing is signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDraft {
    /// The text to set.
    pub text: String,
    /// The last op of the policy that the step was taken on.
    pub last: Option<OpId>,
    /// Whether there is a policy that it would replace.
    pub exists: bool,
}

/// What is signed together with an invite whose newcomer reaches little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitePolicy {
    /// The newcomer's tag, which the rule is for.
    pub tag: Tag,
    /// The version of the policy from then on.
    pub version: usize,
    /// Whether it is the first policy.
    pub first: bool,
    /// Lines that go and lines that come.
    pub lines: Vec<Difference>,
}

/// A question about the policy as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyQuestion {
    /// The packet; nodes, names and tags are those of today.
    pub question: Question,
    /// The policy as it was after this op; `None`: now.
    pub at: Option<OpId>,
}

/// A line of the policy, and who wrote it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyBlamed {
    /// Its line in the text.
    pub line: u32,
    /// The line, without margin and comma.
    pub text: String,
    /// The op that wrote it so; `None`: it is older than what was looked at.
    pub by: Option<PolicyChange>,
}

/// The policy, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyShown {
    /// Whether a policy exists: what it does not allow is denied.
    pub exists: bool,
    /// What this node enforces.
    pub state: PolicyState,
    /// The text of what is enforced; empty if there is none.
    pub text: String,
    /// How many policy ops count: the newest is the version with this number.
    pub version: usize,
    /// The base in force.
    pub base: Option<OpId>,
    /// The last op that went into the text.
    pub last: Option<OpId>,
    /// Entries that count for nothing until an admin settles them.
    pub conflicts: Vec<Trouble>,
    /// Counting ops without effect, in op order.
    pub orphans: Vec<OpId>,
    /// How many nodes are known to enforce this very text, this one included; and how many there are.
    pub in_force: (usize, usize),
    /// Milliseconds until what this node put on trial is undone, if nobody keeps it.
    pub trial_ms: Option<u64>,
}

/// What is wrong with a text, or with what it says. Nothing wrong: all but `notices` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyChecked {
    /// Faults of the text.
    pub faults: Vec<Fault>,
    /// Tests of the text that its own rules do not pass.
    pub tests: Vec<PolicyTest>,
    /// What is right, and may still not be what was meant.
    pub notices: Vec<Fault>,
}

impl PolicyChecked {
    /// Whether the text may be set.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.tests.is_empty()
    }
}

/// A test that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTest {
    /// Its line.
    pub line: u32,
    /// From where: a node for which it does not hold, else the words of the test.
    pub src: String,
    /// To where, with the ports: in the words of the test.
    pub dst: String,
    /// The node behind `dst` for which it does not hold, if it is not a made-up one.
    pub node: Option<NodeName>,
    /// What the test wants; the rules do the opposite.
    pub want: Outcome,
}

/// Whether a first packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyVerdict {
    /// There is no policy: everything passes.
    Open,
    /// A rule lets it through.
    Allowed,
    /// No rule does.
    Denied,
    /// This node of the two is not in the network: nothing passes.
    Unknown(NodeId),
}

/// Why a node reaches another, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyExplained {
    /// Whether it does.
    pub verdict: PolicyVerdict,
    /// The rule that lets it through; of a denial the one that comes nearest, if one comes near.
    pub rule: Option<PolicyRule>,
    /// What a person may stumble over.
    pub note: Option<&'static str>,
    /// What this node enforces.
    pub state: PolicyState,
    /// How many policy ops count.
    pub version: usize,
    /// How many nodes are known to enforce this, this one included; and how many there are.
    pub in_force: (usize, usize),
}

/// A rule, and who wrote it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// Its line in [`PolicyShown::text`].
    pub line: u32,
    /// That line, without margin and comma.
    pub text: String,
    /// The op that wrote it, as [`Reply::PolicyLog`](super::Reply::PolicyLog) lists it; `None`: not known.
    pub by: Option<PolicyChange>,
}

/// What became of a policy op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyChangeState {
    /// It is part of the policy.
    InForce,
    /// A later base took its place.
    Replaced,
    /// It has no effect: what it builds on has none, or another base won.
    Orphan,
    /// Its body is not here, or says nothing that an edit may say.
    Unread,
}

/// One counting policy op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// Its number among the counting ones, from 1.
    pub version: usize,
    /// The op.
    pub op: OpId,
    /// Whether it is a whole policy.
    pub base: bool,
    /// Who signed it, if that node was ever known.
    pub author: Option<NodeName>,
    /// When, by its author's clock.
    pub said: Timestamp,
    /// When it came, by this node's clock.
    pub heard: Option<Timestamp>,
    /// What became of it.
    pub state: PolicyChangeState,
}

/// What a text would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDiffed {
    /// Lines that go and lines that come, by section.
    pub lines: Vec<Difference>,
    /// What there is to say of the text.
    pub checked: PolicyChecked,
}
