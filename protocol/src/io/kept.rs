//! What a node keeps: what it writes, what a store gives back, what was new in a file.

use crate::custody::KeptSecrets;
use crate::id::{AdmitId, Digest, NodeId, OpId};
use crate::time::Timestamp;

/// One thing to keep. Every one is valid by itself, so any subset after a crash is a valid replica.
#[derive(Clone, Debug)]
pub enum Write {
    /// An op, by its id.
    Op(OpId, Vec<u8>),
    /// An admit, by its id.
    Admit(AdmitId, Vec<u8>),
    /// An admit that a smaller one replaced.
    DropAdmit(AdmitId),
    /// A device record, by its slot's key; replaces the one before.
    Record(Digest, Vec<u8>),
    /// A device record that lost its place, by its slot's key.
    DropRecord(Digest),
    /// Keys of this membership and of the epochs; canonical bytes of the core's own, to be kept apart with mode 0600.
    Secrets(KeptSecrets),
    /// The authority heads: what must be there again at the next start.
    Heads(Vec<OpId>),
    /// When an op came to this node, by its own clock: for people.
    Heard(OpId, Timestamp),
    /// The devices that a person blocked on this node, ascending; replaces the list before.
    Blocked(Vec<NodeId>),
    /// The change of the policy that this node put on trial; replaces the one before.
    Trial(Option<Trial>),
}

/// A change of the policy that is undone when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The op.
    pub op: OpId,
    /// When it is undone, by this node's clock.
    pub due: Timestamp,
    /// How long it was to last, in milliseconds: a clock that went wrong does not make it last longer. Zero: it is
    /// over, and only not to be said anew.
    pub for_ms: u64,
}

/// What a store gives back at start: whatever it still has, unproven.
#[derive(Debug, Default)]
pub struct Stored {
    /// The bytes of the last [`Write::Secrets`].
    pub secrets: Option<KeptSecrets>,
    /// All ops, any order.
    pub ops: Vec<Vec<u8>>,
    /// All admits.
    pub admits: Vec<Vec<u8>>,
    /// All records.
    pub records: Vec<Vec<u8>>,
    /// The last [`Write::Heads`].
    pub heads: Vec<OpId>,
    /// When ops came, as far as it was noted.
    pub heard: Vec<(OpId, Timestamp)>,
    /// The last [`Write::Blocked`].
    pub blocked: Vec<NodeId>,
    /// The last [`Write::Trial`].
    pub trial: Option<Trial>,
    /// The store was damaged so that what is missing cannot be told.
    pub suspect: bool,
}

/// What was new among imported items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Ops.
    pub ops: usize,
    /// Admits.
    pub admits: usize,
    /// Records.
    pub records: usize,
    /// Items that do not hold: malformed, unsigned, or of another network.
    pub refused: usize,
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::custody::Custody;
    use crate::identity::Keys;

    #[test]
    fn what_a_node_keeps_shows_no_secret() {
        let keys = Keys::generate(&mut ChaCha20Rng::from_seed([7; 32]));
        let bytes = Custody::new(&keys).to_bytes();
        let stored = Stored {
            secrets: Some(bytes.clone()),
            ..Stored::default()
        };
        let shown = format!("{:?} {stored:?}", Write::Secrets(bytes.clone()));
        // A list of numbers is how Rust shows bytes.
        let seed = keys.device.danger_seed();
        let numbers = format!("{:?}", &seed[..4]);
        let numbers = numbers.trim_matches(['[', ']']);
        assert!(bytes.windows(4).any(|four| *four == seed[..4]));
        assert!(!shown.contains(numbers), "{shown}");
        assert!(shown.starts_with("Secrets(KeptSecrets(..))"), "{shown}");
    }
}
