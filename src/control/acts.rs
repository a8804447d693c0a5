//! The words for acts of admins: what is asked, what was signed, who heard it.

use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::name::{NodeName, Owner, Tag};
use meshnode_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::SecretText;

/// An act that signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActRequest {
    /// What.
    pub(crate) act: Act,
    /// Sign nothing, say what would be signed.
    pub(crate) dry_run: bool,
    /// How long to wait for others to hear it; `u64::MAX`: until all have.
    pub(crate) wait_ms: u64,
}

/// What an admin does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Put nodes out.
    Revoke(Revoke),
    /// Let in who waits.
    Approve(Vec<Approval>),
    /// Refuse who waits.
    Deny {
        /// Whom.
        joiners: Vec<NodeId>,
        /// Why, for people.
        reason: String,
    },
    /// End invites.
    InviteCancel(Vec<OpId>),
    /// Make a member an admin.
    AdminAdd(NodeId),
    /// Make an admin a plain member.
    AdminRemove(NodeId),
    /// Make this node an admin by the root keys.
    RecoveryUse(Recovery),
    /// Start a new epoch.
    RotateNetwork,
    /// Have this policy.
    PolicySet {
        /// Its text.
        text: String,
        /// The last op of the policy that was edited, if it must still be that.
        expect: Option<OpId>,
    },
    /// Have this policy until a time is over.
    PolicyTry {
        /// Its text.
        text: String,
        /// The last op of the policy that was edited, if it must still be that.
        expect: Option<OpId>,
        /// How long.
        for_ms: u64,
    },
    /// Say again what the policy said after this op.
    PolicyRollback(OpId),
}

/// Whom to put out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revoke {
    /// Whom.
    pub(crate) nodes: Vec<NodeId>,
    /// All nodes of this owner, too.
    pub(crate) owner: Option<Owner>,
    /// Why, for people.
    pub(crate) reason: String,
    /// From where on what they signed falls.
    pub(crate) since: Option<Since>,
    /// Not even their revocations are spared.
    pub(crate) stolen: bool,
    /// Act as the root set, with these phrases.
    pub(crate) phrases: Vec<SecretText>,
}

/// From where on what somebody signed falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Since {
    /// What claims this time or a later one.
    Time(Timestamp),
    /// This op.
    Op(OpId),
}

/// Whom to let in, and as what; `None`: as the invite says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approval {
    /// Whom.
    pub(crate) device: NodeId,
    /// Its name.
    pub(crate) name: Option<NodeName>,
    /// Its tags.
    pub(crate) tags: Option<Vec<Tag>>,
    /// Whose it is.
    pub(crate) owner: Option<Owner>,
}

/// The way back when the admins are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// Phrases typed here.
    pub(crate) phrases: Vec<SecretText>,
    /// What other holders of phrases signed.
    pub(crate) petition: Option<Vec<u8>>,
    /// Lost admins to put out.
    pub(crate) lost: Vec<NodeId>,
    /// From where on what they signed falls.
    pub(crate) since: Option<Since>,
    /// Somebody else holds their keys.
    pub(crate) stolen: bool,
}

/// What an act signed, or would sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acted {
    /// The ops, in order.
    pub(crate) ops: Vec<Signed>,
    /// What follows.
    pub(crate) plan: Plan,
    /// Whether nothing was signed.
    pub(crate) dry_run: bool,
    /// How many nodes are to hear it.
    pub(crate) of: usize,
}

/// One signed op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signed {
    /// Its id; `None` in a dry run.
    pub(crate) id: Option<OpId>,
    /// What it is.
    pub(crate) kind: String,
    /// The node it is about.
    pub(crate) subject: Option<NodeName>,
    /// What its date says.
    pub(crate) said: Timestamp,
}

/// What an act does to the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Nodes that are put out by name.
    pub(crate) out: Vec<NodeName>,
    /// What falls with them.
    pub(crate) falls: Vec<Fallen>,
    /// Nodes that stay because the act grants them again.
    pub(crate) granted_again: Vec<NodeName>,
    /// Nodes that stay out, though who revoked them falls.
    pub(crate) spared: Vec<NodeName>,
    /// Ops of theirs before the cut.
    pub(crate) kept: usize,
    /// The epoch before and after.
    pub(crate) epoch: Option<(u32, u32)>,
    /// Who becomes an admin, and its level.
    pub(crate) admin: Option<(NodeName, u8)>,
}

/// Something that counts no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fallen {
    /// A node is out with them.
    Member(NodeName),
    /// A node is no admin any more.
    Admin(NodeName),
    /// An invite is closed.
    Invite(OpId),
    /// A revocation counts no more: this node is in again.
    Revocation(NodeName),
    /// A change of the policy.
    Policy(OpId),
}

/// A node that has heard an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeardBy {
    /// Its id.
    pub(crate) id: NodeId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Milliseconds since the act.
    pub(crate) ms: u64,
}

/// Who has not heard an act when the wait for them is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeardDone {
    /// How many heard it.
    pub(crate) heard: usize,
    /// How many nodes there are besides this one.
    pub(crate) of: usize,
    /// The others.
    pub(crate) unreached: Vec<Unreached>,
}

/// A node that has not heard an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unreached {
    /// Its id.
    pub(crate) id: NodeId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Seconds since it was last heard; `None`: not since the daemon's start.
    pub(crate) last_seen_s: Option<u64>,
}

/// Somebody who waits for an admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Who.
    pub(crate) id: NodeId,
    /// The name it would have.
    pub(crate) name: NodeName,
    /// The same on its own screen.
    pub(crate) fingerprint: String,
    /// The invite it redeemed.
    pub(crate) invite: OpId,
    /// Who let it ask.
    pub(crate) witness: Option<NodeName>,
    /// When.
    pub(crate) since: Timestamp,
    /// Whether too many used the invite.
    pub(crate) quarantined: bool,
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InviteReport {
    /// The op.
    pub(crate) id: OpId,
    /// Whether it still lets anybody in.
    pub(crate) state: InviteState,
    /// How many machines may use it.
    pub(crate) uses: u16,
    /// Who used it.
    pub(crate) used_by: Vec<NodeName>,
    /// How many places are taken.
    pub(crate) used: usize,
    /// When it ends.
    pub(crate) expires: Timestamp,
    /// Who made it.
    pub(crate) issuer: Option<NodeName>,
    /// Name of the newcomer.
    pub(crate) name: Option<NodeName>,
    /// Tags of the newcomer.
    pub(crate) tags: Vec<Tag>,
    /// Whether an admin must approve.
    pub(crate) approve: bool,
}

/// How an invite stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InviteState {
    /// Lets somebody in.
    Open,
    /// All places are taken.
    Used,
    /// Its time is over.
    Expired,
    /// Closed.
    Cancelled,
}

impl InviteState {
    /// The word for people and programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admin {
    /// Its id.
    pub(crate) id: NodeId,
    /// Its name.
    pub(crate) name: NodeName,
    /// Its level.
    pub(crate) level: u8,
    /// Whose it is.
    pub(crate) owner: Option<Owner>,
    /// Who made it one.
    pub(crate) by: Option<NodeName>,
    /// Whether it is reachable.
    pub(crate) online: bool,
    /// When it last said what it knows.
    pub(crate) tip: Option<Timestamp>,
}

/// What more holders of root keys have to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Petition {
    /// The bytes of the file that goes round.
    pub(crate) bytes: Vec<u8>,
    /// How many keys signed.
    pub(crate) signed: usize,
    /// How many must.
    pub(crate) threshold: usize,
}
