//! Flows between two ends, packet by packet; and random packets against a table that never forgets too early.

use meshnode_protocol::identity::Secret;

use super::*;

/// The device of a number.
pub(crate) fn device(number: u8) -> NodeId {
    NodeId::new(Secret::from_seed(&[number; 32]).public())
}

/// A filter that lets everything through.
pub(crate) fn open(number: u8) -> PeerFilter {
    PeerFilter::new(&Terms::default(), device(number), Arc::new(Filter::Open))
}
