//! What leaves nodes, as whoever holds the wire sees it: everything is recorded, and nothing of a network is in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use meshnode::lab::Machine;
use meshnode_protocol::custody::Custody;
use meshnode_protocol::id::base32;
use meshnode_protocol::invite::InviteCode;
use meshnode_protocol::seal::{EpochKey, gossip_topic};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// Frames of Ethernet; loopback and the overlay's own device are no wires.
const ETHERNET: u16 = 1;
/// What the kernel holds for a reader that is late.
const BUFFER_BYTES: usize = 16 << 20;
const FRAME_BYTES_MAX: usize = 65_536;
/// Where the content of a secrets file begins, and what stands behind it.
const SECRETS_HEADER_BYTES: usize = 14;
const SECRETS_CHECKSUM_BYTES: usize = 32;

/// A recorder on every wire of a machine.
pub(crate) struct Recorder {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Records from now on what comes and goes, on wires that are laid later, too.
    pub(crate) fn on(machine: &Machine) -> Self {
        let wire = machine.inside(open).unwrap();
        let (frames, ends) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (into, end) = (Arc::clone(&frames), Arc::clone(&ends));
        let thread = thread::spawn(move || record(&wire, &into, &end));
        Self {
            frames,
            ends,
            thread: Some(thread),
        }
    }

    /// All frames until now.
    pub(crate) fn stop(mut self) -> Vec<Vec<u8>> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.frames.lock().unwrap())
    }
}

fn open() -> OwnedFd {
    let wire = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    );
    let wire = wire.unwrap();
    setsockopt(&wire, sockopt::RcvBufForce, &BUFFER_BYTES)
        .or_else(|_| setsockopt(&wire, sockopt::RcvBuf, &BUFFER_BYTES))
        .unwrap();
    setsockopt(&wire, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000)).unwrap();
    wire
}

fn record(wire: &OwnedFd, frames: &Mutex<Vec<Vec<u8>>>, ends: &AtomicBool) {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        match recvfrom::<LinkAddr>(wire.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => {
                if from.is_some_and(|from| from.hatype() == ETHERNET) {
                    frames.lock().unwrap().push(buffer[..length].to_vec());
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
            }
            Err(errno) => panic!("recording ends with {errno}"),
        }
    }
}

/// What was recorded: every frame, and the bytes of every TCP stream as its reader gets them.
pub(crate) struct Record {
    frames: Vec<Vec<u8>>,
    streams: Vec<Vec<u8>>,
}

impl Record {
    pub(crate) fn new(frames: Vec<Vec<u8>>) -> Self {
        let mut begun: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        let mut parts: BTreeMap<(Vec<u8>, u32), Parts<'_>> = BTreeMap::new();
        for segment in frames.iter().filter_map(|frame| tcp(frame)) {
            if segment.begins {
                begun.insert(segment.stream.clone(), segment.number);
            }
            let start = begun
                .entry(segment.stream.clone())
                .or_insert(segment.number);
            let at = segment.number.wrapping_sub(*start);
            let parts = parts.entry((segment.stream, *start)).or_default();
            let part = parts.entry(at).or_insert(segment.bytes);
            if part.len() < segment.bytes.len() {
                *part = segment.bytes;
            }
        }
        let streams = parts.into_values().map(|parts| in_order(&parts)).collect();
        Self { frames, streams }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether these bytes went over a wire anywhere.
    pub(crate) fn shows(&self, needle: &[u8]) -> bool {
        assert!(needle.len() >= 6, "so short a needle is in any ciphertext");
        let found = |hay: &Vec<u8>| holds(hay, needle);
        self.frames.iter().any(found) || self.streams.iter().any(found)
    }
}

fn holds(hay: &[u8], needle: &[u8]) -> bool {
    let mut rest = hay;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// The pieces of one direction of a stream, by their distance from its beginning.
type Parts<'a> = BTreeMap<u32, &'a [u8]>;

/// The bytes of one direction of a stream; what was sent twice stands once.
fn in_order(parts: &Parts<'_>) -> Vec<u8> {
    let (mut whole, mut end) = (Vec::new(), 0usize);
    for (at, bytes) in parts {
        let at = *at as usize;
        let known = end.saturating_sub(at).min(bytes.len());
        whole.extend(&bytes[known..]);
        end = end.max(at + bytes.len());
    }
    whole
}

/// A piece of one direction of a TCP connection.
struct Segment<'a> {
    /// Addresses and ports.
    stream: Vec<u8>,
    /// The number of its first byte.
    number: u32,
    /// Whether the connection begins here.
    begins: bool,
    bytes: &'a [u8],
}

fn tcp(frame: &[u8]) -> Option<Segment<'_>> {
    let packet = frame.get(14..)?;
    let (addresses, segment) = match frame.get(12..14)? {
        [0x08, 0x00] if packet.get(9) == Some(&6) => {
            let header = usize::from(packet[0] & 15) * 4;
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            (packet.get(12..20)?, packet.get(header..length)?)
        }
        [0x86, 0xDD] if packet.get(6) == Some(&6) => {
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            (packet.get(8..40)?, packet.get(40..40 + length)?)
        }
        _ => return None,
    };
    let data = usize::from(segment.get(12)? >> 4) * 4;
    let begins = segment.get(13)? & 2 != 0;
    let number = u32::from_be_bytes(*segment.get(4..)?.first_chunk()?);
    Some(Segment {
        stream: [addresses, segment.get(..4)?].concat(),
        // The beginning counts as a byte.
        number: number.wrapping_add(u32::from(begins)),
        begins,
        bytes: segment.get(data..)?,
    })
}

