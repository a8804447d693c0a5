//! What a probe says, and its one encoding (`docs/protocol.md` §8.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{PADDING_BYTES_MAX, ProbeError};
use crate::codec::Ext;
use crate::limits::CANDIDATES_MAX;
use crate::record::{Candidate, CandidateKind, Nat};

/// Kind 1, txid 12, family 1, address 16, port 2, number of extensions 1; a PING's is filled up to it.
pub(super) const BODY_BYTES_MIN: usize = 33;
/// Zero bytes of a PING without padding: it has a length of 2 where a PONG has 19 bytes of address.
const PING_FILL_BYTES: usize = 17;
/// Kind 1, family 1, address 16, port 2.
const CANDIDATE_BYTES: usize = 20;
const KIND_PING: u8 = 1;
const KIND_PONG: u8 = 2;
const KIND_CALL: u8 = 3;
const KIND_CALL_ACK: u8 = 4;

/// What a probe says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Are you there?
    Ping {
        /// Chosen at random by the asker; the answer repeats it.
        txid: [u8; 12],
        /// Zero bytes beyond the shortest PING, to test what size passes; at most [`PADDING_BYTES_MAX`].
        padding: u16,
    },
    /// The answer to a PING, never larger than it.
    Pong {
        /// The PING's.
        txid: [u8; 12],
        /// Where the PING came from, as its receiver saw it; `None`: it came by a relay, which hides that.
        observed: Option<SocketAddr>,
    },
    /// Probe me now: here is where I may be.
    Call(Call),
    /// The answer to a CALL, as large as it: probe me, too.
    CallAck(Call),
}

/// What the two ends of a path that is looked for tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Of a CALL chosen at random; the answer repeats it.
    pub txid: [u8; 12],
    /// Of a CALL larger than that of any before it; of the answer, the largest that its sender has heard.
    pub seq: u64,
    /// How the sender's router maps its port.
    pub nat: Nat,
    /// Which port its router takes next.
    pub plan: PortPlan,
    /// Whether the sender begins its half of a run of many probes now (`docs/protocol.md` §8.4).
    pub run: bool,
    /// Where the sender may be, strictly ascending, at most [`CANDIDATES_MAX`].
    pub candidates: Vec<Candidate>,
}

/// What is known of the ports that a router gives to one flow after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    /// The newest one seen; 0 when none was.
    pub last: u16,
    /// From one to the next; 0 when they follow no rule.
    pub step: i16,
}

impl Probe {
    /// The body's bytes, unsealed. Padding beyond [`PADDING_BYTES_MAX`] is cut.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BODY_BYTES_MIN);
        match self {
            Self::Ping { txid, padding } => {
                let padding = (*padding).min(PADDING_BYTES_MAX);
                bytes.push(KIND_PING);
                bytes.extend_from_slice(txid);
                bytes.extend_from_slice(&padding.to_le_bytes());
                bytes.push(0);
                bytes.resize(BODY_BYTES_MIN + usize::from(padding), 0);
            }
            Self::Pong { txid, observed } => {
                bytes.push(KIND_PONG);
                bytes.extend_from_slice(txid);
                match observed {
                    Some(observed) => put_address(&mut bytes, observed),
                    None => bytes.extend_from_slice(&[0; 19]),
                }
                bytes.push(0);
            }
            Self::Call(call) => call.put(KIND_CALL, &mut bytes),
            Self::CallAck(call) => call.put(KIND_CALL_ACK, &mut bytes),
        }
        bytes
    }

    /// Reads a body. Extensions that need not be understood are skipped.
    ///
    /// # Errors
    /// [`ProbeError::Malformed`] when the bytes are no probe in its one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProbeError> {
        let mut reader = Reader { rest: bytes };
        let [kind] = reader.take()?;
        let txid = reader.take()?;
        let probe = match kind {
            KIND_PING => {
                let padding = u16::from_le_bytes(reader.take()?);
                reader.skip_ext()?;
                let fill = PING_FILL_BYTES + usize::from(padding);
                let zero = reader.rest.len() == fill && reader.rest.iter().all(|byte| *byte == 0);
                reader.rest = &[];
                (zero && padding <= PADDING_BYTES_MAX).then_some(Self::Ping { txid, padding })
            }
            KIND_PONG => {
                let observed = reader.address()?;
                reader.skip_ext()?;
                Some(Self::Pong { txid, observed })
            }
            KIND_CALL => Some(Self::Call(reader.call(txid)?)),
            KIND_CALL_ACK => Some(Self::CallAck(reader.call(txid)?)),
            _ => None,
        };
        let whole = reader.rest.is_empty();
        probe.filter(|_| whole).ok_or(ProbeError::Malformed)
    }
}

