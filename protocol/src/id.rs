//! Identifiers and public keys: newtypes that exist only when their bytes were checked.
//!
//! This room knows how an id looks on the wire and to a person. It does not know what an id may do.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that are no usable Ed25519 public key (`docs/protocol.md` §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the canonical encoding of a curve point.
    #[error("the bytes are not a canonical Ed25519 public key")]
    NotCanonical,
    /// A point of small order: signatures under it prove nothing.
    #[error("the key is of small order")]
    SmallOrder,
}

/// An Ed25519 public key: 32 bytes, canonical, not of small order (`docs/protocol.md` §2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks 32 bytes.
    ///
    /// # Errors
    /// When the bytes are not the canonical form of a point, or the point is of small order.
    pub fn parse(bytes: [u8; 32]) -> Result<Self, KeyError> {
        if !is_reduced(&bytes) {
            return Err(KeyError::NotCanonical);
        }
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotCanonical)?;
        if key.is_weak() {
            // Only x = 0, which only points of small order have, can be written with either sign.
            let canonical = key.to_edwards().compress().to_bytes() == bytes;
            return Err(if canonical {
                KeyError::SmallOrder
            } else {
                KeyError::NotCanonical
            });
        }
        Ok(Self(bytes))
    }

    /// The public half of a secret key: canonical and strong by the way it is made.
    pub(crate) fn derived(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as the signature library wants it.
    pub(crate) fn verifying(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("checked when the key was parsed")
    }

    /// The X25519 public key of the same point, in WireGuard's form.
    #[must_use]
    pub fn to_montgomery(&self) -> [u8; 32] {
        self.verifying().to_montgomery().to_bytes()
    }
}

/// Whether the y coordinate, all bits but the highest, is below 2^255 - 19.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let all_ones = bytes[31] & 0x7F == 0x7F && bytes[1..31].iter().all(|byte| *byte == 0xFF);
    !(all_ones && bytes[0] >= 0xED)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(<[u8; 32]>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(PublicKey);

        impl $name {
            /// Names an already checked key by its use.
            #[must_use]
            pub const fn new(key: PublicKey) -> Self {
                Self(key)
            }

            /// Checks 32 bytes.
            ///
            /// # Errors
            /// As [`PublicKey::parse`].
            pub fn parse(bytes: [u8; 32]) -> Result<Self, KeyError> {
                PublicKey::parse(bytes).map(Self)
            }

            /// The key itself.
            #[must_use]
            pub const fn key(&self) -> &PublicKey {
                &self.0
            }

            /// The 32 bytes of the key.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }

            /// The first 8 symbols of the printed form, for people.
            #[must_use]
            pub fn short(&self) -> String {
                short(self.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32(self.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

key_type! {
    /// A node: the public half of its device key D, one per membership (`docs/protocol.md` §2.2).
    NodeId
}
key_type! {
    /// The public half of a node's transport key T; libp2p's peer id is made of it.
    TransportKey
}
key_type! {
    /// The public half of a node's tunnel key W, in Ed25519 form so that it can sign its own binding.
    TunnelKey
}
key_type! {
    /// The public half of an invite's key I; the secret half is in the code alone.
    InviteKey
}
key_type! {
    /// One of the network's offline root keys.
    RootKey
}

impl TunnelKey {
    /// The public key that WireGuard uses: the Montgomery form of this point.
    #[must_use]
    pub fn wireguard(&self) -> WireGuardKey {
        WireGuardKey(self.0.to_montgomery())
    }
}

/// A WireGuard (X25519) public key: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireGuardKey([u8; 32]);

impl WireGuardKey {
    /// Takes the 32 bytes of a key as they are: every 32 bytes are an X25519 public key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireGuardKey({})", short(&self.0))
    }
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $size:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name([u8; $size]);

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self([0; $size]);

            /// Takes bytes as they are.
            #[must_use]
            pub const fn new(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// The first 8 symbols of the printed form, for people.
            #[must_use]
            pub fn short(&self) -> String {
                short(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

hash_type! {
    /// A network: the first 16 bytes of its genesis id (`docs/protocol.md` §3.2).
    NetworkId, 16
}
hash_type! {
    /// An op: the BLAKE3 derive-key hash of its header (`docs/protocol.md` §3.1).
    OpId, 32
}
hash_type! {
    /// An admit: the BLAKE3 derive-key hash of its bytes (`docs/protocol.md` §4.2).
    AdmitId, 32
}
hash_type! {
    /// A BLAKE3 hash or digest of anything else.
    Digest, 32
}

impl OpId {
    /// Reads the printed form, all of it, in any case.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = base32_parse(&text.to_ascii_lowercase())?;
        bytes.try_into().ok().map(Self)
    }

    /// The network that a genesis with this id founds.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        NetworkId(bytes)
    }
}

/// An Ed25519 signature: 64 bytes, checked where it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes 64 bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", short(&self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut halves = ([0; 32], [0; 32]);
        halves.0.copy_from_slice(&self.0[..32]);
        halves.1.copy_from_slice(&self.0[32..]);
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (front, back) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&front);
        bytes[32..].copy_from_slice(&back);
        Ok(Self(bytes))
    }
}

/// The symbols of Crockford's base32, in the order of their values.
pub const BASE32_SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Writes bytes as lower-case Crockford base32, most significant bit first, the tail padded with zero bits.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(symbol(buffer >> bits));
        }
    }
    if bits > 0 {
        text.push(symbol(buffer << (5 - bits)));
    }
    text
}

