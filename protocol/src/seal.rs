//! Sealing: what leaves a node is unreadable without the network's epoch key (`docs/protocol.md` §7.5, §7.6).
//!
//! A frame is key tag (8) ‖ nonce (24) ‖ XChaCha20-Poly1305 ciphertext. The nonce is a keyed hash of the plaintext, so
//! no random source can fail, and equal plaintext is one frame, which lets gossip recognise what it has seen. This room
//! does not know what it seals, nor which epoch is in force.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::id::{Digest, OpId};
use crate::limits::MESSAGE_BYTES_MAX;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
/// Bytes that a frame has beyond its plaintext: tag 8, nonce 24, authenticator 16.
pub const SEAL_OVERHEAD_BYTES: usize = TAG_BYTES + NONCE_BYTES + 16;
const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX + SEAL_OVERHEAD_BYTES;

/// Why a frame was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Shorter than any frame, or longer than any message.
    #[error("a sealed frame does not have {0} bytes")]
    Length(usize),
    /// The key tag is not of this key: another epoch, purpose or network.
    #[error("the frame is sealed under another key")]
    OtherKey,
    /// The tag fits but the seal does not hold.
    #[error("the seal is broken")]
    Broken,
}

/// What a frame is for; a frame of one purpose never opens under another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Gossip messages.
    Gossip,
    /// Device records at rest with strangers.
    Record,
    /// Values in the DHT.
    Dht,
    /// The first message of device authentication.
    Hello,
}

impl Purpose {
    const fn byte(self) -> u8 {
        match self {
            Self::Gossip => 1,
            Self::Record => 2,
            Self::Dht => 3,
            Self::Hello => 4,
        }
    }

    const fn context(self) -> &'static str {
        match self {
            Self::Gossip => "meshnode seal gossip 1",
            Self::Record => "meshnode seal record 1",
            Self::Dht => "meshnode seal dht 1",
            Self::Hello => "meshnode seal hello 1",
        }
    }
}

/// The symmetric key of one epoch of a network: 32 bytes, erased when dropped.
#[derive(Clone)]
pub struct EpochKey(Zeroizing<[u8; 32]>);

impl EpochKey {
    /// A new key from a cryptographic random source.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut());
        Self(bytes)
    }

    /// Takes the 32 bytes of a key; whoever got them from a peer compares [`Self::commitment`] next.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// The bytes themselves, for the key file and for a member that is owed them.
    #[must_use]
    pub fn danger_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// What stands in the genesis or rekey op in the key's place.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        Digest::new(*derive("meshnode epoch commitment 1", &self.0))
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey(..)")
    }
}

/// The gossip topic of an epoch: opaque, and another one with every key.
#[must_use]
pub fn gossip_topic(key: &EpochKey) -> [u8; 32] {
    *derive("meshnode gossip topic 1", &key.0)
}

/// Seals and opens frames of one purpose under one key.
#[derive(Clone)]
pub struct Sealer {
    purpose: Purpose,
    tag: [u8; TAG_BYTES],
    key: Zeroizing<[u8; 32]>,
    nonce_key: Zeroizing<[u8; 32]>,
}

impl Sealer {
    /// The sealer of a purpose in an epoch.
    #[must_use]
    pub fn new(key: &EpochKey, purpose: Purpose) -> Self {
        Self::from_material(&key.0, purpose)
    }

    /// The sealer of device authentication, before both sides are known to share an epoch: its key is the genesis id,
    /// which only members and former members know.
    #[must_use]
    pub fn for_hello(genesis: &OpId) -> Self {
        Self::from_material(genesis.as_bytes(), Purpose::Hello)
    }

    /// The sealer of one locator: its key is the locator's own secret, so that frames of one network have nothing in
    /// common for whoever keeps them.
    #[must_use]
    pub fn for_locator(secret: &[u8; 32]) -> Self {
        Self::from_material(secret, Purpose::Dht)
    }

