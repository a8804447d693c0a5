//! Frames of the UDP relay: twelve bytes of header, then a datagram that is passed on or a word of the relay's own
//! (`docs/protocol.md` §8.5).
//!
//! Reading a header copies nothing and checks no signature. This room does not know who is bound, nor what the
//! datagrams mean.

mod address;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::id::{Signature, TransportKey};
use crate::identity::{BadSignature, Context, Secret, verify};
use crate::peering::Mailbox;
use crate::probe::{DatagramKind, RELAY_MAGIC, classify};

/// Bytes that a relay adds to a datagram.
pub const HEADER_BYTES: usize = 12;
/// Bytes of a datagram that is passed on, without the header, at most: more does not fit through every network.
pub const PASSED_BYTES_MAX: usize = 1500;
/// The first mailbox that can be somebody's; numbers below are kinds of words.
pub const MAILBOX_MIN: u64 = 256;
/// Bytes of a cookie.
pub const COOKIE_BYTES: usize = 16;
/// Bytes of the number that ties an answer to its question.
pub const TXID_BYTES: usize = 12;

const HELLO: u64 = 1;
const COOKIE: u64 = 2;
const BIND: u64 = 3;
const BOUND: u64 = 4;
const LIMITED: u64 = 5;
/// Zero bytes of a HELLO, so that its answer is no larger.
const HELLO_FILL_BYTES: usize = 60;

/// The number that ties an answer to its question; random.
pub type Txid = [u8; TXID_BYTES];
/// What a relay gives to an address, and wants back from it before it looks at a signature.
pub type Cookie = [u8; COOKIE_BYTES];

/// The mailbox of a transport key, the same at every relay.
#[must_use]
pub fn mailbox_of(key: &TransportKey) -> Mailbox {
    let hash = blake3::derive_key("meshnode relay mailbox 1", key.as_bytes());
    let first = hash.first_chunk().expect("a hash has 32 bytes");
    Mailbox(u64::from_le_bytes(*first))
}

/// The header in front of a datagram that is for a mailbox, or from one.
#[must_use]
pub fn header(mailbox: Mailbox) -> [u8; HEADER_BYTES] {
    header_of(mailbox.0)
}

fn header_of(number: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let (magic, rest) = bytes.split_at_mut(RELAY_MAGIC.len());
    magic.copy_from_slice(&RELAY_MAGIC);
    rest.copy_from_slice(&number.to_le_bytes());
    bytes
}

/// What a datagram of the relay's port is, its content unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A WireGuard message or a probe, for a mailbox (to the relay) or from one (to a client).
    Passed {
        /// Whose.
        mailbox: Mailbox,
        /// The datagram.
        datagram: &'a [u8],
    },
    /// A word of the relay's own: for [`Question::parse`] or [`Answer::parse`], whole.
    Word(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Tells what a datagram is, by its header. `None`: nothing that a relay passes or says.
    #[must_use]
    pub fn open(bytes: &'a [u8]) -> Option<Self> {
        let (number, rest) = split(bytes)?;
        if number < MAILBOX_MIN {
            return (HELLO..=LIMITED)
                .contains(&number)
                .then_some(Self::Word(bytes));
        }
        let fits = rest.len() <= PASSED_BYTES_MAX;
        let passes = match classify(rest) {
            DatagramKind::WireGuard | DatagramKind::Probe => fits,
            DatagramKind::Stun | DatagramKind::Relay | DatagramKind::Other => false,
        };
        passes.then_some(Self::Passed {
            mailbox: Mailbox(number),
            datagram: rest,
        })
    }
}

fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.strip_prefix(&RELAY_MAGIC)?.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Why a relay does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It does not take this client.
    NotAdmitted,
    /// It has no room for another binding or pair.
    Full,
    /// The pair sends faster than a pair may.
    PairRate,
    /// All together send faster than the relay will.
    Rate,
    /// The volume of the month is used up.
    Volume,
    /// The other end is not bound here.
    NotBound,
    /// It helps ends to meet and passes nothing.
    IntroducesOnly,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::NotAdmitted,
        Self::Full,
        Self::PairRate,
        Self::Rate,
        Self::Volume,
        Self::NotBound,
        Self::IntroducesOnly,
    ];

    const fn number(self) -> u8 {
        match self {
            Self::NotAdmitted => 1,
            Self::Full => 2,
            Self::PairRate => 3,
            Self::Rate => 4,
            Self::Volume => 5,
            Self::NotBound => 6,
            Self::IntroducesOnly => 7,
        }
    }

    fn of(number: u8) -> Option<Option<Self>> {
        let index = usize::from(number);
        match index.checked_sub(1) {
            None => Some(None),
            Some(index) => Self::ALL.get(index).copied().map(Some),
        }
    }
}

/// What a client says to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Are you there, how do you see me, do you know me?
    Hello(Txid),
    /// What is for my mailbox, to the address that this comes from.
    Bind(Bind),
}

/// A client's proof that a mailbox is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    txid: Txid,
    cookie: Cookie,
    key: [u8; 32],
    signature: Signature,
}

