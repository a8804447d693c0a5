//! Invite codes: twenty symbols that let a machine in, and the keys that grow from them
//! (`docs/protocol.md` §6.1, §6.2).
//!
//! This room prints and reads codes and derives. It does not know whether an invite still holds, nor how two machines
//! speak about it.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::id::{Digest, InviteKey, TransportKey};
use crate::identity::{Secret, hash};
use crate::stretch::{Cost, stretch};

mod hint;
mod symbols;

pub use hint::{Hint, Host};
use symbols::Symbols;

/// Hints of one code at most.
pub const HINTS_MAX: usize = 3;
const VERSION: u8 = 1;
const SECRET_BYTES: usize = 10;
const SALT: &[u8] = b"meshnode invite v1";
const COST: Cost = Cost {
    memory_kib: 19 * 1024,
    passes: 2,
};

/// Why a typed text is no invite code. The sentences are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not twenty symbols.
    #[error("this is not an invite code: it has {symbols} symbols, a code has 20")]
    Length {
        /// How many it has, hyphens and spaces not counted.
        symbols: usize,
    },
    /// A symbol that no code has.
    #[error("this is not an invite code: no code has the symbol {0:?}")]
    Symbol(char),
    /// The check symbols do not fit.
    #[error("the code has a typing mistake{}", described(.suggestion.as_ref()))]
    Checksum {
        /// The one symbol whose change makes a code, if there is one.
        suggestion: Option<Suggestion>,
    },
    /// Typed right, but of a version that this program does not know.
    #[error("the code is of version {0}, this program knows version 1")]
    Version(u8),
    /// A hint after the `@` that is not `host:port`, or one too many.
    #[error("{0:?} after the @ is not one of at most 3 host:port")]
    Hint(String),
}

/// Which symbol was probably mistyped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suggestion {
    /// Which, from 1, hyphens and spaces not counted.
    pub position: usize,
    /// What it should be.
    pub should: char,
    /// What was typed, as a capital.
    pub is: char,
}

fn described(suggestion: Option<&Suggestion>) -> String {
    suggestion.map_or_else(
        String::new,
        |Suggestion {
             position,
             should,
             is,
         }| {
            let ordinal = match position {
                1 => "st",
                2 => "nd",
                3 => "rd",
                _ => "th",
            };
            format!(": the {position}{ordinal} symbol should probably be {should}, not {is}")
        },
    )
}

/// The secret in a code: 80 random bits, erased when dropped. Shown once, never stored.
#[derive(Clone)]
pub struct InviteSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl InviteSecret {
    /// A new secret from a cryptographic random source.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        rng.fill_bytes(bytes.as_mut());
        Self(bytes)
    }

    /// The twenty symbols in groups of five, without hints.
    #[must_use]
    pub fn code(&self) -> String {
        Symbols::encode(VERSION, &self.0).to_string()
    }

    /// Stretches the secret (Argon2id, 19 MiB, 2 passes: tens of milliseconds) and derives the keys.
    #[must_use]
    pub fn stretch(&self) -> InviteKeys {
        let root = stretch(&*self.0, SALT, COST);
        let derive = |context: &str| Zeroizing::new(blake3::derive_key(context, &*root));
        InviteKeys {
            key: Secret::from_seed(&derive("meshnode invite key 1")),
            rendezvous: *derive("meshnode invite rendezvous 1"),
            psk: *derive("meshnode invite psk 1"),
        }
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(..)")
    }
}

/// What grows from a code's secret.
#[derive(Clone)]
pub struct InviteKeys {
    /// I: signs the network proof and the claim. No member ever has it.
    pub key: Secret,
    /// From which the lookup tags derive; known to members.
    pub rendezvous: [u8; 32],
    /// Proves to a member that a stranger knows the code; known to members.
    pub psk: [u8; 32],
}

