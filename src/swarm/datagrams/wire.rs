//! One stream of datagrams: what came and is not whole yet, what goes and is not written yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};

use super::frame::{FRAME_BYTES_MAX, pack, unpack};

/// One stream, both ways.
pub(super) struct Wire<S> {
    stream: S,
    /// What came; the first `filled` bytes of it.
    inbox: Box<[u8]>,
    filled: usize,
    /// What goes; the first `written` bytes of it are gone.
    outbox: Vec<u8>,
    written: usize,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            inbox: vec![0; INBOX_BYTES].into_boxed_slice(),
            filled: 0,
            outbox: Vec::new(),
            written: 0,
            unflushed: false,
        }
    }

    /// Takes datagrams to be written, all of them. Only when the ones before are.
    pub(super) fn put(&mut self, datagrams: &[Vec<u8>]) {
        debug_assert!(self.outbox.is_empty(), "what was put before is written");
        for datagram in datagrams {
            if !pack(datagram, &mut self.outbox) {
                tracing::debug!(reason = "its length", "A datagram is not carried");
            }
        }
    }

    /// Ready when all that was put is written; the stream may hold it back until [`Self::poll_flush`].
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outbox.len() {
            let rest = &self.outbox[self.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.unflushed = true;
        }
        self.outbox.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Has the stream send what it holds back.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the datagrams that came, of one read; an error when the stream ended or carries no datagrams.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        give: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        let room = &mut self.inbox[self.filled..];
        let count = ready!(Pin::new(&mut self.stream).poll_read(cx, room))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.filled += count;
        let taken = unpack(&self.inbox[..self.filled], give)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.inbox.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        Poll::Ready(Ok(()))
    }
}

/// What is read at once. A frame that is not whole always leaves room for its end.
const INBOX_BYTES: usize = 8 * FRAME_BYTES_MAX;
