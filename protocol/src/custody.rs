//! The secrets file of a membership: canonical bytes that only the store sees (`docs/protocol.md` §9.1).

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::{CodecError, Ext, decode, encode};
use crate::identity::{Keys, Secret};

const VERSION: u8 = 1;
const BYTES_MAX: usize = 64 * 1024;

/// What must never be lost nor leave: the keys, the network they are for, and its epoch keys.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Custody {
    version: u8,
    device: [u8; 32],
    transport: [u8; 32],
    tunnel: [u8; 32],
    /// The genesis op; empty until a member showed it.
    pub genesis: Vec<u8>,
    /// Epoch keys: number and key, ascending.
    pub epochs: Vec<(u32, [u8; 32])>,
    /// The locator of the code that the keys were shown for; zero for a founder. Another code gets other keys.
    pub code: [u8; 16],
    /// Whether the node is in: a founder, or a joiner that caught up with its witness.
    pub joined: bool,
    #[zeroize(skip)]
    ext: Ext,
}

/// The bytes of a secrets file: erased when dropped, and in no text for people.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptSecrets(Zeroizing<Vec<u8>>);

impl From<Zeroizing<Vec<u8>>> for KeptSecrets {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for KeptSecrets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for KeptSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptSecrets(..)")
    }
}

impl std::fmt::Debug for Custody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Custody {{ joined: {}, .. }}", self.joined)
    }
}

impl Custody {
    /// For new keys.
    #[must_use]
    pub fn new(keys: &Keys) -> Self {
        Self {
            version: VERSION,
            device: *keys.device.danger_seed(),
            transport: *keys.transport.danger_seed(),
            tunnel: *keys.tunnel.danger_seed(),
            genesis: Vec::new(),
            epochs: Vec::new(),
            code: [0; 16],
            joined: false,
            ext: Ext::NONE,
        }
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> KeptSecrets {
        KeptSecrets(Zeroizing::new(encode(self)))
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// When they are not a secrets file that this version understands.
    pub fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let custody: Self = decode(bytes, BYTES_MAX)?;
        if custody.version == VERSION && !custody.ext.must_understand() {
            Ok(custody)
        } else {
            Err(CodecError::Malformed)
        }
    }

    /// Takes new transport and tunnel keys; they are in force from the next start.
    pub fn rotate(&mut self, transport: Option<&Secret>, tunnel: &Secret) {
        if let Some(transport) = transport {
            self.transport = *transport.danger_seed();
        }
        self.tunnel = *tunnel.danger_seed();
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys {
            device: Secret::from_seed(&self.device),
            transport: Secret::from_seed(&self.transport),
            tunnel: Secret::from_seed(&self.tunnel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_demands_more_understanding_is_refused() {
        let seed = |byte| Secret::from_seed(&[byte; 32]);
        let keys = Keys {
            device: seed(1),
            transport: seed(2),
            tunnel: seed(3),
        };
        let mut custody = Custody::new(&keys);
        custody.ext = Ext::new(vec![(0x7FFF, vec![1])]).unwrap();
        assert!(Custody::parse(&custody.to_bytes()).is_ok());
        custody.ext = Ext::new(vec![(0x8000, vec![1])]).unwrap();
        let refused = Custody::parse(&custody.to_bytes()).map(|_| ());
        assert_eq!(refused, Err(CodecError::Malformed));
    }
}
