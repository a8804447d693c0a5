//! A proxy of HTTP that leads out by CONNECT (RFC 9110 §9.3.6), and which destinations do without it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE64;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::head::{self, invalid};

/// Where a proxy is, and what it wants to hear.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    credentials: Option<Zeroizing<String>>,
    excepted: Vec<Excepted>,
}

/// Destinations that do without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Excepted {
    All,
    Net(IpAddr, u8),
}

/// Why a proxy leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It does not answer.
    Silent,
    /// It wants a name and a password, or others.
    Credentials,
    /// It leads to no such place; its status.
    Refused(u16),
    /// What answers is no proxy.
    NoProxy,
}

impl Proxy {
    /// Reads `http://USER:PASSWORD@HOST:PORT`; `http://`, user and password may be missing. `but` is as in `no_proxy`:
    /// addresses, networks and `*`, separated by commas; names mean nothing, because peers have addresses only.
    ///
    /// # Errors
    /// With the sentence for people; it never repeats a password.
    pub fn parse(text: &str, but: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("only a proxy by http:// is understood".to_owned()),
            None => text,
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let (host, port) = place_of(place).ok_or("a proxy is written http://HOST:PORT")?;
        let credentials = credentials.map(basic).transpose()?;
        let excepted = but.split(',').filter_map(|word| excepted(word.trim()));
        Ok(Self {
            host,
            port,
            credentials,
            excepted: excepted.collect(),
        })
    }

    /// Where it is, without name and password.
    #[must_use]
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether it is to be asked for a destination: not for this machine and its own link.
    pub(super) fn leads_to(&self, to: IpAddr) -> bool {
        let to = to.to_canonical();
        let is_near = match to {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        };
        !is_near && !self.excepted.iter().any(|but| but.has(to))
    }

    /// A stream to a destination, as far as the proxy sees.
    ///
    /// # Errors
    /// Of the connection, with [`Trouble`] where the proxy is the reason.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<TcpStream, (Trouble, io::Error)> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| (Trouble::Silent, error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| (Trouble::Silent, error))?;
        let mut ask = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
        if let Some(credentials) = &self.credentials {
            ask.push_str("Proxy-Authorization: ");
            ask.push_str(credentials);
            ask.push_str("\r\n");
        }
        ask.push_str("\r\n");
        let sent = stream.write_all(ask.as_bytes()).await;
        sent.map_err(|error| (Trouble::Silent, error))?;
        let (head, rest) = head::read(&mut stream)
            .await
            .map_err(|error| (trouble(&error), error))?;
        let status = head::status(&head).map_err(|error| (Trouble::NoProxy, error))?;
        match status {
            // Nobody there speaks first.
            200..=299 if rest.is_empty() => Ok(stream),
            200..=299 => Err((Trouble::NoProxy, invalid("a proxy speaks for its peer"))),
            407 => Err((Trouble::Credentials, invalid("the proxy wants credentials"))),
            other => Err((Trouble::Refused(other), invalid("the proxy refuses"))),
        }
    }
}

fn trouble(error: &io::Error) -> Trouble {
    if error.kind() == io::ErrorKind::InvalidData {
        Trouble::NoProxy
    } else {
        Trouble::Silent
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

impl Excepted {
    fn has(&self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::All, _) => true,
            (Self::Net(IpAddr::V4(net), bits), IpAddr::V4(ip)) => {
                let apart = net.to_bits() ^ ip.to_bits();
                apart.checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
            }
            (Self::Net(IpAddr::V6(net), bits), IpAddr::V6(ip)) => {
                let apart = net.to_bits() ^ ip.to_bits();
                apart.checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
            }
            (Self::Net(..), _) => false,
        }
    }
}

fn excepted(word: &str) -> Option<Excepted> {
    if word == "*" {
        return Some(Excepted::All);
    }
    let (ip, bits) = match word.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits.parse::<u8>().ok()?)),
        None => (word, None),
    };
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(whole);
    (bits <= whole).then_some(Excepted::Net(ip, bits))
}

fn place_of(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    let port = port.map_or(Some(USUAL_PORT), |port| port.parse().ok())?;
    let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(is_plain);
    (is_host && port > 0).then(|| (host.to_owned(), port))
}

/// `USER:PASSWORD` as the field wants it (RFC 7617); `%` and two digits are one byte, as in any URL.
fn basic(text: &str) -> Result<Zeroizing<String>, String> {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let mut byte = *first;
        rest = after;
        if byte == b'%' {
            let digits = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            let value = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            byte = value.ok_or("the proxy's password has a % that two hex digits must follow")?;
            rest = &after[2..];
        }
        plain.push(byte);
    }
    if !plain.contains(&b':') {
        plain.push(b':');
    }
    let encoded = Zeroizing::new(BASE64.encode(&plain));
    Ok(Zeroizing::new(format!("Basic {}", encoded.as_str())))
}

/// Where none is written.
const USUAL_PORT: u16 = 80;
/// Bytes of a host's name.
const HOST_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_as_every_program_reads_it() {
        for (text, place) in [
            ("http://proxy:3128", "proxy:3128"),
            ("http://proxy:3128/", "proxy:3128"),
            ("HTTP://10.0.0.1:8080", "10.0.0.1:8080"),
            ("proxy.example", "proxy.example:80"),
            ("http://ben:secret@[2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ] {
            assert_eq!(Proxy::parse(text, "").unwrap().place(), place, "{text}");
        }
        for text in [
            "",
            "https://proxy:1",
            "http://a b:1",
            "http://a:0",
            "http://a:x",
            "a:b@:1",
        ] {
            assert!(Proxy::parse(text, "").is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_sent_as_it_was_meant_and_never_shown() {
        let proxy = Proxy::parse("http://ben:p%40ss@proxy:1", "").unwrap();
        let sent = proxy.credentials.as_ref().unwrap().as_str();
        assert_eq!(sent, format!("Basic {}", BASE64.encode(b"ben:p@ss")));
        assert_eq!(format!("{proxy:?}"), "Proxy { credentials: true, .. }");
        let error = Proxy::parse("http://ben:secret%zz@proxy:1", "").unwrap_err();
        assert!(!error.contains("secret"));
    }

    #[test]
    fn what_is_near_or_excepted_needs_no_proxy() {
        let proxy =
            Proxy::parse("a:1", "192.168.0.0/16, 203.0.113.7,example.org,fd00::/8").unwrap();
        let leads = |ip: &str| proxy.leads_to(ip.parse().unwrap());
        for ip in [
            "192.168.3.4",
            "203.0.113.7",
            "fd12::1",
            "127.0.0.1",
            "::1",
            "fe80::1",
        ] {
            assert!(!leads(ip), "{ip}");
        }
        for ip in [
            "192.169.0.1",
            "203.0.113.8",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(leads(ip), "{ip}");
        }
        let never = Proxy::parse("a:1", "*").unwrap();
        assert!(!never.leads_to("8.8.8.8".parse().unwrap()));
        let whole = Proxy::parse("a:1", "0.0.0.0/0,300.0.0.0/8,1.1.1.1/33").unwrap();
        assert!(!whole.leads_to("8.8.8.8".parse().unwrap()));
    }
}