impl InviteKeys {
    /// The public half of the invite's key, as it stands in the Invite op.
    #[must_use]
    pub fn public(&self) -> InviteKey {
        InviteKey::new(self.key.public())
    }
}

impl fmt::Debug for InviteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteKeys(..)")
    }
}

/// A code as it is typed, hints included: shown to a person once, erased when dropped, and in no other text.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeText(Zeroizing<String>);

impl From<String> for CodeText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl CodeText {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeText(..)")
    }
}

/// What a person types to join: a secret and where to ask. Hints are neither secret nor trusted.
#[derive(Clone, Debug)]
pub struct InviteCode {
    secret: InviteSecret,
    hints: Vec<Hint>,
}

impl InviteCode {
    /// A code with hints.
    ///
    /// # Errors
    /// [`CodeError::Hint`] with the first hint beyond [`HINTS_MAX`].
    pub fn new(secret: InviteSecret, hints: Vec<Hint>) -> Result<Self, CodeError> {
        match hints.get(HINTS_MAX) {
            Some(surplus) => Err(CodeError::Hint(surplus.to_string())),
            None => Ok(Self { secret, hints }),
        }
    }

    /// Reads a typed code: `CODE[@host:port[,host:port]]`. In the code part case, white space and
    /// hyphens do not matter,
    /// O is 0, I and L are 1.
    ///
    /// # Errors
    /// With what is wrong, and if one mistyped symbol explains it, with that.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let (code, hints) = match text.split_once('@') {
            Some((code, hints)) => (code, Some(hints)),
            None => (text, None),
        };
        let (version, secret) = Symbols::parse(code)?.decode()?;
        if version != VERSION {
            return Err(CodeError::Version(version));
        }
        // One more than allowed is enough to refuse; nothing longer is read.
        let hints = hints
            .iter()
            .flat_map(|hints| hints.trim().split(','))
            .take(HINTS_MAX + 1)
            .map(Hint::parse)
            .collect::<Result<_, _>>()?;
        Self::new(InviteSecret(secret), hints)
    }

    /// What to type: the code, and `@` with the hints if there are some.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.secret.code();
        for (index, hint) in self.hints.iter().enumerate() {
            text.push(if index == 0 { '@' } else { ',' });
            text.push_str(&hint.to_string());
        }
        text
    }

    /// The secret.
    #[must_use]
    pub const fn secret(&self) -> &InviteSecret {
        &self.secret
    }

    /// Where to ask, at most [`HINTS_MAX`].
    #[must_use]
    pub fn hints(&self) -> &[Hint] {
        &self.hints
    }
}

/// What a joiner says to name the invite it means: known to members, tells a stranger nothing.
#[must_use]
pub fn locator(rendezvous: &[u8; 32]) -> [u8; 16] {
    let hash = blake3::keyed_hash(rendezvous, b"loc");
    let mut locator = [0; 16];
    locator.copy_from_slice(&hash.as_bytes()[..16]);
    locator
}

/// The joiner's proof, in its first message, that it knows the code: bound to the connection (`h`) and its nonce.
#[must_use]
pub fn m1_mac(psk: &[u8; 32], h: &Digest, nonce: &[u8; 32]) -> [u8; 32] {
    let message = [b"m1".as_slice(), h.as_bytes(), nonce].concat();
    *blake3::keyed_hash(psk, &message).as_bytes()
}

/// Whether two MACs are equal, in a time that does not tell where they differ.
#[must_use]
pub fn mac_equal(ours: &[u8; 32], theirs: &[u8; 32]) -> bool {
    ours.ct_eq(theirs).into()
}

/// What binds a join to its connection: both transport keys as that connection authenticated them.
#[must_use]
pub fn channel_hash(joiner: &TransportKey, witness: &TransportKey) -> Digest {
    let parts = [
        b"meshnode/join/1".as_slice(),
        joiner.as_bytes(),
        witness.as_bytes(),
    ];
    hash(&parts.concat())
}

#[cfg(test)]
mod tests;
