//! One TCP port, two kinds of callers: by the first byte, TLS begins or Noise does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::tcp;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::head::{self, Asked, invalid};
use super::wire::{Web, Wire};

/// Takes a caller as it comes.
///
/// # Errors
/// When it is silent for too long, wanted a page, or speaks neither.
pub(super) async fn receive(
    caller: tcp::tokio::TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<Wire> {
    let received = async {
        let mut first = [0];
        if caller.0.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first == [TLS_HANDSHAKE] {
            web(caller.0, config).await
        } else {
            Ok(Wire::Plain(caller))
        }
    };
    timeout(GREETING_TIME_MAX, received).await?
}

async fn web(caller: TcpStream, config: Arc<ServerConfig>) -> io::Result<Wire> {
    let mut stream = TlsAcceptor::from(config).accept(caller).await?;
    let (head, rest) = head::read(&mut stream).await?;
    match head::question(&head)? {
        Asked::Socket { accept } => {
            stream
                .write_all(head::switching(&accept).as_bytes())
                .await?;
            stream.flush().await?;
            let stream = TlsStream::from(stream);
            Ok(Wire::Web(Box::new(
                Web::new(stream, rest, Role::Server).await,
            )))
        }
        Asked::Page { found } => {
            stream.write_all(head::page(found).as_bytes()).await?;
            stream.shutdown().await?;
            // Closed with something unread, the page would be lost on its way.
            copy(&mut stream, &mut sink()).await?;
            Err(invalid("a page was asked for"))
        }
    }
}

/// Calls a WebSocket over a stream that leads to `to`.
///
/// # Errors
/// When no WebSocket answers there.
pub(super) async fn call(
    stream: TcpStream,
    to: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<Wire> {
    // An address is no name, so none is said (RFC 6066 §3): as a browser does that was given an address.
    let name = ServerName::IpAddress(to.ip().to_canonical().into());
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    let host = match to.port() {
        443 if to.is_ipv4() => to.ip().to_string(),
        _ => to.to_string(),
    };
    let rest = head::ask_for_socket(&mut stream, &host).await?;
    let stream = TlsStream::from(stream);
    Ok(Wire::Web(Box::new(
        Web::new(stream, rest, Role::Client).await,
    )))
}

/// The first byte of every connection with TLS: a record of its handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a caller may take until it is known what it speaks: several round trips of the slowest line.
const GREETING_TIME_MAX: Duration = Duration::from_secs(5);
