//! Probe frames: is this path alive, and what does the other end see (`docs/protocol.md` §8.3).
//!
//! A frame is magic (4) ‖ sender tag (8) ‖ nonce (24) ‖ XChaCha20-Poly1305 body. Keys come from the
//! two tunnel keys alone, so probing starts before any handshake. This room does not know when to probe, nor which
//! path is better.

mod body;

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use x25519_dalek::{PublicKey as X25519Key, StaticSecret};
use zeroize::Zeroizing;

use self::body::BODY_BYTES_MIN;
use crate::id::{NetworkId, TunnelKey, WireGuardKey};
use crate::identity::Secret;

pub use self::body::{Call, PortPlan, Probe};

/// The first bytes of every probe: `6D 4E`, `P`, version 1.
pub const MAGIC: [u8; 4] = [0x6D, 0x4E, b'P', 1];
/// The first bytes of every datagram of the UDP relay: `6D 4E`, `R`, version 1.
pub const RELAY_MAGIC: [u8; 4] = [0x6D, 0x4E, b'R', 1];
/// Bytes of a probe frame at most: what the engine passes on.
pub const PROBE_BYTES_MAX: usize = 1500;
/// Bytes of a PONG's frame, and of a PING's without padding.
pub const PROBE_BYTES_MIN: usize = HEAD_BYTES + BODY_BYTES_MIN + 16;
/// Padding bytes of a PING at most.
pub const PADDING_BYTES_MAX: u16 = (PROBE_BYTES_MAX - PROBE_BYTES_MIN) as u16;

const TAG_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = MAGIC.len() + TAG_BYTES + NONCE_BYTES;

/// Why a datagram is no probe of this peer, or a peer has no probe keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The peer's key is our own, or agrees on nothing secret.
    #[error("no probe keys with this peer: its key is weak or our own")]
    WeakKey,
    /// Not magic, tag of this peer, nonce and body of a possible length.
    #[error("the datagram is no probe of this peer")]
    NotOurs,
    /// The seal does not hold.
    #[error("the probe's seal is broken")]
    Broken,
    /// The seal holds but the body is not one of a probe, or must be understood and is not.
    #[error("the probe's body is malformed")]
    Malformed,
}

/// One direction's key and the tag that its frames carry.
#[derive(Clone)]
struct Direction {
    key: Zeroizing<[u8; 32]>,
    tag: [u8; TAG_BYTES],
}

impl Direction {
    fn derive(context: &str, root: &[u8; 32]) -> Self {
        let key = Zeroizing::new(blake3::derive_key(context, root));
        let hash = blake3::derive_key("meshnode probe tag 1", &*key);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hash[..TAG_BYTES]);
        Self { key, tag }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }
}

/// The probe keys with one peer: one key agreement, then kept.
#[derive(Clone)]
pub struct ProbeKeys {
    outbound: Direction,
    inbound: Direction,
}

impl ProbeKeys {
    /// Agrees on keys from our tunnel secret and a peer's tunnel key, in a network.
    ///
    /// # Errors
    /// [`ProbeError::WeakKey`] when the peer's key is our own or of small order: then nothing secret is shared.
    pub fn new(own: &Secret, peer: &TunnelKey, network: &NetworkId) -> Result<Self, ProbeError> {
        let public = TunnelKey::new(own.public());
        let known = [public.wireguard(), peer.wireguard()];
        Self::converted(own, (&public, peer), known, network)
    }

    /// The same for a node with many peers, which converts each key once: the WireGuard keys of `public`, the key of
    /// `own`, and of `peer` are given.
    pub(crate) fn converted(
        own: &Secret,
        (public, peer): (&TunnelKey, &TunnelKey),
        [ours, theirs]: [WireGuardKey; 2],
        network: &NetworkId,
    ) -> Result<Self, ProbeError> {
        // A key and its negative are one X25519 key, so our own is refused in that form.
        if ours == theirs {
            return Err(ProbeError::WeakKey);
        }
        let theirs = X25519Key::from(*theirs.as_bytes());
        let secret = StaticSecret::from(*own.danger_x25519());
        let shared = secret.diffie_hellman(&theirs);
        if !shared.was_contributory() {
            return Err(ProbeError::WeakKey);
        }
        let first = public < peer;
        let (low, high) = if first {
            (public, peer)
        } else {
            (peer, public)
        };
        let parts = [
            shared.as_bytes().as_slice(),
            network.as_bytes(),
            low.as_bytes(),
            high.as_bytes(),
        ];
        let material = Zeroizing::new(parts.concat());
        let root = Zeroizing::new(blake3::derive_key("meshnode probe keys 1", &material));
        let upward = Direction::derive("meshnode probe low to high 1", &root);
        let downward = Direction::derive("meshnode probe high to low 1", &root);
        let (outbound, inbound) = if first {
            (upward, downward)
        } else {
            (downward, upward)
        };
        Ok(Self { outbound, inbound })
    }

