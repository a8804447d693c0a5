//! Secret keys of this node: they sign and derive, and never leave.
//!
//! No secret here can be printed or serialised; the store asks for the seed by its telling name.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::id::{Digest, NetworkId, NodeId, PublicKey, Signature, TransportKey, TunnelKey};

/// What a signature is for; its text stands before the signed fields (`docs/protocol.md` §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// An op, by a device or by root keys.
    Op,
    /// A device record.
    Record,
    /// The network proof of an invite, by the invite key.
    Net,
    /// A claim, by the invite key.
    ClaimInvite,
    /// A claim, by the joiner's device key.
    ClaimDevice,
    /// An admit, by the witness.
    Admit,
    /// A transport key vouching for its device.
    BindTransport,
    /// A tunnel key vouching for its device.
    BindTunnel,
    /// The witness's proof in the join protocol.
    JoinWitness,
    /// Device authentication on a connection.
    Hello,
    /// A client's binding at a relay, by its transport key.
    Relay,
}

impl Context {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::Op => b"meshnode/op/1\0",
            Self::Record => b"meshnode/rec/1\0",
            Self::Net => b"meshnode/net/1\0",
            Self::ClaimInvite => b"meshnode/claim-i/1\0",
            Self::ClaimDevice => b"meshnode/claim-d/1\0",
            Self::Admit => b"meshnode/admit/1\0",
            Self::BindTransport => b"meshnode/bind-t/1\0",
            Self::BindTunnel => b"meshnode/bind-w/1\0",
            Self::JoinWitness => b"meshnode/join-m2/1\0",
            Self::Hello => b"meshnode/hello/1\0",
            Self::Relay => b"meshnode/relay/1\0",
        }
    }
}

/// A signature that does not fit its key, context and fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is wrong")]
pub struct BadSignature;

/// Checks a signature over fixed-width fields, strictly (no malleable or small-order forms).
///
/// # Errors
/// When it does not hold.
pub fn verify(
    key: &PublicKey,
    context: Context,
    fields: &[&[u8]],
    signature: &Signature,
) -> Result<(), BadSignature> {
    let message = [&[context.text()], fields].concat().concat();
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    key.verifying()
        .verify_strict(&message, &signature)
        .map_err(|_| BadSignature)
}

/// One Ed25519 secret key, erased when dropped.
#[derive(Clone)]
pub struct Secret(SigningKey);

impl Secret {
    /// The key of a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// A new key from a cryptographic random source.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::derived(&self.0.verifying_key())
    }

    /// Signs fixed-width fields under a context.
    #[must_use]
    pub fn sign(&self, context: Context, fields: &[&[u8]]) -> Signature {
        let message = [&[context.text()], fields].concat().concat();
        Signature::new(self.0.sign(&message).to_bytes())
    }

    /// The seed itself, for the key file and for libraries that want the key.
    #[must_use]
    pub fn danger_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The X25519 secret of the same key, for WireGuard and probe keys.
    #[must_use]
    pub fn danger_x25519(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_scalar_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The three keys of one membership (`docs/protocol.md` §2.2). Never shared between networks.
#[derive(Clone, Debug)]
pub struct Keys {
    /// D: signs ops, records, admits.
    pub device: Secret,
    /// T: the libp2p key.
    pub transport: Secret,
    /// W: the WireGuard key, in its Ed25519 form.
    pub tunnel: Secret,
}

impl Keys {
    /// New keys from a cryptographic random source.
    pub fn generate<R: CryptoRng>(rng: &mut R) -> Self {
        Self {
            device: Secret::generate(rng),
            transport: Secret::generate(rng),
            tunnel: Secret::generate(rng),
        }
    }

    /// The node that these keys are.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::new(self.device.public())
    }

    /// T's vouching for D in a network: signature `bind-t`.
    #[must_use]
    pub fn transport_binding(&self, network: &NetworkId) -> Binding<TransportKey> {
        let signature = self.transport.sign(
            Context::BindTransport,
            &[network.as_bytes(), self.node().as_bytes()],
        );
        Binding {
            key: TransportKey::new(self.transport.public()),
            signature,
        }
    }

    /// W's vouching for D in a network: signature `bind-w`.
    #[must_use]
    pub fn tunnel_binding(&self, network: &NetworkId) -> Binding<TunnelKey> {
        let signature = self.tunnel.sign(
            Context::BindTunnel,
            &[network.as_bytes(), self.node().as_bytes()],
        );
        Binding {
            key: TunnelKey::new(self.tunnel.public()),
            signature,
        }
    }
}

/// A key together with its own signature that it belongs to a device (`docs/protocol.md` §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Binding<K> {
    /// The key.
    pub key: K,
    /// Its signature over network and device.
    pub signature: Signature,
}

impl Binding<TransportKey> {
    /// Whether this transport key vouches for the node.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, network: &NetworkId, node: &NodeId) -> Result<(), BadSignature> {
        verify(
            self.key.key(),
            Context::BindTransport,
            &[network.as_bytes(), node.as_bytes()],
            &self.signature,
        )
    }
}

impl Binding<TunnelKey> {
    /// Whether this tunnel key vouches for the node.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, network: &NetworkId, node: &NodeId) -> Result<(), BadSignature> {
        verify(
            self.key.key(),
            Context::BindTunnel,
            &[network.as_bytes(), node.as_bytes()],
            &self.signature,
        )
    }
}

/// The BLAKE3 hash of bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> Digest {
    Digest::new(*blake3::hash(bytes).as_bytes())
}

/// The BLAKE3 hash of bytes under a context that names what they are.
#[must_use]
pub fn hash_as(context: &str, bytes: &[u8]) -> Digest {
    Digest::new(blake3::derive_key(context, bytes))
}
