//! Counts what the streams of a volunteer bring, and slows them to its budget.
//!
//! A stream whose rate is used up is not read for a moment; so its sender is slowed by the stream's own window, and
//! nothing is lost or stored.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use tokio::time::{Instant, Sleep, sleep};

/// The budget of all streams.
#[derive(Debug)]
pub(super) struct Meter {
    all: Mutex<Bucket>,
    pair_rate: u64,
    bytes: AtomicU64,
    has_room: AtomicBool,
}

impl Meter {
    /// With so many bytes a second for all streams together, and for one.
    pub(super) fn new(rate: u64, pair_rate: u64) -> Self {
        Self {
            all: Mutex::new(Bucket::new(rate, Instant::now())),
            pair_rate,
            bytes: AtomicU64::new(0),
            has_room: AtomicBool::new(true),
        }
    }

    /// Bytes that came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether more may come.
    pub(super) fn allow(&self, has_room: bool) {
        self.has_room.store(has_room, Ordering::Relaxed);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.all
            .lock()
            .expect("nobody panics with the budget in hand")
    }
}

/// So many bytes a second, and an eighth of a second's at once. It may be overdrawn by one read, and then waits.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    /// When what was taken is paid.
    paid: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.max(1);
        Self { rate, paid: now }
    }

    fn wait(&self, now: Instant) -> Duration {
        self.paid.saturating_duration_since(now + BURST)
    }

    fn take(&mut self, bytes: u64, now: Instant) {
        let micros = bytes.saturating_mul(1_000_000) / self.rate;
        self.paid = self.paid.max(now) + Duration::from_micros(micros);
    }
}

/// A connection whose streams are metered.
pub(super) struct Metered {
    inner: StreamMuxerBox,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) const fn new(inner: StreamMuxerBox, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    fn stream(&self, inner: SubstreamBox) -> Slowed {
        Slowed {
            inner,
            pair: Bucket::new(self.meter.pair_rate, Instant::now()),
            meter: Arc::clone(&self.meter),
            read: 0,
            pause: None,
        }
    }
}

impl StreamMuxer for Metered {
    type Substream = Slowed;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Slowed, io::Error>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(inner)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Slowed, io::Error>> {
        let inner = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(inner)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A stream that is read at most as fast as the budget allows.
pub(super) struct Slowed {
    inner: SubstreamBox,
    pair: Bucket,
    meter: Arc<Meter>,
    read: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Slowed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.read > FREE_BYTES && !this.meter.has_room.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::Error::other("the month's volume is used up")));
        }
        loop {
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            let now = Instant::now();
            let wait = this.pair.wait(now).max(this.meter.all().wait(now));
            if wait.is_zero() {
                break;
            }
            this.pause = Some(Box::pin(sleep(wait)));
        }
        let count = ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        let (bytes, now) = (count as u64, Instant::now());
        this.read += bytes;
        this.pair.take(bytes, now);
        this.meter.all().take(bytes, now);
        this.meter.bytes.fetch_add(bytes, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Slowed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// How much of a rate may come at once, as time.
const BURST: Duration = Duration::from_millis(125);
/// What a stream may bring without a budget: negotiations, identify, requests.
const FREE_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_lets_an_eighth_of_a_second_through_at_once_and_then_its_own() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8_000, start);
        let (mut now, mut passed) = (start, 0);
        while now < start + Duration::from_secs(10) {
            if bucket.wait(now).is_zero() {
                bucket.take(100, now);
                passed += 100;
            } else {
                now += bucket.wait(now);
            }
        }
        let all = 80_000 + 1_000;
        assert!((all..=all + 100).contains(&passed), "{passed}");
    }

    #[tokio::test]
    async fn what_was_not_used_is_not_saved() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8_000, start);
        let later = start + Duration::from_secs(60);
        let mut passed = 0;
        while bucket.wait(later).is_zero() {
            bucket.take(100, later);
            passed += 100;
        }
        assert_eq!(passed, 1_100);
    }
}