    /// The tag on frames from the peer, for the receiver's table.
    #[must_use]
    pub const fn tag_in(&self) -> [u8; TAG_BYTES] {
        self.inbound.tag
    }

    /// Seals a probe to the peer. The nonce must be fresh random bytes: one used twice uncovers both probes.
    #[must_use]
    pub fn seal(&self, probe: &Probe, nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(PROBE_BYTES_MIN);
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&self.outbound.tag);
        let payload = Payload {
            msg: &probe.to_bytes(),
            aad: &frame,
        };
        let sealed = self
            .outbound
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a probe is far below the cipher's 256 GiB");
        frame.extend_from_slice(&nonce);
        frame.extend_from_slice(&sealed);
        frame
    }

    /// Whether this end is the lower of the two, by their tags: it is at one end only.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.outbound.tag < self.inbound.tag
    }

    /// Opens a probe from the peer. Whether it was seen before is the caller's business.
    ///
    /// # Errors
    /// When the datagram is not a probe that the peer sealed.
    pub fn open(&self, frame: &[u8]) -> Result<Probe, ProbeError> {
        if tag_of(frame) != Some(self.inbound.tag) {
            return Err(ProbeError::NotOurs);
        }
        let (head, rest) = frame
            .split_at_checked(MAGIC.len() + TAG_BYTES)
            .ok_or(ProbeError::NotOurs)?;
        let (nonce, sealed) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(ProbeError::NotOurs)?;
        let payload = Payload {
            msg: sealed,
            aad: head,
        };
        let body = self
            .inbound
            .cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| ProbeError::Broken)?;
        Probe::parse(&body)
    }
}

impl fmt::Debug for ProbeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeKeys(..)")
    }
}

/// The sender tag of a datagram, if it can be a probe at all.
#[must_use]
pub fn tag_of(frame: &[u8]) -> Option<[u8; TAG_BYTES]> {
    let length = (PROBE_BYTES_MIN..=PROBE_BYTES_MAX).contains(&frame.len());
    let tag = frame.strip_prefix(&MAGIC)?.first_chunk()?;
    length.then_some(*tag)
}

/// What a datagram is, told by its first bytes and its length (`docs/protocol.md` §8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatagramKind {
    /// WireGuard's: handshake, cookie or data.
    WireGuard,
    /// A STUN message (RFC 8489 §5).
    Stun,
    /// A probe.
    Probe,
    /// The UDP relay's.
    Relay,
    /// Anything else: dropped and counted.
    Other,
}

/// Tells what a datagram is. The first rule that fits decides.
#[must_use]
pub fn classify(datagram: &[u8]) -> DatagramKind {
    if is_wireguard(datagram) {
        DatagramKind::WireGuard
    } else if is_stun(datagram) {
        DatagramKind::Stun
    } else if datagram.starts_with(&MAGIC) {
        DatagramKind::Probe
    } else if datagram.starts_with(&RELAY_MAGIC) {
        DatagramKind::Relay
    } else {
        DatagramKind::Other
    }
}

fn is_wireguard(datagram: &[u8]) -> bool {
    let Some(kind) = datagram.first_chunk() else {
        return false;
    };
    match u32::from_le_bytes(*kind) {
        1 => datagram.len() == 148,
        2 => datagram.len() == 92,
        3 => datagram.len() == 64,
        4 => datagram.len() >= 32,
        _ => false,
    }
}

fn is_stun(datagram: &[u8]) -> bool {
    let Some(head) = datagram.first_chunk::<20>() else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    head[0] & 0xC0 == 0 && head[4..8] == [0x21, 0x12, 0xA4, 0x42] && length + 20 == datagram.len()
}

#[cfg(test)]
mod tests;
