//! The words for the policy: what is asked of it, and what the daemon tells.

use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::name::{NodeName, Owner, Tag};
use meshnode_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What is asked; nothing of it changes anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PolicyAsk {
    /// The policy. Answer [`PolicyTold::Shown`].
    Show {
        /// As it was after this op; `None`: now.
        at: Option<OpId>,
    },
    /// What it would be after a step. Answer [`PolicyTold::Draft`].
    Draft(Step),
    /// Who wrote each line. Answer [`PolicyTold::Blame`].
    Blame {
        /// Of the policy as it was after this op; `None`: now.
        at: Option<OpId>,
    },
    /// Whether a text can be set. Answer [`PolicyTold::Checked`].
    Check {
        /// The text.
        text: String,
    },
    /// What a text would change. Answer [`PolicyTold::Diff`].
    Diff {
        /// Of this text; `None`: of the policy.
        from: Option<String>,
        /// The text.
        text: String,
    },
    /// Whether a first packet passes. Answer [`PolicyTold::Explained`].
    Explain {
        /// From where.
        src: NodeId,
        /// To where.
        dst: NodeId,
        /// The IP protocol.
        protocol: u8,
        /// The port at the destination, if one is meant.
        port: Option<u16>,
        /// By the policy as it was after this op; `None`: now.
        at: Option<OpId>,
    },
    /// The policy ops that count. Answer [`PolicyTold::Log`].
    Log,
}

/// A change of what the policy says of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
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
        add: Vec<Tag>,
        /// Tags that it is not to have.
        remove: Vec<Tag>,
        /// Whose it is from then on.
        owner: Option<Owner>,
    },
}

/// What the policy would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Draft {
    /// The text to set.
    pub(crate) text: String,
    /// The last op of the policy that it would replace.
    pub(crate) last: Option<OpId>,
    /// Whether there is a policy already.
    pub(crate) exists: bool,
}

/// What is signed together with an invite whose newcomer reaches little.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InviteRules {
    /// The newcomer's tag.
    pub(crate) tag: Tag,
    /// The version of the policy from then on.
    pub(crate) version: usize,
    /// Whether it is the first policy.
    pub(crate) first: bool,
    /// Lines that go and lines that come.
    pub(crate) lines: Vec<DiffLine>,
}

/// A line of the policy, and who wrote it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blamed {
    /// Its line.
    pub(crate) line: u32,
    /// The line itself.
    pub(crate) text: String,
    /// The op that wrote it so.
    pub(crate) by: Option<Change>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PolicyTold {
    /// The policy.
    Shown(Box<PolicyShown>),
    /// What is wrong with a text.
    Checked(PolicyChecked),
    /// What a text would change.
    Diff {
        /// Lines that go and lines that come.
        lines: Vec<DiffLine>,
        /// What is wrong with the text.
        checked: PolicyChecked,
    },
    /// Whether a first packet passes.
    Explained(Box<Explained>),
    /// The policy ops that count, oldest first.
    Log(Vec<Change>),
    /// What the policy would be.
    Draft(Box<Draft>),
    /// Who wrote each line.
    Blame(Vec<Blamed>),
}

/// What this node enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PolicyState {
    /// There is no policy.
    Open,
    /// What everybody wrote.
    InForce,
    /// The last policy that could be built here.
    Kept,
    /// Nothing passes, for the policy cannot be built here.
    Denied,
}

impl PolicyState {
    /// The word for programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InForce => "in_force",
            Self::Kept => "kept",
            Self::Denied => "denied",
        }
    }
}

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyShown {
    /// Whether there is one.
    pub(crate) exists: bool,
    /// What is enforced here.
    pub(crate) state: PolicyState,
    /// Its text.
    pub(crate) text: String,
    /// How many policy ops count.
    pub(crate) version: usize,
    /// The last op that went into the text.
    pub(crate) last: Option<OpId>,
    /// Entries that count for nothing, and why.
    pub(crate) conflicts: Vec<String>,
    /// Policy ops without effect.
    pub(crate) orphans: Vec<OpId>,
    /// Milliseconds until what was put on trial here is undone.
    pub(crate) trial_ms: Option<u64>,
    /// How many nodes are known to enforce it, and how many there are; this one included.
    pub(crate) in_force: (usize, usize),
}

/// A place in a text, and what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// The line, from 1.
    pub(crate) line: u32,
    /// The column, from 1.
    pub(crate) column: u32,
    /// What is wrong.
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// What is wrong with a text, or with what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PolicyChecked {
    /// Faults of the text.
    pub(crate) faults: Vec<Fault>,
    /// Tests that do not hold.
    pub(crate) tests: Vec<FailedTest>,
    /// What is right, and may still not be what was meant.
    pub(crate) notices: Vec<Fault>,
}

impl PolicyChecked {
    /// Whether the text may be set.
    pub(crate) fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.tests.is_empty()
    }
}

/// A test that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedTest {
    /// Its line.
    pub(crate) line: u32,
    /// From where.
    pub(crate) src: String,
    /// To where, with the ports.
    pub(crate) dst: String,
    /// The node behind the destination for which it does not hold.
    pub(crate) node: Option<NodeName>,
    /// Whether it is to pass; the rules do the opposite.
    pub(crate) wants_allow: bool,
}

/// A line that only one of two policies has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiffLine {
    /// Whether the new policy has it.
    pub(crate) added: bool,
    /// The section it stands in.
    pub(crate) section: String,
    /// Its line in the policy that has it.
    pub(crate) line: u32,
    /// The line itself.
    pub(crate) text: String,
}

/// Whether a first packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// There is no policy: everything passes.
    Open,
    /// A rule lets it through.
    Allowed,
    /// No rule does.
    Denied,
    /// This node is not in the network.
    Unknown(NodeId),
}

/// Why a node reaches another, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// Whether it does.
    pub(crate) verdict: Verdict,
    /// The rule that decides, or comes nearest.
    pub(crate) rule: Option<RuleLine>,
    /// What a person may stumble over.
    pub(crate) note: Option<String>,
    /// What is enforced here.
    pub(crate) state: PolicyState,
    /// How many policy ops count.
    pub(crate) version: usize,
    /// How many nodes are known to enforce it, and how many there are; this one included.
    pub(crate) in_force: (usize, usize),
}

/// A rule as it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleLine {
    /// Its line.
    pub(crate) line: u32,
    /// The line itself.
    pub(crate) text: String,
    /// The op that wrote it.
    pub(crate) by: Option<Change>,
}

/// What became of a policy op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChangeState {
    /// Part of the policy.
    InForce,
    /// A later base took its place.
    Replaced,
    /// Without effect.
    Orphan,
    /// It cannot be read here.
    Unread,
}

impl ChangeState {
    /// The word for programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::InForce => "in_force",
            Self::Replaced => "replaced",
            Self::Orphan => "orphan",
            Self::Unread => "unread",
        }
    }
}

/// One policy op that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Its number among them, from 1.
    pub(crate) version: usize,
    /// The op.
    pub(crate) op: OpId,
    /// Whether it is a whole policy.
    pub(crate) base: bool,
    /// Who signed it.
    pub(crate) author: Option<NodeName>,
    /// When, as its author says.
    pub(crate) said: Timestamp,
    /// When this node stored it.
    pub(crate) heard: Option<Timestamp>,
    /// What became of it.
    pub(crate) state: ChangeState,
}
