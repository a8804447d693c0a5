//! Packets of a program through the tunnel, until the first one arrives: the proof that an answered probe is more than
//! a probe.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use meshnode::lab::{Machine, Stopwatch};

use crate::node::Node;

/// Between two packets.
const INTERVAL: Duration = Duration::from_millis(20);

/// Packets that are sent again and again.
pub(crate) struct Packets {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Duration>>>,
}

impl Packets {
    /// Begins to send from one node to the other, by their addresses of the overlay.
    pub(crate) fn start(watch: Stopwatch, from: (&Node, IpAddr), to: (&Node, IpAddr)) -> Self {
        let sender = bind(from.0.machine(), from.1);
        let receiver = bind(to.0.machine(), to.1);
        receiver.set_read_timeout(Some(INTERVAL)).unwrap();
        let at = receiver.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                // No route yet, or no path yet: the next one.
                let _ = sender.send_to(b"packet", at);
                let mut buffer = [0; 16];
                let came = receiver.recv_from(&mut buffer);
                if came.is_ok_and(|(length, _)| buffer[..length] == *b"packet") {
                    return Some(watch.elapsed());
                }
            }
            None
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// When the first one arrived; it is waited for until `limit` has passed on the watch.
    pub(crate) fn await_first(mut self, watch: Stopwatch, limit: Duration) -> Option<Duration> {
        let thread = self.thread.take()?;
        while !thread.is_finished() && watch.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::Relaxed);
        thread.join().unwrap()
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A daemon that has just started gives itself its addresses a moment later.
fn bind(machine: &Machine, address: IpAddr) -> UdpSocket {
    let attempt = || -> io::Result<UdpSocket> {
        machine
            .inside(move || UdpSocket::bind((address, 0)))
            .unwrap()
    };
    for _ in 0..200 {
        if let Ok(socket) = attempt() {
            return socket;
        }
        thread::sleep(Duration::from_millis(5));
    }
    attempt().unwrap()
}
