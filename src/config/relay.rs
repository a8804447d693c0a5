//! What a volunteer's relay is told: flags, then `relay.toml`, then what is usual.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use meshnode_protocol::id::{TransportKey, base32_parse};
use meshnode_protocol::invite::Hint;
use toml::de::{DeTable, DeValue};

use crate::failure::{Exit, Failure};
use crate::output::clean;
use crate::units;

/// What a relay carries, for whom, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelaySettings {
    /// Bits a second of all pairs together.
    pub(crate) rate_bps: u64,
    /// Bits a second of one pair.
    pub(crate) pair_bps: u64,
    /// Bytes in a calendar month.
    pub(crate) month_bytes: u64,
    /// Pairs at the same time.
    pub(crate) pairs: usize,
    /// UDP and TCP port; QUIC has the UDP port after it.
    pub(crate) port: u16,
    /// The name or address under which others reach it.
    pub(crate) public: Option<String>,
    /// Who may use it; `None`: everybody.
    pub(crate) allowed: Option<BTreeSet<TransportKey>>,
    /// Whether it only helps others to meet.
    pub(crate) introduces_only: bool,
    /// Its own certificate and the key of that; `None`: one that it makes.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

/// What was said of it in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) rate_bps: Option<u64>,
    pub(crate) pair_bps: Option<u64>,
    pub(crate) month_bytes: Option<u64>,
    pub(crate) pairs: Option<usize>,
    pub(crate) port: Option<u16>,
    pub(crate) public: Option<String>,
    pub(crate) allowed: Option<Vec<TransportKey>>,
    pub(crate) introduces_only: Option<bool>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

impl Said {
    /// These words, and where they say nothing, those.
    fn or(self, other: Self) -> Self {
        Self {
            rate_bps: self.rate_bps.or(other.rate_bps),
            pair_bps: self.pair_bps.or(other.pair_bps),
            month_bytes: self.month_bytes.or(other.month_bytes),
            pairs: self.pairs.or(other.pairs),
            port: self.port.or(other.port),
            public: self.public.or(other.public),
            allowed: self.allowed.or(other.allowed),
            introduces_only: self.introduces_only.or(other.introduces_only),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
        }
    }

    /// The settings: flags win over the file, both over what is usual.
    ///
    /// # Errors
    /// With file and line, when the file says what cannot be.
    pub(crate) fn settle(self, file: &Path) -> Result<RelaySettings, Failure> {
        let said = self.or(read(file)?);
        let usual_port = if may_use_low_ports() {
            PORT
        } else {
            PORT_WITHOUT_ROOT
        };
        let tls = match (said.tls_cert, said.tls_key) {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Failure::usage(
                    "a certificate needs its key, and a key its certificate",
                )
                .hint("--tls-cert FILE --tls-key FILE"));
            }
        };
        let rate_bps = said.rate_bps.unwrap_or(RATE_BPS);
        Ok(RelaySettings {
            rate_bps,
            pair_bps: said.pair_bps.unwrap_or(PAIR_BPS).min(rate_bps),
            month_bytes: said.month_bytes.unwrap_or(MONTH_BYTES),
            pairs: said.pairs.unwrap_or(PAIRS),
            port: said.port.unwrap_or(usual_port),
            public: said.public,
            allowed: said.allowed.map(|keys| keys.into_iter().collect()),
            introduces_only: said.introduces_only.unwrap_or(false),
            tls,
        })
    }
}

/// Whether the system lets this process listen at a port below 1024.
fn may_use_low_ports() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.and_then(|rights| u64::from_str_radix(rights.trim(), 16).ok());
    rights.is_some_and(|rights| rights & CAP_NET_BIND_SERVICE != 0)
}

/// Reads `443` or `:443`.
///
/// # Errors
/// With the sentence for people.
pub(crate) fn parse_port(text: &str) -> Result<u16, String> {
    let number = text.strip_prefix(':').unwrap_or(text);
    let port = number
        .parse()
        .ok()
        .filter(|port| (1..u16::MAX).contains(port));
    port.ok_or_else(|| format!("{} is no port: write :443", text.escape_default()))
}

