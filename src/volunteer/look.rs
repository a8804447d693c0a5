//! A look at a relay from outside, as a stranger: by TCP, by QUIC and by its datagrams.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use meshnode_protocol::record::Transport;
use meshnode_protocol::relay::frame::{Answer, Question, TXID_BYTES};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::config::environment;
use crate::failure::Failure;
use crate::swarm::{Proxy, look};

pub(crate) use crate::swarm::Seen;

/// What was seen of a relay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) tcp: Option<Seen>,
    pub(crate) quic: Option<Seen>,
    pub(crate) udp: Option<Echo>,
}

/// A relay's answer to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) took: Duration,
    /// How the relay sees this machine.
    pub(crate) seen: SocketAddr,
}

/// Looks at one address after the other, by all ways at once, until a relay shows its key.
///
/// # Errors
/// When this machine gives no sockets.
pub(crate) async fn sight(addresses: &[SocketAddr]) -> Result<Sight, Failure> {
    let broken = |error: anyhow::Error| Failure::world("cannot connect", &format!("{error:#}"));
    for address in addresses {
        let beside = address.port().checked_add(1);
        let quic = async {
            let Some(port) = beside else { return Ok(None) };
            let at = SocketAddr::new(address.ip(), port);
            look(Transport::Quic, at, None, PATIENCE).await
        };
        let tcp = look(Transport::Tcp, *address, proxy(), PATIENCE);
        let (tcp, quic, udp) = tokio::join!(tcp, quic, echo(*address));
        let sight = Sight {
            tcp: tcp.map_err(broken)?,
            quic: quic.map_err(broken)?,
            udp: udp?,
        };
        if sight.tcp.or(sight.quic).is_some() {
            return Ok(sight);
        }
    }
    Ok(Sight::default())
}

/// The proxy that the environment tells, if it is one.
fn proxy() -> Option<Proxy> {
    let (proxy, but) = environment::proxy()?;
    Proxy::parse(&proxy, &but).ok()
}

/// Asks by a datagram, a few times; `None` when no answer comes.
async fn echo(address: SocketAddr) -> Result<Option<Echo>, Failure> {
    let failed = |cause: &dyn std::fmt::Display| Failure::world("cannot send datagrams", cause);
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await.map_err(|error| failed(&error))?;
    let mut txid = [0; TXID_BYTES];
    getrandom::fill(&mut txid).map_err(|error| failed(&error))?;
    let question = Question::Hello(txid).to_bytes();
    for _ in 0..TRIES {
        let sent = Instant::now();
        // A machine without a way to the address has no answer either.
        if socket.send_to(&question, address).await.is_err() {
            return Ok(None);
        }
        if let Ok(Some(seen)) = timeout(PATIENCE / TRIES, answer(&socket, address, txid)).await {
            let took = sent.elapsed();
            return Ok(Some(Echo { took, seen }));
        }
    }
    Ok(None)
}

/// Waits for the answer to one question; what else comes is dropped.
async fn answer(
    socket: &UdpSocket,
    relay: SocketAddr,
    wanted: [u8; TXID_BYTES],
) -> Option<SocketAddr> {
    let mut buffer = [0; 1500];
    loop {
        let (bytes, from) = socket.recv_from(&mut buffer).await.ok()?;
        if let (true, Some(Answer::Cookie { txid, standing, .. })) =
            (from == relay, Answer::parse(&buffer[..bytes]))
            && txid == wanted
        {
            return Some(standing.seen);
        }
    }
}

/// How long a relay may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Datagrams that are sent for one answer.
const TRIES: u32 = 4;