    fn from_material(material: &[u8; 32], purpose: Purpose) -> Self {
        let base = derive(purpose.context(), material);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&derive("meshnode seal tag 1", &base)[..TAG_BYTES]);
        Self {
            purpose,
            tag,
            key: derive("meshnode seal key 1", &base),
            nonce_key: derive("meshnode seal nonce 1", &base),
        }
    }

    /// The key tag at the start of every frame of this sealer.
    #[must_use]
    pub const fn tag(&self) -> [u8; TAG_BYTES] {
        self.tag
    }

    /// Seals a plaintext; equal plaintexts give equal frames, [`SEAL_OVERHEAD_BYTES`] longer.
    #[must_use]
    pub fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let nonce = self.nonce(plain);
        let payload = Payload {
            msg: plain,
            aad: &self.associated(),
        };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a message is far below the cipher's 256 GiB");
        [&self.tag[..], &nonce, &sealed].concat()
    }

    /// Opens a frame.
    ///
    /// # Errors
    /// When the frame is not the one that [`Self::seal`] gives for its plaintext, or is larger than a message.
    pub fn open(&self, frame: &[u8]) -> Result<Vec<u8>, SealError> {
        if !(SEAL_OVERHEAD_BYTES..=FRAME_BYTES_MAX).contains(&frame.len()) {
            return Err(SealError::Length(frame.len()));
        }
        let (tag, rest) = frame
            .split_first_chunk::<TAG_BYTES>()
            .ok_or(SealError::Length(frame.len()))?;
        let (nonce, sealed) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Length(frame.len()))?;
        if *tag != self.tag {
            return Err(SealError::OtherKey);
        }
        let payload = Payload {
            msg: sealed,
            aad: &self.associated(),
        };
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| SealError::Broken)?;
        // Another nonce would make a second frame of one plaintext, and gossip would carry it twice.
        if bool::from(self.nonce(&plain).ct_eq(nonce)) {
            Ok(plain)
        } else {
            Err(SealError::Broken)
        }
    }

    fn nonce(&self, plain: &[u8]) -> [u8; NONCE_BYTES] {
        let hash = blake3::keyed_hash(&self.nonce_key, plain);
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&hash.as_bytes()[..NONCE_BYTES]);
        nonce
    }

    const fn associated(&self) -> [u8; 2] {
        [self.purpose.byte(), VERSION]
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({:?})", self.purpose)
    }
}

