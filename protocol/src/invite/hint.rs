//! Hints: where a joiner may ask when nobody on its LAN answers: at a member's address, or at a relay's, by whose
//! circuit a member is reached.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::CodeError;
use crate::id::{TransportKey, base32_parse};

const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const SHOWN_SYMBOLS_MAX: usize = 64;

/// A host as a person typed it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name, lower case, without a final dot.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
}

/// `host:port`, with an IPv6 address in brackets; `host:port/KEY` where a relay is, and the member that is reached by
/// it. The port is never zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint {
    host: Host,
    port: u16,
    member: Option<TransportKey>,
}

impl Hint {
    /// Reads `host:port` or `host:port/KEY`.
    ///
    /// # Errors
    /// [`CodeError::Hint`] with the text, cut to what fits on a line.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        Self::read(text)
            .ok_or_else(|| CodeError::Hint(text.chars().take(SHOWN_SYMBOLS_MAX).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        let (place, member) = match text.split_once('/') {
            Some((place, key)) => (place, Some(member_of(key)?)),
            None => (text, None),
        };
        let (host, port) = place.rsplit_once(':')?;
        let port = port_of(port)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => Host::V6(rest.strip_suffix(']')?.parse().ok()?),
            None => named(host)?,
        };
        Some(Self { host, port, member })
    }

    /// The same place, where this member is reached by a relay's circuit.
    #[must_use]
    pub fn by_circuit(self, member: TransportKey) -> Self {
        let member = Some(member);
        Self { member, ..self }
    }

    /// The member that is reached by a circuit, if a relay is at this place.
    #[must_use]
    pub const fn member(&self) -> Option<&TransportKey> {
        self.member.as_ref()
    }

    /// `host:port`, whoever is there.
    #[must_use]
    pub fn place(&self) -> String {
        let port = self.port;
        match &self.host {
            Host::Name(name) => format!("{name}:{port}"),
            Host::V4(address) => format!("{address}:{port}"),
            Host::V6(address) => format!("[{address}]:{port}"),
        }
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        match &self.member {
            Some(member) => write!(f, "/{member}"),
            None => Ok(()),
        }
    }
}

fn member_of(text: &str) -> Option<TransportKey> {
    let bytes = base32_parse(&text.to_ascii_lowercase())?;
    TransportKey::parse(bytes.try_into().ok()?).ok()
}

fn port_of(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten()?;
    (port > 0).then_some(port)
}

fn named(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse() {
        return Some(Host::V4(address));
    }
    let labels = || text.split('.');
    let sound = text.len() <= NAME_BYTES_MAX && labels().all(is_label);
    // A name whose last label is a number is a mistyped IPv4 address, and some resolvers read it as one.
    let number = labels().next_back().is_some_and(|label| {
        label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x")
    });
    (sound && !number).then(|| Host::Name(text.to_ascii_lowercase()))
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
