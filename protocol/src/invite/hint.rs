//! Hints: where a joiner may ask when nobody on its LAN answers.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::CodeError;

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

/// `host:port`, with an IPv6 address in brackets. The port is never zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint {
    host: Host,
    port: u16,
}

impl Hint {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// [`CodeError::Hint`] with the text, cut to what fits on a line.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        Self::read(text)
            .ok_or_else(|| CodeError::Hint(text.chars().take(SHOWN_SYMBOLS_MAX).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port_of(port)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => Host::V6(rest.strip_suffix(']')?.parse().ok()?),
            None => named(host)?,
        };
        Some(Self { host, port })
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
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::V4(address) => write!(f, "{address}:{}", self.port),
            Host::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
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
