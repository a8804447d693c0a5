//! The card of a device: who it is, and who let it in.

use super::Member;
use crate::body::Level;
use crate::id::{NodeId, OpId, TransportKey, TunnelKey};
use crate::name::NodeName;
use crate::time::Timestamp;

/// Everything that this node knows for certain about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The device.
    pub member: Member,
    /// Its transport key in force; the device key is its id.
    pub transport: Option<TransportKey>,
    /// Its tunnel key in force.
    pub tunnel: Option<TunnelKey>,
    /// Who let it in.
    pub let_in: LetIn,
}

/// A device that signed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its id.
    pub id: NodeId,
    /// Its name, while it is in.
    pub name: Option<NodeName>,
}

/// By whose word a device is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetIn {
    /// By nobody's: it founded the network.
    Founder {
        /// When the founder says that was.
        said: Timestamp,
    },
    /// By an invite that it showed to a member.
    Invite {
        /// The Invite op.
        invite: OpId,
        /// Who made it.
        issuer: Option<Who>,
        /// How many devices it is for.
        uses: Option<u16>,
        /// The member that it was shown to.
        witness: Who,
        /// The admin that confirmed it; `None` while it is provisional, pending or quarantined.
        settled_by: Option<MadeAdmin>,
        /// When the admin says that was, or before that what the claim says.
        said: Timestamp,
    },
    /// By an admin's grant without an invite.
    Grant {
        /// The admin; `None`: the root keys.
        by: Option<MadeAdmin>,
        /// When the admin says that was.
        said: Timestamp,
    },
}

/// An admin, and who made it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeAdmin {
    /// The admin.
    pub who: Who,
    /// Its level when it signed.
    pub level: Level,
    /// Who made it an admin; `None`: it founded the network, or the root keys did.
    pub by: Option<Who>,
    /// Whether it founded the network.
    pub founder: bool,
}
