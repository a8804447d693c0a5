//! What an admin says of a relay that belongs to no network.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::codec::Ext;
use crate::id::TransportKey;
use crate::identity::hash;
use crate::name::NodeName;

/// What an admin says of a relay that belongs to no network (`docs/protocol.md` §5.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayRecord {
    /// The relay's T.
    pub transport: TransportKey,
    /// What people call it.
    pub name: NodeName,
    /// Where it is, UDP and TCP alike; strictly ascending, at most `limits::RELAY_ADDRESSES_MAX`.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is not to be used any more.
    pub removed: bool,
    /// Extensions.
    pub ext: Ext,
}

impl RelayRecord {
    /// Which of an author's relay records this is.
    pub(super) fn sub(&self) -> [u8; 32] {
        *hash(self.transport.as_bytes()).as_bytes()
    }
}