/// Reads a host name or address.
///
/// # Errors
/// With the sentence for people.
pub(crate) fn parse_public(text: &str) -> Result<String, String> {
    let with_port = |host: &str| Hint::parse(&format!("{host}:1")).is_ok();
    let bare = text.to_ascii_lowercase();
    if with_port(&bare) {
        return Ok(bare);
    }
    let bracketed = format!("[{bare}]");
    if with_port(&bracketed) {
        return Ok(bracketed);
    }
    Err(format!(
        "{} is no host name or address; the port is that of --listen",
        text.escape_default()
    ))
}

/// Reads a printed transport key.
///
/// # Errors
/// With the sentence for people.
pub(crate) fn parse_key(text: &str) -> Result<TransportKey, String> {
    let bytes = base32_parse(&text.to_ascii_lowercase());
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes
        .and_then(|bytes| TransportKey::parse(bytes).ok())
        .ok_or_else(|| format!("{} is no node's transport key", text.escape_default()))
}

/// Reads a number of pairs.
///
/// # Errors
/// With the sentence for people.
pub(crate) fn parse_pairs(text: &str) -> Result<usize, String> {
    let pairs = text
        .parse()
        .ok()
        .filter(|pairs| (1..=PAIRS_MAX).contains(pairs));
    pairs.ok_or_else(|| format!("{} is none of 1 to {PAIRS_MAX}", text.escape_default()))
}

fn read(path: &Path) -> Result<Said, Failure> {
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::world(&format!("cannot read {}", path.display()), cause)
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Said::default()),
        Err(error) => return Err(failed(&error)),
        Ok(file) => file,
    };
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| failed(&error))?;
    if text.len() as u64 == FILE_BYTES_MAX {
        return Err(failed(&"it is far too long"));
    }
    parse(&text).map_err(|(number, what)| {
        let text = format!("{}, line {number}: {what}", path.display());
        Failure::new(Exit::Refused, "settings_file", text)
    })
}

/// Gives what the text says, or the line that it goes wrong in and how.
fn parse(text: &str) -> Result<Said, (usize, String)> {
    let line = |byte: usize| text.bytes().take(byte).filter(|b| *b == b'\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let number = error.span().map_or(1, |span| line(span.start));
        (number, clean(error.message()))
    })?;
    let mut said = Said::default();
    for (name, value) in table.get_ref() {
        let number = line(name.span().start);
        note(&mut said, name.get_ref(), value.get_ref()).map_err(|what| (number, clean(&what)))?;
    }
    Ok(said)
}

fn note(said: &mut Said, name: &str, value: &DeValue<'_>) -> Result<(), String> {
    match name {
        "rate" => said.rate_bps = Some(units::parse_rate(word(name, value)?)?),
        "pair-rate" => said.pair_bps = Some(units::parse_rate(word(name, value)?)?),
        "volume" => said.month_bytes = Some(units::parse_volume(word(name, value)?)?),
        "pairs" => said.pairs = Some(parse_pairs(word(name, value)?)?),
        "listen" => said.port = Some(parse_port(word(name, value)?)?),
        "public" => said.public = Some(parse_public(word(name, value)?)?),
        "allow" => said.allowed = Some(keys(value)?),
        "introduce-only" => {
            let DeValue::Boolean(on) = value else {
                return Err(format!("{name} wants true or false"));
            };
            said.introduces_only = Some(*on);
        }
        "tls-cert" => said.tls_cert = Some(PathBuf::from(word(name, value)?)),
        "tls-key" => said.tls_key = Some(PathBuf::from(word(name, value)?)),
        _ => return Err(format!("{} means nothing here", name.escape_default())),
    }
    Ok(())
}

