//! The stream that a road ends in: TCP as it is, or a WebSocket inside of TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite, Sink, Stream};
use libp2p::tcp;
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::head::invalid;

/// A stream of bytes by one road.
pub(super) enum Wire {
    /// TCP.
    Plain(tcp::tokio::TcpStream),
    /// A WebSocket in TLS.
    Web(Box<Web>),
}

/// A WebSocket as a stream of bytes: what its binary messages say, one after the other.
pub(super) struct Web {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    /// Of the message that is being read.
    came: Bytes,
}

impl Web {
    /// Behind the handshake of HTTP; `rest` came behind that.
    pub(super) async fn new(stream: TlsStream<TcpStream>, rest: Vec<u8>, role: Role) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(4 * BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_partially_read(stream, rest, role, Some(config)).await;
        Self {
            socket,
            came: Bytes::new(),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if !self.came.is_empty() {
                let count = self.came.len().min(into.len());
                into[..count].copy_from_slice(&self.came.split_to(count));
                return Poll::Ready(Ok(count));
            }
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.came = bytes,
                // A ping is answered below.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed)) | None => {
                    return Poll::Ready(Ok(0));
                }
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    return Poll::Ready(Err(invalid("a WebSocket speaks in text")));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let count = bytes.len().min(BUFFER_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(broken)?;
        Poll::Ready(Ok(count))
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's errors are many; those of the stream below are kept"
)]
fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Web(web) => web.poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Web(web) => web.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Web(web) => Pin::new(&mut web.socket).poll_flush(cx).map_err(broken),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            Self::Web(web) => Pin::new(&mut web.socket).poll_close(cx).map_err(broken),
        }
    }
}

/// What is read and written at once, and the longest message that is sent: a frame of Noise, mostly.
const BUFFER_BYTES: usize = 64 * 1024;
/// The longest that is taken, as a message or a frame.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
