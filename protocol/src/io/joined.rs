//! What a join tells on its way and at its end.

use super::Interface;
use crate::id::NodeId;
use crate::name::{NetworkName, NodeName};
use crate::record::ControlAddress;

/// A step of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// A member proved itself.
    Found {
        /// Its name, as far as known.
        name: Option<NodeName>,
        /// Where.
        remote: ControlAddress,
        /// Whether the LAN's own announcement led there.
        lan: bool,
    },
    /// The member wants an admin's approval; the fingerprint is the same on both screens.
    Waiting {
        /// Eight symbols with a hyphen.
        fingerprint: String,
    },
}

/// A join that is through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The network's name.
    pub network: NetworkName,
    /// This node's name.
    pub name: NodeName,
    /// The name it had wished, if that was taken.
    pub wished: Option<NodeName>,
    /// Its addresses.
    pub interface: Interface,
    /// Who let it in.
    pub witness: NodeId,
    /// Whether an admin confirmed it already.
    pub settled: bool,
}
