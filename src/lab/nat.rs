//! The rules of a NAT router, as one nf_tables transaction in hand-written netlink.
//!
//! What a home router does, in the words of `nft`:
//!
//! ```text
//! table ip lab {
//!   chain postrouting { type nat hook postrouting priority 100; oifname WAN masquerade }
//!   chain input   { type filter hook input priority 0;
//!                   iifname WAN ct state established,related accept; iifname WAN drop }
//!   chain forward { type filter hook forward priority 0;
//!                   iifname WAN ct state established,related accept; iifname WAN drop }
//! }
//! ```
//!
//! The two drops matter more than they seem: a packet for a mapping that is not there yet must vanish before the
//! connection tracker keeps it, else the mapping that comes a moment later gets another port, and two peers that
//! punch at the same time miss each other.
//!
//! A message on the wire, all parts padded to 4 bytes:
//!
//! ```text
//! nlmsghdr   length u32, type u16 = subsystem 10 << 8 | message, flags u16, sequence u32, port u32   host order
//! nfgenmsg   family u8, version u8 = 0, resource u16 (10 in begin and end, else 0)                   big endian
//! nlattr..   length u16, kind u16 (0x8000 = holds attributes), payload                               host order
//! ```
//!
//! Numbers inside payloads are big endian, except those that are compared with a register as the kernel holds it
//! (`ct state`). The transaction stands between a begin and an end message; the kernel takes all of it or nothing.

use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendmsg, socket,
};

use super::Error;

const TABLE: &str = "lab";
const FAMILY_IPV4: u8 = 2;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;

const FLAG_REQUEST: u16 = 0x001;
const FLAG_ACK: u16 = 0x004;
const FLAG_CREATE: u16 = 0x400;
const FLAG_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// Netlink's type of the message that acknowledges or refuses.
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;

const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_FILTER: u32 = 0;
const PRIORITY_SOURCE_NAT: u32 = 100;

const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const CT_STATE: u32 = 0;
/// The bits of `established` and `related` in `ct state`.
const CT_ANSWERS: u32 = 0b110;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
const INTERFACE_NAME_BYTES: usize = 16;

/// Makes the calling thread's namespace a port-restricted NAT towards the link `wan`.
///
/// # Errors
/// [`Error::NatMissing`] when the kernel lacks nf_tables or one of the parts used, [`Error::Denied`] without the
/// right to administer the namespace.
pub(crate) fn masquerade(wan: &str) -> Result<(), Error> {
    let mut batch = Batch::default();
    batch.push(BATCH_BEGIN, 0, &[]);
    batch.push(NEW_TABLE, FLAG_CREATE, &[text(1, TABLE)]);
    batch.chain("postrouting", "nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT);
    batch.rule(
        "postrouting",
        &[
            name_of(META_OUTPUT_NAME),
            is_link(wan),
            expression("masq", &[]),
        ],
    );
    for (chain, hook) in [("input", HOOK_INPUT), ("forward", HOOK_FORWARD)] {
        batch.chain(chain, "filter", hook, PRIORITY_FILTER);
        let mut answers = vec![name_of(META_INPUT_NAME), is_link(wan)];
        answers.extend(is_an_answer());
        answers.push(verdict(VERDICT_ACCEPT));
        batch.rule(chain, &answers);
        batch.rule(
            chain,
            &[
                name_of(META_INPUT_NAME),
                is_link(wan),
                verdict(VERDICT_DROP),
            ],
        );
    }
    batch.push(BATCH_END, 0, &[]);
    batch.commit().map_err(explain)
}

fn explain(errno: Errno) -> Error {
    const MISSING: [Errno; 4] = [
        Errno::EPROTONOSUPPORT,
        Errno::EOPNOTSUPP,
        Errno::ENOENT,
        Errno::EAFNOSUPPORT,
    ];
    if MISSING.contains(&errno) {
        return Error::NatMissing(errno);
    }
    Error::errno("set up a NAT", errno)
}

/// Messages of one transaction.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Number of messages so far; each carries its place as its sequence number.
    messages: u32,
    /// How many of them the kernel is to acknowledge.
    awaited: u32,
}