impl Bind {
    /// Signs a binding at a relay, with the cookie that the relay gave for this very address.
    #[must_use]
    pub fn sign(transport: &Secret, relay: &TransportKey, cookie: Cookie, txid: Txid) -> Self {
        let signature = transport.sign(Context::Relay, &[relay.as_bytes(), &cookie, &txid]);
        Self {
            txid,
            cookie,
            key: *transport.public().as_bytes(),
            signature,
        }
    }

    /// The number that its answer repeats.
    #[must_use]
    pub const fn txid(&self) -> &Txid {
        &self.txid
    }

    /// The cookie: to be looked at before [`Self::prove`], which costs much more.
    #[must_use]
    pub const fn cookie(&self) -> &Cookie {
        &self.cookie
    }

    /// Whose mailbox it is.
    ///
    /// # Errors
    /// When the key is none, or did not sign this for this relay.
    pub fn prove(&self, relay: &TransportKey) -> Result<TransportKey, BadSignature> {
        let key = TransportKey::parse(self.key).map_err(|_| BadSignature)?;
        let fields: &[&[u8]] = &[relay.as_bytes(), &self.cookie, &self.txid];
        verify(key.key(), Context::Relay, fields, &self.signature)?;
        Ok(key)
    }
}

impl Question {
    /// The frame.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Hello(txid) => {
                let fill = [0; HELLO_FILL_BYTES];
                [&header_of(HELLO)[..], txid, &fill].concat()
            }
            Self::Bind(bind) => {
                let head = header_of(BIND);
                let (key, signature) = (&bind.key[..], bind.signature.as_bytes());
                [&head[..], &bind.txid, &bind.cookie, key, signature].concat()
            }
        }
    }

    /// Reads a frame. A signature in it is not checked yet.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = split(bytes)?;
        let mut reader = Reader { rest };
        let question = match number {
            HELLO => {
                let txid = reader.take()?;
                let fill: [u8; HELLO_FILL_BYTES] = reader.take()?;
                (fill == [0; HELLO_FILL_BYTES]).then_some(Self::Hello(txid))
            }
            BIND => Some(Self::Bind(Bind {
                txid: reader.take()?,
                cookie: reader.take()?,
                key: reader.take()?,
                signature: Signature::new(reader.take()?),
            })),
            _ => None,
        };
        question.filter(|_| reader.rest.is_empty())
    }
}

/// What a relay says about the one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where the question came from.
    pub seen: SocketAddr,
    /// Whether that very address is bound.
    pub bound: bool,
    /// Why it is not, or what would be refused.
    pub reason: Option<Reason>,
}

/// What a relay says to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To HELLO: the cookie to bind with.
    Cookie {
        /// The question's.
        txid: Txid,
        /// How the asker stands.
        standing: Standing,
        /// For a BIND from the same address, within two to four minutes.
        cookie: Cookie,
    },
    /// To BIND.
    Bound {
        /// The question's.
        txid: Txid,
        /// How the asker stands.
        standing: Standing,
    },
    /// Datagrams between the client and this mailbox are lost here.
    Limited {
        /// The other end.
        mailbox: Mailbox,
        /// Why.
        reason: Reason,
    },
}

impl Answer {
    /// The frame.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Cookie {
                txid,
                standing,
                cookie,
            } => {
                let seen = address::to_bytes(standing.seen);
                let head = header_of(COOKIE);
                [&head[..], txid, &seen, cookie, &standing.flags()].concat()
            }
            Self::Bound { txid, standing } => {
                let seen = address::to_bytes(standing.seen);
                [&header_of(BOUND)[..], txid, &seen, &standing.flags()].concat()
            }
            Self::Limited { mailbox, reason } => {
                let mailbox = mailbox.0.to_le_bytes();
                [&header_of(LIMITED)[..], &mailbox, &[reason.number()]].concat()
            }
        }
    }

    /// Reads a frame.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = split(bytes)?;
        let mut reader = Reader { rest };
        let answer = match number {
            COOKIE => {
                let txid = reader.take()?;
                let seen = address::parse(reader.take()?)?;
                let cookie = reader.take()?;
                let standing = Standing::parse(seen, reader.take()?)?;
                Some(Self::Cookie {
                    txid,
                    standing,
                    cookie,
                })
            }
            BOUND => {
                let txid = reader.take()?;
                let seen = address::parse(reader.take()?)?;
                let standing = Standing::parse(seen, reader.take()?)?;
                Some(Self::Bound { txid, standing })
            }
            LIMITED => {
                let mailbox = Mailbox(u64::from_le_bytes(reader.take()?));
                let [reason] = reader.take()?;
                let reason = Reason::of(reason)??;
                (mailbox.0 >= MAILBOX_MIN).then_some(Self::Limited { mailbox, reason })
            }
            _ => None,
        };
        answer.filter(|_| reader.rest.is_empty())
    }
}

impl Standing {
    fn flags(&self) -> [u8; 2] {
        let reason = self.reason.map_or(0, Reason::number);
        [u8::from(self.bound), reason]
    }

    fn parse(seen: SocketAddr, [bound, reason]: [u8; 2]) -> Option<Self> {
        let bound = match bound {
            0 => false,
            1 => true,
            _ => return None,
        };
        let reason = Reason::of(reason)?;
        Some(Self {
            seen,
            bound,
            reason,
        })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*chunk)
    }
}