impl Call {
    /// Every CALL is as long as the longest, so that no answer is larger than its question.
    fn put(&self, kind: u8, bytes: &mut Vec<u8>) {
        bytes.push(kind);
        bytes.extend_from_slice(&self.txid);
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.push(self.nat as u8);
        bytes.extend_from_slice(&self.plan.last.to_le_bytes());
        bytes.extend_from_slice(&self.plan.step.to_le_bytes());
        bytes.push(u8::from(self.run));
        let candidates = &self.candidates[..self.candidates.len().min(CANDIDATES_MAX)];
        bytes.push(candidates.len() as u8);
        for candidate in candidates {
            bytes.push(candidate.kind as u8);
            put_address(bytes, &candidate.address);
        }
        let empty = CANDIDATES_MAX - candidates.len();
        bytes.resize(bytes.len() + empty * CANDIDATE_BYTES, 0);
        bytes.push(0);
    }
}

fn put_address(bytes: &mut Vec<u8>, address: &SocketAddr) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend_from_slice(&ip.octets());
            bytes.extend_from_slice(&[0; 12]);
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&address.port().to_le_bytes());
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProbeError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(ProbeError::Malformed)?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn address(&mut self) -> Result<Option<SocketAddr>, ProbeError> {
        let [family] = self.take()?;
        let octets: [u8; 16] = self.take()?;
        let port = u16::from_le_bytes(self.take()?);
        let ip = match family {
            0 if octets == [0; 16] && port == 0 => return Ok(None),
            4 if octets[4..] == [0; 12] => {
                IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
            }
            6 => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return Err(ProbeError::Malformed),
        };
        if ip.to_canonical() != ip {
            return Err(ProbeError::Malformed);
        }
        Ok(Some(SocketAddr::new(ip, port)))
    }

    fn call(&mut self, txid: [u8; 12]) -> Result<Call, ProbeError> {
        let seq = u64::from_le_bytes(self.take()?);
        let [nat] = self.take()?;
        let nat = nat_of(nat).ok_or(ProbeError::Malformed)?;
        let plan = PortPlan {
            last: u16::from_le_bytes(self.take()?),
            step: i16::from_le_bytes(self.take()?),
        };
        let [run] = self.take()?;
        let [count] = self.take()?;
        let mut candidates = Vec::new();
        for slot in 0..CANDIDATES_MAX {
            if slot >= usize::from(count) {
                let empty: [u8; CANDIDATE_BYTES] = self.take()?;
                if empty != [0; CANDIDATE_BYTES] {
                    return Err(ProbeError::Malformed);
                }
                continue;
            }
            let [kind] = self.take()?;
            let kind = kind_of(kind).ok_or(ProbeError::Malformed)?;
            let address = self.address()?.ok_or(ProbeError::Malformed)?;
            candidates.push(Candidate { kind, address });
        }
        let ascending = candidates.windows(2).all(|pair| pair[0] < pair[1]);
        if usize::from(count) > CANDIDATES_MAX || !ascending || run > 1 {
            return Err(ProbeError::Malformed);
        }
        self.skip_ext()?;
        Ok(Call {
            txid,
            seq,
            nat,
            plan,
            run: run == 1,
            candidates,
        })
    }

    fn skip_ext(&mut self) -> Result<(), ProbeError> {
        let [count] = self.take()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let kind = u16::from_le_bytes(self.take()?);
            let len = usize::from(u16::from_le_bytes(self.take()?));
            let (value, rest) = self
                .rest
                .split_at_checked(len)
                .ok_or(ProbeError::Malformed)?;
            self.rest = rest;
            entries.push((kind, value.to_vec()));
        }
        let ext = Ext::new(entries).map_err(|_| ProbeError::Malformed)?;
        if ext.must_understand() {
            return Err(ProbeError::Malformed);
        }
        Ok(())
    }
}

const fn nat_of(number: u8) -> Option<Nat> {
    Some(match number {
        0 => Nat::Unknown,
        1 => Nat::None,
        2 => Nat::Independent,
        3 => Nat::Sequential,
        4 => Nat::Random,
        _ => return None,
    })
}

const fn kind_of(number: u8) -> Option<CandidateKind> {
    Some(match number {
        0 => CandidateKind::Host,
        1 => CandidateKind::Observed,
        2 => CandidateKind::Mapped,
        3 => CandidateKind::Static,
        _ => return None,
    })
}