fn derive(context: &str, material: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(context, material))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PURPOSES: [Purpose; 4] = [
        Purpose::Gossip,
        Purpose::Record,
        Purpose::Dht,
        Purpose::Hello,
    ];
    const PLAIN: &[u8] = b"ops and records";

    #[test]
    fn every_purpose_gives_its_known_frame() {
        let expected = [
            "669886b56af3db4cd697e8d9ab5b372c1d21ba073f7cd5f917a4964cce01d59c1acb1c295be84491fc061e71b3c4826e065109f57c336a5f0519f9597c4fea",
            "a08781db0613e91446d61a21b27eb7e0fe47c9be53abbacf279dec0b438a9ae04d9798b124c2cc7da57d74dd35dd358ff498ad781baf05c89f0e46875545b2",
            "362a6d4876c43ae54d6b8d458bcc7598a2071526257fbe67811f5a36349a57001e1f6ac76c0a562155a856e0707e34c72c4435289c4012109643429e99d3b9",
            "438442c5e4000616e7b53bb7b12e12a8e6f56fff2687dc27fae8a7ecd1e6ecac447b5d523a8f9569d5a8687e5ea84150a61654aed9af4e7859f550c2a9b07b",
        ];
        for (purpose, expected) in PURPOSES.into_iter().zip(expected) {
            assert_eq!(hex(&Sealer::new(&key(), purpose).seal(PLAIN)), expected);
        }
        let hello = Sealer::for_hello(&OpId::new([8; 32])).seal(PLAIN);
        assert_eq!(
            hex(&hello),
            "069f517ff56aa2737585dd5fcffd9cdea0fd8bbd6983159a4c728f486af31ad9b327d98ac561e07302c5b9ed3c4d38d03cd3d662a61095973e549e3c015673"
        );
    }

    #[test]
    fn commitment_and_topic_are_the_known_ones() {
        assert_eq!(
            hex(key().commitment().as_bytes()),
            "6b0c5c92dc9c64b5eb26fcd929d62c96732f81e98659a99efa461091a1e237ec"
        );
        assert_eq!(
            hex(&gossip_topic(&key())),
            "8899bd9d90613b65032bcfaf86201ce9fbd5a54387ce1eb5ab5d242f2aff8a0a"
        );
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_refused() {
        let sealer = Sealer::new(&key(), Purpose::Gossip);
        let frame = sealer.seal(PLAIN);
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_shortened_or_lengthened_frame_is_refused() {
        let sealer = Sealer::new(&key(), Purpose::Record);
        let mut frame = sealer.seal(PLAIN);
        for length in 0..frame.len() {
            assert!(sealer.open(&frame[..length]).is_err(), "length {length}");
        }
        frame.push(0);
        assert_eq!(sealer.open(&frame), Err(SealError::Broken));
    }

    #[test]
    fn a_frame_opens_under_no_other_purpose_epoch_or_genesis() {
        let other = EpochKey::from_bytes(&[9; 32]);
        let frame = Sealer::new(&key(), Purpose::Gossip).seal(PLAIN);
        for purpose in PURPOSES {
            let opened = Sealer::new(&other, purpose).open(&frame);
            assert_eq!(opened, Err(SealError::OtherKey));
            let opened = Sealer::new(&key(), purpose).open(&frame);
            assert_eq!(opened.is_ok(), purpose == Purpose::Gossip);
        }
        let hello = Sealer::for_hello(&OpId::new([8; 32])).seal(PLAIN);
        let elsewhere = Sealer::for_hello(&OpId::new([9; 32]));
        assert_eq!(elsewhere.open(&hello), Err(SealError::OtherKey));
    }

    #[test]
    fn a_second_frame_of_one_plaintext_is_refused_although_its_seal_holds() {
        let sealer = Sealer::new(&key(), Purpose::Gossip);
        let nonce = [1; NONCE_BYTES];
        let payload = Payload {
            msg: PLAIN,
            aad: &sealer.associated(),
        };
        let sealed = sealer.cipher().encrypt(&XNonce::from(nonce), payload);
        let frame = [&sealer.tag[..], &nonce, &sealed.unwrap()].concat();
        assert_eq!(sealer.open(&frame), Err(SealError::Broken));
    }

    #[test]
    fn the_largest_message_opens_and_one_byte_more_does_not() {
        let sealer = Sealer::new(&key(), Purpose::Dht);
        let plain = vec![7; MESSAGE_BYTES_MAX + 1];
        let fits = sealer.seal(&plain[1..]);
        assert_eq!(sealer.open(&fits).as_deref(), Ok(&plain[1..]));
        let over = sealer.seal(&plain);
        assert_eq!(sealer.open(&over), Err(SealError::Length(over.len())));
    }

    #[test]
    fn no_key_can_be_read_from_debug_output() {
        let sealer = Sealer::new(&key(), Purpose::Dht);
        assert_eq!(format!("{:?}", key()), "EpochKey(..)");
        assert_eq!(format!("{sealer:?}"), "Sealer(Dht)");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_seals_to_the_same_frame(plain: Vec<u8>, key: [u8; 32]) {
            let sealer = Sealer::new(&EpochKey::from_bytes(&key), Purpose::Gossip);
            let frame = sealer.seal(&plain);
            prop_assert_eq!(frame.len(), plain.len() + SEAL_OVERHEAD_BYTES);
            prop_assert_eq!(&sealer.seal(&plain), &frame);
            prop_assert_eq!(sealer.open(&frame), Ok(plain));
        }

        #[test]
        fn strange_bytes_never_open(mut frame: Vec<u8>, tagged: bool) {
            let sealer = Sealer::new(&key(), Purpose::Gossip);
            if tagged {
                frame.splice(0..0, sealer.tag());
            }
            prop_assert!(sealer.open(&frame).is_err());
        }
    }

    fn key() -> EpochKey {
        EpochKey::from_bytes(&[7; 32])
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
