//! Datagrams over the overlay, one after the other: when the last one came, and for how long none did.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use meshnode::lab::Stopwatch;

use crate::node::{Node, PATIENCE, eventually};

/// Between two datagrams.
const BEAT: Duration = Duration::from_millis(5);

/// Datagrams from one node to another, until they are stopped.
pub(crate) struct Stream {
    pub(crate) since: Stopwatch,
    stop: Arc<AtomicBool>,
    came: Arc<AtomicBool>,
    receiver: thread::JoinHandle<Heard>,
    sender: thread::JoinHandle<()>,
}

/// What the receiver noticed.
#[derive(Default)]
struct Heard {
    /// When the last came, after the start; zero if none did.
    last: Duration,
    /// The longest time without one, after the first.
    gap: Duration,
}

impl Stream {
    pub(crate) fn start(from: &Node, to: &Node) -> Self {
        let (ours, theirs) = (from.addresses()[0], to.addresses()[0]);
        let bind = |node: &Node, ip| node.machine().inside(move || UdpSocket::bind((ip, 0)));
        let sender = bind(from, ours).unwrap().unwrap();
        let receiver = bind(to, theirs).unwrap().unwrap();
        receiver.set_read_timeout(Some(BEAT)).unwrap();
        let at: SocketAddr = receiver.local_addr().unwrap();
        let (stop, came) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (mine, its, news) = (Arc::clone(&stop), Arc::clone(&stop), Arc::clone(&came));
        let since = Stopwatch::start();
        let receiver = thread::spawn(move || {
            let mut heard = Heard::default();
            while !mine.load(Ordering::Relaxed) {
                let one = receiver.recv_from(&mut [0; 16]).is_ok();
                let now = since.elapsed();
                if !heard.last.is_zero() {
                    heard.gap = heard.gap.max(now - heard.last);
                }
                if one {
                    heard.last = now;
                    news.store(true, Ordering::Relaxed);
                }
            }
            heard
        });
        let sender = thread::spawn(move || {
            while !its.load(Ordering::Relaxed) {
                // Where there is no route any more nothing is sent: the receiver sees that as silence.
                let _ = sender.send_to(b"beat", at);
                thread::sleep(BEAT);
            }
        });
        Self {
            since,
            stop,
            came,
            receiver,
            sender,
        }
    }

    /// Waits until one more comes.
    pub(crate) fn one_more(&self) {
        self.came.store(false, Ordering::Relaxed);
        eventually("one more datagram comes", PATIENCE, || {
            self.came.load(Ordering::Relaxed)
        });
    }

    /// How long after the start the last datagram came; zero if none did.
    pub(crate) fn last(self) -> Duration {
        self.heard().last
    }

    /// The longest time without a datagram.
    pub(crate) fn longest_gap(self) -> Duration {
        self.one_more();
        self.heard().gap
    }

    fn heard(self) -> Heard {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        self.receiver.join().unwrap()
    }
}
