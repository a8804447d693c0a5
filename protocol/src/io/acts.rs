//! What admins want done to the network, and what they are told of it.

use std::fmt;

use super::Standing;
use crate::body::{Kind, Level, Tags};
use crate::id::{NodeId, OpId, PublicKey};
use crate::identity::Secret;
use crate::name::{NodeName, Owner};
use crate::time::Timestamp;

/// How an act is carried out. Unless it is refused, the replies are [`super::Reply::Acted`], then, unless it is a dry
/// run, one [`super::Reply::Heard`] for every node that heard it and [`super::Reply::HeardDone`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// Sign nothing, say what would be signed.
    pub dry_run: bool,
    /// How long to wait for other nodes to hear it; `u64::MAX`: until all have.
    pub wait_ms: u64,
}

/// Whom to put out, and what stays of what it signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeOptions {
    /// Whom; several are one act.
    pub nodes: Vec<NodeId>,
    /// All nodes of this owner, besides those.
    pub owner: Option<Owner>,
    /// Why, for people.
    pub reason: String,
    /// What they signed from here on falls; `None`: only what this node has not heard yet.
    pub since: Option<Since>,
    /// Somebody else holds the keys: not even its revocations are spared.
    pub stolen: bool,
    /// Act as the root set.
    pub recovery: Option<Roots>,
    /// How.
    pub act: Act,
}

/// From where on what somebody signed falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Ops that claim this time or a later one, and all that rest on them.
    Time(Timestamp),
    /// This op, and all that rest on it.
    Op(OpId),
}

/// Whom to let in, and as what; what is `None` is as the invite says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Whom.
    pub device: NodeId,
    /// Its name.
    pub name: Option<NodeName>,
    /// Its tags.
    pub tags: Option<Tags>,
    /// Whose it is.
    pub owner: Option<Owner>,
}

/// Root keys, typed or read by a person. Never printed, erased when dropped.
#[derive(Clone)]
pub struct Roots(Vec<Secret>);

impl Roots {
    /// Of the secrets that the phrases give.
    #[must_use]
    pub const fn new(keys: Vec<Secret>) -> Self {
        Self(keys)
    }

    /// The secrets, to sign with.
    #[must_use]
    pub fn secrets(&self) -> &[Secret] {
        &self.0
    }

    fn public(&self) -> Vec<PublicKey> {
        self.0.iter().map(Secret::public).collect()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// Secret keys are equal when their public halves are.
impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl Eq for Roots {}

/// What the root set is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryOptions {
    /// Keys that are here; with those that signed the petition they must reach the threshold.
    pub roots: Roots,
    /// What other holders of root keys signed, if that is needed: what was asked the first time is what is done.
    pub petition: Option<Petition>,
    /// Lost admins, put out in the same act.
    pub lost: Vec<NodeId>,
    /// What the lost admins signed from here on falls.
    pub since: Option<Since>,
    /// Somebody else holds the keys of the lost admins.
    pub stolen: bool,
    /// How.
    pub act: Act,
}

/// Root ops that not enough root keys signed yet: the bytes of a file that goes from one holder to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Petition {
    /// What to write, and what to read. Not secret.
    pub bytes: Vec<u8>,
    /// How many keys signed.
    pub signed: usize,
    /// How many must.
    pub threshold: usize,
}

/// What an act signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// The ops, in order; without ids in a dry run.
    pub ops: Vec<Signed>,
    /// What follows from them.
    pub plan: Plan,
    /// Whether nothing was signed.
    pub dry_run: bool,
    /// How many nodes are to hear it: all live ones but this.
    pub of: usize,
}

/// One signed op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Its id; `None` in a dry run.
    pub id: Option<OpId>,
    /// What it is.
    pub kind: Kind,
    /// The device it is about, if it is about one.
    pub subject: Option<NodeName>,
    /// What its date says.
    pub said: Timestamp,
}

/// What an act does to the network, by the view before and the view after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Devices that are put out by name.
    pub out: Vec<(NodeId, NodeName)>,
    /// What falls with them.
    pub falls: Vec<Fallen>,
    /// Devices whose right rested on theirs, and that stay because this act grants it again.
    pub granted_again: Vec<(NodeId, NodeName)>,
    /// Revocations of theirs that are spared: who stays out.
    pub spared: Vec<NodeName>,
    /// Ops of theirs that stay because they lie before the cut.
    pub kept: usize,
    /// The epoch before and after.
    pub epoch: Option<(u32, u32)>,
    /// Who becomes an admin, and the level.
    pub admin: Option<(NodeName, Level)>,
}

/// Something that counts no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallen {
    /// A device is out with them.
    Member(NodeId, NodeName),
    /// A device is no admin any more.
    Admin(NodeId, NodeName),
    /// An invite is closed.
    Invite(OpId),
    /// A revocation does not count any more: this device is in again.
    Revocation(NodeId, NodeName),
    /// A change of the policy.
    Policy(OpId),
}

/// A node that has heard an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardBy {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Milliseconds since the act was signed.
    pub ms: u64,
}

/// A node that has not heard an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Milliseconds since it was last heard; `None`: not since this node's start.
    pub last_seen_ms: Option<u64>,
}

/// Somebody who waits for an admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingInfo {
    /// Who.
    pub id: NodeId,
    /// The name it would have.
    pub name: NodeName,
    /// The same on its own screen.
    pub fingerprint: String,
    /// The invite it redeemed.
    pub invite: OpId,
    /// Who let it in, if that node is still known.
    pub witness: Option<NodeName>,
    /// When it asked, by the witness's clock.
    pub since: Timestamp,
    /// Pending or quarantined.
    pub standing: Standing,
}

/// An invite, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteInfo {
    /// The op.
    pub id: OpId,
    /// Whether it still lets anybody in.
    pub state: InviteState,
    /// How many machines may use it.
    pub uses: u16,
    /// Who used it, as far as they are still known: settled and provisional ones.
    pub used_by: Vec<NodeName>,
    /// How many places are taken.
    pub used: usize,
    /// When it ends.
    pub expires: Timestamp,
    /// Who made it, if that node is still known.
    pub issuer: Option<NodeName>,
    /// Name of the newcomer.
    pub name: Option<NodeName>,
    /// Tags of the newcomer.
    pub tags: Tags,
    /// Whether an admin must approve.
    pub approve: bool,
}

/// How an invite stands, by this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InviteState {
    /// Lets somebody in.
    Open,
    /// All its places are taken.
    Used,
    /// Its time is over.
    Expired,
    /// Somebody closed it, or its issuer is an admin no longer.
    Cancelled,
}

/// An admin, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminInfo {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its level.
    pub level: Level,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Who made it an admin; `None`: the founding, or the root set.
    pub by: Option<NodeName>,
    /// Whether it is reachable.
    pub online: bool,
    /// When it last said what it knows, by its clock.
    pub tip: Option<Timestamp>,
}
