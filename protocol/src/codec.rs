//! Canonical bytes: one value has one encoding, and nothing else is accepted (`docs/protocol.md` §1).
//!
//! The encoding is postcard. Postcard alone accepts over-long integers and trailing bytes, so the decoder here
//! consumes everything and compares the re-encoding with its input.

use serde::{Deserialize, Deserializer, Serialize, de, de::DeserializeOwned};

use crate::limits::{EXT_BYTES_MAX, EXT_ENTRIES_MAX};

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than the limit of this type.
    #[error("{0} bytes are too many")]
    TooLong(usize),
    /// Not an encoding of the type, or of a value outside its bounds.
    #[error("the bytes are malformed")]
    Malformed,
    /// A valid value in an encoding that is not the canonical one, or followed by other bytes.
    #[error("the bytes are not canonical")]
    NotCanonical,
}

/// The canonical bytes of a value.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("our types hold no value that postcard cannot write")
}

/// Reads a value from its canonical bytes, at most `bytes_max` of them.
///
/// # Errors
/// When the bytes are too many, malformed, or not what [`encode`] gives for the value.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<T, CodecError> {
    if bytes.len() > bytes_max {
        return Err(CodecError::TooLong(bytes.len()));
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| CodecError::Malformed)?;
    if !rest.is_empty() || encode(&value) != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}

/// The extension list that ends every signed or exchanged structure: (type, bytes) with ascending types.
///
/// Types from `0x8000` on must be understood by whoever acts on the structure (`docs/protocol.md` §1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ext(Vec<(u16, Vec<u8>)>);

impl Ext {
    /// No extension.
    pub const NONE: Self = Self(Vec::new());

    /// Checks entries.
    ///
    /// # Errors
    /// When there are too many, they are too long, or types do not strictly ascend.
    pub fn new(entries: Vec<(u16, Vec<u8>)>) -> Result<Self, CodecError> {
        let ascending = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let bytes: usize = entries.iter().map(|(_, value)| value.len()).sum();
        if !ascending || entries.len() > EXT_ENTRIES_MAX || bytes > EXT_BYTES_MAX {
            return Err(CodecError::Malformed);
        }
        Ok(Self(entries))
    }

    /// The entries, types ascending.
    #[must_use]
    pub fn entries(&self) -> &[(u16, Vec<u8>)] {
        &self.0
    }

    /// Whether an entry is here that a reader must understand. This version understands none.
    #[must_use]
    pub fn must_understand(&self) -> bool {
        self.0.iter().any(|(kind, _)| *kind >= 0x8000)
    }
}

impl<'de> Deserialize<'de> for Ext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
