//! `meshnode relay test`: one look at a relay from here.

use std::net::SocketAddr;
use std::time::Duration;

use meshnode_protocol::invite::{Hint, Host};
use tokio::net::lookup_host;

use crate::failure::{Exit, Failure};
use crate::output::{self, Style};
use crate::units;
use crate::volunteer::look::{Seen, Sight, sight};
use crate::volunteer::report::KEY_SYMBOLS;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As a relay prints it: KEY@HOST:PORT
    #[arg(value_name = "ADDRESS", value_parser = parse)]
    address: RelayAddress,
}

/// Where a relay is, and the begin of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelayAddress {
    front: String,
    place: Hint,
}

/// A relay that answered with the key of its address.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seen: Seen,
    pub(crate) addresses: Vec<SocketAddr>,
    sight: Sight,
}

impl RelayAddress {
    /// Where it is.
    pub(crate) const fn place(&self) -> &Hint {
        &self.place
    }
}

/// Looks, and says what is there.
pub(crate) fn run(args: &Args, style: Style) -> Result<Exit, Failure> {
    let found = find(&args.address)?;
    let key = found.seen.key.to_string();
    output::data(&shown(style, &args.address, &key, found.sight))?;
    Ok(Exit::Done)
}

/// Looks for the relay of an address.
///
/// # Errors
/// When nobody answers there, or another one.
pub(crate) fn find(address: &RelayAddress) -> Result<Found, Failure> {
    let RelayAddress { front, place } = address;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::world("the system gives no threads", &error))?;
    let found = runtime.block_on(async {
        let addresses = resolve(place).await?;
        Ok((sight(&addresses).await?, addresses))
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    let (sight, addresses) = found?;
    let Some(seen) = sight.tcp.or(sight.quic) else {
        let text = format!("no relay answers at {place}");
        return Err(Failure::new(Exit::TimedOut, "no_relay", text)
            .hint("a firewall may hold back UDP and TCP at its port, or it does not run"));
    };
    let key = seen.key.to_string();
    if !key.starts_with(front) {
        let text = format!("another relay answers at {place}: {}", &key[..KEY_SYMBOLS]);
        return Err(Failure::new(Exit::Refused, "other_relay", text)
            .hint("ask whoever runs it for its address"));
    }
    Ok(Found {
        seen,
        addresses,
        sight,
    })
}

fn shown(style: Style, address: &RelayAddress, key: &str, sight: Sight) -> String {
    let RelayAddress { place, .. } = address;
    let ways = [sight.tcp, sight.quic];
    let carries = ways.iter().flatten().any(|seen| seen.carries);
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let [tcp, quic] = ways.map(|seen| seen.map(|seen| micros(seen.took)));
    let udp = sight.udp.map(|echo| micros(echo.took));
    let front = &key[..KEY_SYMBOLS];
    if style.json {
        let ms = |us: Option<u64>| us.map(|us| us / 1_000);
        let shown = serde_json::json!({
            "schema": 1,
            "address": format!("{front}@{place}"),
            "key": key,
            "udp_ms": ms(udp),
            "tcp_ms": ms(tcp),
            "quic_ms": ms(quic),
            "circuits": carries,
            "seen_as": sight.udp.map(|echo| echo.seen.to_string()),
        });
        return format!("{shown}\n");
    }
    let took = |us: Option<u64>| us.map_or("no answer".to_owned(), units::rtt);
    let seen = sight.udp.map_or(String::new(), |echo| {
        format!(" (this machine is seen as {})", echo.seen)
    });
    format!(
        "{front}@{place} answers\n\
         udp       {}{seen}\n\
         tcp       {}\n\
         quic      {}\n\
         circuits  {}\n\
         key       {key}\n",
        took(udp),
        took(tcp),
        took(quic),
        if carries { "yes" } else { "no" },
    )
}

async fn resolve(place: &Hint) -> Result<Vec<SocketAddr>, Failure> {
    let port = place.port();
    let addresses = match place.host() {
        Host::V4(address) => vec![SocketAddr::from((*address, port))],
        Host::V6(address) => vec![SocketAddr::from((*address, port))],
        Host::Name(name) => {
            let found = lookup_host((name.as_str(), port)).await.map_err(|error| {
                let text = format!("nobody knows where {name} is: {error}");
                Failure::new(Exit::Refused, "name", text)
            })?;
            found.take(ADDRESSES_MAX).collect()
        }
    };
    Ok(addresses)
}

/// Reads `KEY@HOST:PORT`.
///
/// # Errors
/// With the sentence for people.
pub(crate) fn parse(text: &str) -> Result<RelayAddress, String> {
    let wrong = || {
        let text = text.escape_default();
        format!("{text} is no relay's address: it looks like k7q2m9fdx4@relay.example.org:443")
    };
    let (front, place) = text.split_once('@').ok_or_else(wrong)?;
    let front = front.to_ascii_lowercase();
    let is_key = (KEY_SYMBOLS..=PRINTED_KEY_SYMBOLS).contains(&front.len())
        && front.bytes().all(|byte| SYMBOLS.contains(&byte));
    let place = Hint::parse(place).map_err(|_| wrong())?;
    if !is_key || place.member().is_some() {
        return Err(wrong());
    }
    Ok(RelayAddress { front, place })
}

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Symbols of a whole key.
const PRINTED_KEY_SYMBOLS: usize = 52;
/// The symbols of printed keys.
const SYMBOLS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_at_least_ten_symbols_of_a_key_and_a_place() {
        let read = parse("K7q2m9fdx4@relay.example.org:443").unwrap();
        assert_eq!(read.front, "k7q2m9fdx4");
        assert_eq!(read.place.to_string(), "relay.example.org:443");
        assert!(parse("k7q2m9fdx4@[2001:db8::1]:443").is_ok());
        for wrong in [
            "relay.example.org:443",
            "k7q2m9fdx@relay.example.org:443",
            "k7q2m9fdxu@relay.example.org:443",
            "k7q2m9fdx4@relay.example.org",
            "k7q2m9fdx4@",
            "k7q2m9fdx4@relay.example.org:443/txd9g0c2p45bfnabzv9wjs07787e2wqkvak269df08d6hxr7a4d0",
            "",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