/// Reads what [`base32`] wrote: `None` unless the text is the one form of exactly these bytes.
#[must_use]
pub fn base32_parse(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for typed in text.bytes() {
        let known = BASE32_SYMBOLS.iter();
        let value = known
            .map(u8::to_ascii_lowercase)
            .position(|known| known == typed)?;
        buffer = (buffer << 5 | value as u32) & 0xFFFF;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    (base32(&bytes) == text).then_some(bytes)
}

fn symbol(value: u32) -> char {
    char::from(BASE32_SYMBOLS[(value & 31) as usize].to_ascii_lowercase())
}

fn short(bytes: &[u8]) -> String {
    let mut text = base32(&bytes[..5]);
    text.truncate(8);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::hash;

    fn y(first: u8, rest: u8, last: u8) -> [u8; 32] {
        let mut bytes = [rest; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    }

    #[test]
    fn a_key_has_one_encoding() {
        // From p to 2^255 - 1: numbers that stand for smaller ones.
        for first in 0xED..=0xFF {
            for last in [0x7F, 0xFF] {
                let refused = PublicKey::parse(y(first, 0xFF, last));
                assert_eq!(refused, Err(KeyError::NotCanonical));
            }
        }
        // y = 1 and y = -1, where x = 0 has no sign.
        for (even, odd) in [
            (y(1, 0, 0), y(1, 0, 0x80)),
            (y(0xEC, 0xFF, 0x7F), y(0xEC, 0xFF, 0xFF)),
        ] {
            assert_eq!(PublicKey::parse(even), Err(KeyError::SmallOrder));
            assert_eq!(PublicKey::parse(odd), Err(KeyError::NotCanonical));
        }
    }

    #[test]
    fn what_is_taken_for_a_key_is_the_encoding_of_its_point() {
        let mut taken = 0;
        for number in 0..400u32 {
            let bytes = *hash(&number.to_le_bytes()).as_bytes();
            let point = VerifyingKey::from_bytes(&bytes).map(|key| key.to_edwards());
            let canonical = point.is_ok_and(|point| point.compress().to_bytes() == bytes);
            assert_eq!(PublicKey::parse(bytes).is_ok(), canonical);
            taken += u32::from(canonical);
        }
        assert!(taken > 100, "{taken}");
    }
}