/// One thing that must not be seen, in one of the forms that it could have.
pub(crate) struct Needle {
    pub(crate) what: String,
    pub(crate) bytes: Vec<u8>,
}

/// Bytes in every form in which a program could send them.
pub(crate) fn forms(what: &str, raw: &[u8]) -> Vec<Needle> {
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let base32 = base32(raw);
    // The last symbol also depends on what follows.
    let base32 = &base32[..raw.len() * 8 / 5];
    [
        ("raw", raw.to_vec()),
        ("reversed", raw.iter().rev().copied().collect()),
        ("hex", hex.clone().into_bytes()),
        ("HEX", hex.to_uppercase().into_bytes()),
        ("base32", base32.as_bytes().to_vec()),
        ("BASE32", base32.to_uppercase().into_bytes()),
        ("base58", base58(raw).into_bytes()),
    ]
    .into_iter()
    .map(|(form, bytes)| Needle {
        what: format!("{what}, {form}"),
        bytes,
    })
    .collect()
}

/// A text as it is, and in capitals.
pub(crate) fn text_forms(what: &str, text: &str) -> Vec<Needle> {
    [text.to_owned(), text.to_uppercase(), text.to_lowercase()]
        .map(|form| Needle {
            what: format!("{what}, as text"),
            bytes: form.into_bytes(),
        })
        .into()
}

/// The secrets of a membership, from its state directory.
pub(crate) fn secrets(node: &crate::node::Node) -> Custody {
    let file = fs::read(node.state_dir().join("keys")).unwrap();
    let end = file.len() - SECRETS_CHECKSUM_BYTES;
    Custody::parse(&file[SECRETS_HEADER_BYTES..end]).unwrap()
}

/// Everything of a membership that nobody outside may see.
pub(crate) fn of_membership(name: &str, custody: &Custody) -> Vec<Needle> {
    let keys = custody.keys();
    let mut needles = forms(
        &format!("{name}: device id"),
        keys.device.public().as_bytes(),
    );
    needles.extend(forms(
        &format!("{name}: tunnel key, signing form"),
        keys.tunnel.public().as_bytes(),
    ));
    for (number, key) in &custody.epochs {
        let topic = gossip_topic(&EpochKey::from_bytes(key));
        needles.extend(forms(&format!("key of epoch {number}"), key));
        needles.extend(forms(&format!("topic of epoch {number}"), &topic));
    }
    for (secret, what) in [
        (&keys.device, "device"),
        (&keys.transport, "transport"),
        (&keys.tunnel, "tunnel"),
    ] {
        let what = format!("{name}: secret {what} key");
        needles.extend(forms(&what, &*secret.danger_seed()));
    }
    needles
}

/// A code and all that follows from it.
pub(crate) fn of_code(code: &str) -> Vec<Needle> {
    let symbols = crate::node::symbols(code);
    let bare: String = symbols.chars().filter(|c| *c != '-').collect();
    let stretched = InviteCode::parse(code).unwrap().secret().stretch();
    let locator = meshnode_protocol::invite::locator(&stretched.rendezvous);
    let mut needles = text_forms("a code", symbols);
    needles.extend(text_forms("a code without hyphens", &bare));
    for (what, raw) in [
        ("invite key", stretched.public().as_bytes().as_slice()),
        ("rendezvous", &stretched.rendezvous),
        ("psk", &stretched.psk),
        ("locator of a code", &locator),
    ] {
        needles.extend(forms(what, raw));
    }
    needles
}

/// How a peer id is written, as libp2p does.
pub(crate) fn base58(raw: &[u8]) -> String {
    const SYMBOLS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u32> = Vec::new();
    for byte in raw {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += *digit << 8;
            *digit = carry % 58;
            carry /= 58;
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    let digits = digits.iter().rev().map(|digit| *digit as usize);
    std::iter::repeat_n(0, zeros)
        .chain(digits)
        .map(|digit| char::from(SYMBOLS[digit]))
        .collect()
}
