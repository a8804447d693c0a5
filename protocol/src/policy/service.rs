//! What a rule allows at its destination: protocols and ports, as they are written and as they are enforced.

use std::fmt;

use crate::access::{Allow, Ports, number};

/// Names of protocols; the first name of a number is the one that is printed.
const NAMES: [(&str, u8); 13] = [
    ("icmp", number::ICMP),
    ("igmp", 2),
    ("ip-in-ip", 4),
    ("ipv4", 4),
    ("tcp", number::TCP),
    ("egp", 8),
    ("igp", 9),
    ("udp", number::UDP),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", number::ICMPV6),
    ("sctp", number::SCTP),
];

/// What is wrong with ports or a protocol; the sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No such protocol.
    #[error("{0} is no protocol")]
    Protocol(String),
    /// No port, no range of ports.
    #[error("{0} is no port")]
    Port(String),
    /// Ports for a protocol that has none.
    #[error("{0} has no ports")]
    Portless(Proto),
}

/// An IP protocol by its number. ICMP stands for ICMP and ICMP for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proto(u8);

impl Proto {
    /// ICMP, of both address families.
    pub const ICMP: Self = Self(number::ICMP);
    /// TCP.
    pub const TCP: Self = Self(number::TCP);
    /// UDP.
    pub const UDP: Self = Self(number::UDP);

