//! Why something cannot be done.

use crate::body::Level;
use crate::id::OpId;
use crate::name::{NodeName, Tag};
use crate::time::Timestamp;

/// Why a command cannot be done. The words for people are the command line's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Only admins may; these are the admins, and whether each is online.
    NotAdmin(Vec<(NodeName, bool)>),
    /// The only admin does not leave.
    LastAdmin,
    /// The membership of this node is not through yet, or is being rebuilt.
    NotReady,
    /// No such node.
    UnknownNode,
    /// A node cannot ping itself over the network.
    SelfPing,
    /// Nobody answered for the code in time; what was asked.
    NobodyAnswered(Vec<String>),
    /// Somebody at this address answered, but could not prove to be the code's network.
    NotTheNetwork(String),
    /// A member refused the invite.
    Invite(InviteRefusal),
    /// An admin did not approve in time; the node goes on waiting. The fingerprint.
    StillWaiting(String),
    /// This machine's clock, and the network's.
    Clock {
        /// What this machine's clock says.
        ours: Timestamp,
        /// What the network's says.
        theirs: Timestamp,
    },
    /// The disk does not take writes.
    Disk(String),
    /// The network has ops that this version does not understand.
    Outdated,
    /// Too many heads, invites or names of some kind: a limit of this program.
    Limit(&'static str),
    /// A node does not revoke itself: it leaves.
    RevokeSelf,
    /// The node is at least as senior as this one.
    TooJunior {
        /// Whom the act is about.
        node: NodeName,
        /// Its level.
        level: Level,
        /// This node's level.
        own: Level,
        /// Admins that are senior enough, and whether each is online.
        admins: Vec<(NodeName, bool)>,
    },
    /// No such invite, or it is closed already.
    UnknownInvite(OpId),
    /// The node does not wait for anything.
    NotPending(NodeName),
    /// It is an admin already.
    AlreadyAdmin(NodeName),
    /// It is no admin.
    NotAnAdmin(NodeName),
    /// Not a root key of this network.
    WrongPhrase,
    /// The petition is of another network, or damaged, or was made from other heads.
    BadPetition,
    /// `--since` names an op or a time that lies not in what this node knows.
    UnknownSince,
    /// No policy op with this id counts, or its body is not here.
    UnknownVersion(OpId),
    /// Somebody changed the policy since the person looked at it.
    PolicyMoved,
    /// The policy cannot be built here, so that a step on it would undo what others said.
    PolicyUnbuilt,
    /// A change is on trial for so many milliseconds more.
    OnTrial(u64),
    /// Nothing is on trial.
    NoTrial,
    /// By this rule, nodes with the tag would reach more than they are to.
    Stray(Tag, String),
    /// Another node has this name.
    NameTaken(NodeName),
    /// The policy takes so many bytes, and so many are the most.
    PolicyTooLarge {
        /// What it takes.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
    /// This node was put out of its network.
    Revoked,
}

/// Why a member does not honour a known code (`docs/protocol.md` §6.4).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InviteRefusal {
    /// It ended.
    Expired {
        /// When.
        not_after: Timestamp,
        /// Admins that can make another.
        admins: Vec<NodeName>,
    },
    /// Taken.
    UsedUp {
        /// By whom, as far as known.
        by: Option<NodeName>,
        /// When that was.
        at: Timestamp,
        /// How many may use it.
        uses: u16,
    },
    /// Closed, or its issuer is an admin no longer.
    Closed,
    /// The member's own clock is too far off to judge.
    WitnessClock,
    /// The member is not settled itself, or its program is too old to let anybody in.
    NotWitness,
    /// An admin put this machine's keys out.
    Declined {
        /// Who did; `None`: the root set.
        by: Option<NodeName>,
    },
}