impl Batch {
    fn push(&mut self, kind: u16, flags: u16, attributes: &[Vec<u8>]) {
        let body = attributes.concat();
        let (family, resource, ack) = match kind {
            BATCH_BEGIN | BATCH_END => (0, SUBSYSTEM, 0),
            _ => (FAMILY_IPV4, 0, FLAG_ACK),
        };
        let length = (HEADER_BYTES + 4 + body.len()) as u32;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes
            .extend((FLAG_REQUEST | ack | flags).to_ne_bytes());
        self.bytes.extend(self.messages.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(body);
        self.messages += 1;
        self.awaited += u32::from(ack != 0);
    }

    fn chain(&mut self, name: &str, kind: &str, hook: u32, priority: u32) {
        let place = nested(4, &[number(1, hook), number(2, priority)]);
        let policy = number(5, VERDICT_ACCEPT);
        self.push(
            NEW_CHAIN,
            FLAG_CREATE,
            &[text(1, TABLE), text(3, name), place, policy, text(7, kind)],
        );
    }

    fn rule(&mut self, chain: &str, expressions: &[Vec<u8>]) {
        let list = nested(4, expressions);
        self.push(
            NEW_RULE,
            FLAG_CREATE | FLAG_APPEND,
            &[text(1, TABLE), text(2, chain), list],
        );
    }

    /// Hands the transaction over and reads the verdict on each message; the first refusal is the reason.
    fn commit(self) -> Result<(), Errno> {
        let kind = SockType::Raw;
        let protocol = SockProtocol::NetlinkNetFilter;
        let netlink = socket(
            AddressFamily::Netlink,
            kind,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        let parts = [IoSlice::new(&self.bytes)];
        let kernel = NetlinkAddr::new(0, 0);
        sendmsg(
            netlink.as_raw_fd(),
            &parts,
            &[],
            MsgFlags::empty(),
            Some(&kernel),
        )?;
        let mut acknowledged = 0;
        let mut buffer = [0; 8192];
        while acknowledged < self.awaited {
            // The kernel has answered by the time the send returns.
            let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
            acknowledged += read_verdicts(&buffer[..length])?;
        }
        Ok(())
    }
}

/// Counts the acknowledgements in one datagram.
fn read_verdicts(mut datagram: &[u8]) -> Result<u32, Errno> {
    let mut acknowledged = 0;
    while let Some((header, rest)) = datagram.split_at_checked(HEADER_BYTES) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body_length = length.checked_sub(HEADER_BYTES).ok_or(Errno::EBADMSG)?;
        let body = rest.get(..body_length).ok_or(Errno::EBADMSG)?;
        if kind == NLMSG_ERROR {
            let code = body.first_chunk::<4>().ok_or(Errno::EBADMSG)?;
            match i32::from_ne_bytes(*code) {
                0 => acknowledged += 1,
                refused => return Err(Errno::from_raw(refused.saturating_neg())),
            }
        }
        datagram = rest
            .get(body_length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(acknowledged)
}

/// Loads the name of a packet's link.
fn name_of(side: u32) -> Vec<u8> {
    expression("meta", &[number(1, REGISTER), number(2, side)])
}

/// Goes on only when the loaded name is `link`; the kernel compares all 16 bytes, so the rest is zero.
fn is_link(link: &str) -> Vec<u8> {
    let mut name = link.as_bytes().to_vec();
    name.resize(INTERFACE_NAME_BYTES, 0);
    compare(EQUAL, &name)
}

/// Goes on only when the packet belongs to something that was begun from inside.
fn is_an_answer() -> [Vec<u8>; 3] {
    let mask = nested(4, &[attribute(1, &CT_ANSWERS.to_ne_bytes())]);
    let flip = nested(5, &[attribute(1, &0_u32.to_ne_bytes())]);
    [
        expression("ct", &[number(1, REGISTER), number(2, CT_STATE)]),
        expression(
            "bitwise",
            &[
                number(1, REGISTER),
                number(2, REGISTER),
                number(3, 4),
                mask,
                flip,
            ],
        ),
        compare(NOT_EQUAL, &0_u32.to_ne_bytes()),
    ]
}

fn compare(operation: u32, value: &[u8]) -> Vec<u8> {
    let data = nested(3, &[attribute(1, value)]);
    expression("cmp", &[number(1, REGISTER), number(2, operation), data])
}

fn verdict(code: u32) -> Vec<u8> {
    let data = nested(2, &[nested(2, &[number(1, code)])]);
    expression("immediate", &[number(1, REGISTER_VERDICT), data])
}

/// One element of a rule's list: the name of a kernel part and what it is to do.
fn expression(part: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, part), nested(2, attributes)])
}

fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_counts_its_bytes_but_is_padded() {
        let bytes = text(3, "nat");
        assert_eq!(bytes[..2], 8_u16.to_ne_bytes());
        assert_eq!(bytes[4..], *b"nat\0");
        let bytes = attribute(1, b"x");
        assert_eq!(bytes[..2], 5_u16.to_ne_bytes());
        assert_eq!(bytes.len(), 8);
    }

    #[test]
    fn a_kernel_without_nat_is_told_apart_from_a_missing_right() {
        assert!(matches!(explain(Errno::EOPNOTSUPP), Error::NatMissing(_)));
        assert!(matches!(explain(Errno::EPERM), Error::Denied(_)));
    }

    #[test]
    fn a_refusal_in_the_answer_is_its_error_number() {
        let answer = |code: i32| {
            let mut bytes = Vec::new();
            bytes.extend(20_u32.to_ne_bytes());
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert_eq!(read_verdicts(&[answer(0), answer(0)].concat()), Ok(2));
        assert_eq!(
            read_verdicts(&[answer(0), answer(-2)].concat()),
            Err(Errno::ENOENT)
        );
        assert_eq!(read_verdicts(&answer(0)[..18]), Err(Errno::EBADMSG));
        assert_eq!(read_verdicts(&[0; 16]), Err(Errno::EBADMSG));
    }
}
