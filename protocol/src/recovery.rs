//! The recovery phrase: twelve words from which a root key of the network grows (`docs/protocol.md` §2.2).
//!
//! The words are BIP-39 English; the derivation is ours. This room does not know which networks the key is root of.

use std::fmt;

use bip39::{Language, Mnemonic};
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::Secret;
use crate::stretch::{Cost, stretch};

/// Words of a phrase.
pub const PHRASE_WORDS: usize = 12;
const ENTROPY_BYTES: usize = 16;
const SALT: &[u8] = b"meshnode recovery v1";
const COST: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
};

/// Why a text is no recovery phrase. It never holds a word: a mistyped secret is still a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not twelve words.
    #[error("a recovery phrase has 12 words, this has {words}")]
    Count {
        /// How many it has.
        words: usize,
    },
    /// A word that is not in the list.
    #[error("word {position} is not a word of recovery phrases")]
    Unknown {
        /// Which one, from 1.
        position: usize,
    },
    /// All words exist, but not in this order or not together.
    #[error("the words do not belong together: one is wrong or two are swapped")]
    Checksum,
}

/// A recovery phrase: 128 random bits, erased when dropped.
#[derive(Clone)]
pub struct RecoveryPhrase(Zeroizing<[u8; ENTROPY_BYTES]>);

impl RecoveryPhrase {
    /// A new phrase from a cryptographic random source.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut entropy = Zeroizing::new([0; ENTROPY_BYTES]);
        rng.fill_bytes(entropy.as_mut());
        Self(entropy)
    }

    /// Reads a typed phrase: any case, any white space between words.
    ///
    /// # Errors
    /// With the number of words, the first unknown word, or a checksum that does not hold.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        let words = text.split_whitespace().count();
        if words != PHRASE_WORDS {
            return Err(PhraseError::Count { words });
        }
        // Bounded: twelve words, each compared before it is kept.
        let mut phrase = Zeroizing::new(String::with_capacity(PHRASE_WORDS * 9));
        for (index, word) in text.split_whitespace().enumerate() {
            let known = Language::English
                .word_list()
                .iter()
                .find(|known| known.eq_ignore_ascii_case(word))
                .ok_or(PhraseError::Unknown {
                    position: index + 1,
                })?;
            phrase.push_str(known);
            phrase.push(' ');
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, phrase.trim_end())
            .map_err(|_| PhraseError::Checksum)?;
        let (mut bytes, _) = mnemonic.to_entropy_array();
        let mut entropy = Zeroizing::new([0; ENTROPY_BYTES]);
        entropy.copy_from_slice(&bytes[..ENTROPY_BYTES]);
        bytes.zeroize();
        Ok(Self(entropy))
    }

    /// The twelve words, to be shown once.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, &*self.0)
            .expect("16 bytes are an entropy of BIP-39");
        let words: Vec<&'static str> = mnemonic.words().collect();
        words.into_iter()
    }

    /// The root key of the phrase: Argon2id (64 MiB, 3 passes), then BLAKE3 under a context of its own. Takes a while.
    #[must_use]
    pub fn root_key(&self) -> Secret {
        let stretched = stretch(&*self.0, SALT, COST);
        let seed = Zeroizing::new(blake3::derive_key(
            "meshnode recovery root key 1",
            &*stretched,
        ));
        Secret::from_seed(&seed)
    }
}

impl fmt::Debug for RecoveryPhrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryPhrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str =
        "abandon amount liar amount expire adjust cage candy arch gather drum buyer";

    #[test]
    fn known_entropy_has_its_known_words_and_root_key() {
        let phrase = RecoveryPhrase(Zeroizing::new(std::array::from_fn(|index| index as u8)));
        assert_eq!(phrase.words().collect::<Vec<_>>().join(" "), WORDS);
        let seed: String = phrase
            .root_key()
            .danger_seed()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            seed,
            "e43105e8f71f2a9f8a3ed0b517a4108cb9919a83ab6e953e450a7e20761534bb"
        );
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        let typed = format!("  {}\n", WORDS.to_uppercase().replace(' ', " \t"));
        let phrase = RecoveryPhrase::parse(&typed).unwrap();
        assert_eq!(phrase.words().collect::<Vec<_>>().join(" "), WORDS);
    }

    #[test]
    fn a_mistake_is_told_by_its_place_and_never_by_the_word() {
        let wrong = WORDS.replace("liar", "liarr");
        let error = RecoveryPhrase::parse(&wrong).unwrap_err();
        assert_eq!(error, PhraseError::Unknown { position: 3 });
        assert!(!format!("{error:?} {error}").contains("liarr"));
    }

    #[test]
    fn missing_and_surplus_words_are_counted() {
        for (text, words) in [
            ("", 0),
            ("abandon", 1),
            (&*format!("{WORDS} zoo"), 13),
            (&*["zoo"; 24].join(" "), 24),
        ] {
            let error = RecoveryPhrase::parse(text).unwrap_err();
            assert_eq!(error, PhraseError::Count { words });
        }
    }

    #[test]
    fn a_wrong_word_of_the_list_is_noticed_by_the_checksum() {
        let swapped = WORDS.replace("abandon amount", "amount abandon");
        let error = RecoveryPhrase::parse(&swapped).unwrap_err();
        assert_eq!(error, PhraseError::Checksum);
    }

    #[test]
    fn the_phrase_cannot_be_read_from_debug_output() {
        let phrase = RecoveryPhrase::parse(WORDS).unwrap();
        assert_eq!(format!("{phrase:?}"), "RecoveryPhrase(..)");
    }
}