    /// Reads a name or a number from 1 to 255.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        let fault = || ServiceError::Protocol(text.to_owned());
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*number));
        }
        match plain_number(text) {
            Some(number) => match u8::try_from(number) {
                Ok(number) if number != 0 => Ok(Self(number)),
                Ok(_) | Err(_) => Err(fault()),
            },
            None => Err(fault()),
        }
    }

    /// The IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether the protocol has ports that can be told apart.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self.0, number::TCP | number::UDP | number::SCTP)
    }

    fn name(self) -> Option<&'static str> {
        let named = NAMES.iter().find(|(_, number)| *number == self.0);
        named.map(|(name, _)| *name)
    }

    fn allows(self, ports: Ports) -> Vec<Allow> {
        let allow = |number, ports| Allow {
            protocol: Some(number),
            ports,
        };
        if self == Self::ICMP {
            vec![
                allow(number::ICMP, Ports::ALL),
                allow(number::ICMPV6, Ports::ALL),
            ]
        } else {
            vec![allow(self.0, ports)]
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// One entry of a grant's `ip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// `*`: everything.
    All,
    /// `443`, `80-90`: these ports of TCP and UDP, and ICMP.
    Ports(Ports),
    /// `tcp:443`, `udp:*`, `icmp`.
    Proto(Proto, Ports),
}

impl Service {
    /// Reads an entry; `tcp:80,443` is two services.
    ///
    /// # Errors
    /// When a protocol or port is none, or ports stand behind a protocol without ports.
    pub fn parse(text: &str) -> Result<Vec<Self>, ServiceError> {
        if text == "*" {
            return Ok(vec![Self::All]);
        }
        if let Some((proto, ports)) = text.split_once(':') {
            let proto = Proto::parse(proto)?;
            let ports = ports_of(Some(proto), ports)?;
            return Ok(ports
                .into_iter()
                .map(|ports| Self::Proto(proto, ports))
                .collect());
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let ports = parse_ports(text)?;
            return Ok(ports.into_iter().map(Self::Ports).collect());
        }
        Ok(vec![Self::Proto(Proto::parse(text)?, Ports::ALL)])
    }

    /// What is enforced for it.
    #[must_use]
    pub fn allows(&self) -> Vec<Allow> {
        match *self {
            Self::All => vec![Allow::ALL],
            Self::Ports(ports) => of_any(ports),
            Self::Proto(proto, ports) => proto.allows(ports),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            // A bare `*` would be everything.
            Self::Ports(Ports::ALL) => f.write_str("0-65535"),
            Self::Ports(ports) => f.write_str(&ports_text(&[*ports])),
            Self::Proto(proto, _) if !proto.has_ports() && proto.name().is_some() => {
                write!(f, "{proto}")
            }
            Self::Proto(proto, ports) => write!(f, "{proto}:{}", ports_text(&[*ports])),
        }
    }
}

/// What a rule without a protocol allows: these ports of TCP and UDP, and ICMP.
fn of_any(ports: Ports) -> Vec<Allow> {
    let mut allows = Proto::TCP.allows(ports);
    allows.extend(Proto::UDP.allows(ports));
    allows.extend(Proto::ICMP.allows(ports));
    allows
}

/// What an acl allows at ports of one destination.
pub(super) fn acl_allows(proto: Option<Proto>, ports: &[Ports]) -> Vec<Allow> {
    let each = ports.iter().flat_map(|ports| match proto {
        Some(proto) => proto.allows(*ports),
        None => of_any(*ports),
    });
    each.collect()
}

/// Reads ports for a protocol; one without ports takes only `*`.
pub(super) fn ports_of(proto: Option<Proto>, text: &str) -> Result<Vec<Ports>, ServiceError> {
    let ports = parse_ports(text)?;
    match proto {
        Some(proto) if !proto.has_ports() && ports != [Ports::ALL] => {
            Err(ServiceError::Portless(proto))
        }
        Some(_) | None => Ok(ports),
    }
}

/// Reads `*`, `22`, `80-90` or several with commas; ascending.
fn parse_ports(text: &str) -> Result<Vec<Ports>, ServiceError> {
    if text == "*" {
        return Ok(vec![Ports::ALL]);
    }
    let mut all = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let ports = match (plain_number(first), plain_number(last)) {
            (Some(0), Some(u16::MAX)) => Ports::ALL,
            (Some(first), Some(last)) if 0 < first && first <= last => Ports { first, last },
            (Some(_) | None, Some(_) | None) => return Err(ServiceError::Port(part.to_owned())),
        };
        all.push(ports);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// A number of digits alone, without a leading zero: one number has one form.
fn plain_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    if digits && !leading {
        text.parse().ok()
    } else {
        None
    }
}

/// Writes ports as [`parse_ports`] reads them.
pub(super) fn ports_text(ports: &[Ports]) -> String {
    let each = ports.iter().map(|ports| match ports {
        &Ports::ALL => "*".to_owned(),
        Ports { first, last } if first == last => first.to_string(),
        Ports { first, last } => format!("{first}-{last}"),
    });
    each.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Service {
        Service::parse(text).unwrap()[0]
    }

    fn covers(text: &str, protocol: u8, port: Option<u16>) -> bool {
        let services = Service::parse(text).unwrap();
        let mut allows = services.iter().flat_map(Service::allows);
        allows.any(|allow| allow.covers(protocol, port))
    }

    #[test]
    fn what_is_printed_reads_back() {
        for text in [
            "*",
            "443",
            "80-90",
            "0-65535",
            "tcp:*",
            "tcp:1-1024",
            "udp:53",
            "icmp",
            "gre",
            "47:*",
            "254:*",
        ] {
            let service = one(text);
            assert_eq!(one(&service.to_string()), service, "{text}");
        }
        assert_eq!(one("icmp:*"), one("icmp"));
        assert_eq!(one("47:*").to_string(), "gre");
        assert_eq!(Service::parse("tcp:443,80,80").unwrap().len(), 2);
    }

    #[test]
    fn ports_without_a_protocol_are_those_of_tcp_and_udp_with_icmp() {
        for (protocol, port, verdict) in [
            (number::TCP, Some(443), true),
            (number::UDP, Some(443), true),
            (number::TCP, Some(444), false),
            (number::SCTP, Some(443), false),
            (number::ICMP, None, true),
            (number::ICMPV6, None, true),
            (47, None, false),
        ] {
            assert_eq!(covers("443", protocol, port), verdict, "{protocol}");
        }
        assert!(covers("*", 47, None) && covers("*", number::SCTP, Some(1)));
        assert!(covers("icmp", number::ICMPV6, None));
        assert!(!covers("tcp:*", number::ICMP, None));
        assert!(!covers("tcp:*", number::UDP, Some(1)));
    }

    #[test]
    fn what_is_no_port_or_protocol_is_refused() {
        for text in [
            "",
            "tcp:",
            "tcp:0",
            "tcp:65536",
            "tcp:9-8",
            "tcp:+1",
            "tcp:01",
            "tcp:1-",
            "icmp:8",
            "gre:1",
            "foo",
            "foo:1",
            "0:*",
            "256:*",
            "443:",
            "0",
            "1-2-3",
            "tcp:1,,2",
            "tcp:udp",
            "TCP:1",
        ] {
            assert!(Service::parse(text).is_err(), "{text}");
        }
    }
}