fn word<'a>(name: &str, value: &'a DeValue<'_>) -> Result<&'a str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        DeValue::Integer(number) => Ok(number.as_str()),
        DeValue::Boolean(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => Err(format!("{name} wants a text or a number")),
    }
}

fn keys(value: &DeValue<'_>) -> Result<Vec<TransportKey>, String> {
    let DeValue::Array(items) = value else {
        return Err("allow wants a list of keys".to_owned());
    };
    let keys = items
        .iter()
        .map(|item| parse_key(word("allow", item.get_ref())?));
    keys.collect()
}

/// 100 Mbit/s.
const RATE_BPS: u64 = 100_000_000;
/// 10 Mbit/s.
const PAIR_BPS: u64 = 10_000_000;
/// 1 TB.
const MONTH_BYTES: u64 = 1_000_000_000_000;
/// Usual pairs, and most.
const PAIRS: usize = 500;
const PAIRS_MAX: usize = 16_384;
/// The port that passes most firewalls, and one that needs no rights.
const PORT: u16 = 443;
const PORT_WITHOUT_ROOT: u16 = 4443;
/// The kernel's right to ports below 1024.
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
/// Room for a few hundred keys.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_flags_win_over_it() {
        let text = "rate = \"20 Mbit/s\"\npairs = 9\nlisten = \":4443\"\nvolume = \"500GB/month\"\n\
                    public = \"Relay.example.org\"\nintroduce-only = true\n";
        let file = parse(text).unwrap();
        assert_eq!(file.rate_bps, Some(20_000_000));
        assert_eq!((file.pairs, file.port), (Some(9), Some(4443)));
        assert_eq!(file.month_bytes, Some(500_000_000_000));
        assert_eq!(file.public.as_deref(), Some("relay.example.org"));
        assert_eq!(file.introduces_only, Some(true));
        let flags = Said {
            pairs: Some(7),
            ..Said::default()
        };
        let both = flags.or(file);
        assert_eq!((both.pairs, both.port), (Some(7), Some(4443)));
    }

    #[test]
    fn what_a_file_cannot_mean_is_named_with_its_line() {
        let wrong = [
            (
                "rate = \"20Mbit/s\"\nspeed = 3\n",
                2,
                "speed means nothing here",
            ),
            ("rate = \"fast\"\n", 1, "fast is no rate"),
            ("\nallow = [\"me\"]\n", 2, "me is no node's transport key"),
            (
                "introduce-only = 1\n",
                1,
                "introduce-only wants true or false",
            ),
            ("pairs = 0\n", 1, "0 is none of 1 to 16384"),
            ("listen = 65535\n", 1, "65535 is no port"),
            ("public = \"a:443\"\n", 1, "a:443 is no host name"),
        ];
        for (text, line, what) in wrong {
            let (number, said) = parse(text).unwrap_err();
            assert_eq!(number, line, "{text}");
            assert!(said.starts_with(what), "{said}");
        }
    }

    #[test]
    fn without_a_word_the_usual_holds_and_no_pair_has_more_than_all() {
        let nowhere = Path::new("/nowhere/relay.toml");
        let usual = Said::default().settle(nowhere).unwrap();
        assert_eq!((usual.rate_bps, usual.pair_bps), (RATE_BPS, PAIR_BPS));
        assert_eq!((usual.pairs, usual.month_bytes), (PAIRS, MONTH_BYTES));
        assert_eq!((usual.allowed, usual.public), (None, None));
        let slow = Said {
            rate_bps: Some(1_000_000),
            ..Said::default()
        };
        assert_eq!(slow.settle(nowhere).unwrap().pair_bps, 1_000_000);
    }

    #[test]
    fn an_ipv6_address_is_written_so_that_a_port_can_follow() {
        assert_eq!(parse_public("2001:db8::1").unwrap(), "[2001:db8::1]");
        assert_eq!(parse_public("192.0.2.1").unwrap(), "192.0.2.1");
        assert!(parse_public("relay example").is_err());
    }
}
