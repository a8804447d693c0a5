//! Slow, lossy and narrow uplinks: every packet between two sites passes a device of the backbone, and waits
//! there as long as the uplinks of both sites ask for.
//!
//! A round trip takes twice the sum of both delays. Packets of one pair of sites never overtake each other. An uplink
//! with a rate keeps up to a tenth of a second of packets, like a home router, and drops what is more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use meshnode::lab::{Machine, Stopwatch};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::{site_of, tools};

/// The device in the backbone.
const DEVICE: &str = "uplinks";

/// How long a narrow uplink keeps packets at most.
const QUEUE_MAX: Duration = Duration::from_millis(100);

/// How often the thread looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// No packet of the backbone is longer.
const PACKET_BYTES_MAX: usize = 65_536;

/// A site's uplink, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    pub(crate) delay_ms: u32,
    /// At most so much more, equally spread.
    pub(crate) jitter_ms: u32,
    pub(crate) loss_percent: u32,
    /// Mbit/s; nothing: as fast as the machine.
    pub(crate) rate_mbit: Option<u32>,
}

impl Uplink {
    /// No delay, no loss, no limit.
    pub(crate) const IDEAL: Self = Self {
        delay_ms: 0,
        jitter_ms: 0,
        loss_percent: 0,
        rate_mbit: None,
    };

    /// An uplink that does nothing but delay, by so much each way.
    pub(crate) const fn of_ms(delay_ms: u32) -> Self {
        Self {
            delay_ms,
            ..Self::IDEAL
        }
    }
}

/// The uplinks of all sites, and the thread that holds packets back.
#[derive(Debug)]
pub(crate) struct Uplinks {
    table: Arc<Mutex<BTreeMap<u8, Uplink>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Uplinks {
    /// From now on everything that `backbone` forwards passes through here.
    pub(crate) fn start(backbone: &Machine) -> Self {
        let device = backbone.inside(|| {
            let mut plan = tun::Configuration::default();
            plan.tun_name(DEVICE).mtu(9_000).up();
            let device = tun::create(&plan).unwrap();
            device.set_nonblock().unwrap();
            device
        });
        let device = device.unwrap();
        tools::ip(backbone, &format!("link set {DEVICE} txqueuelen 10000"));
        for family in ["-4", "-6"] {
            // What the backbone itself says and what was held back long enough leaves; all else is held back first.
            let rules = format!(
                "rule add pref 5 iif lo lookup main\nrule add pref 6 iif {DEVICE} lookup main\n\
                 route add default dev {DEVICE} table 100\nrule add pref 7 lookup 100"
            );
            tools::ip_of(backbone, family, &rules);
        }
        let (table, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let queue = Queue::new(Arc::clone(&table));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || carry(&device, queue, &told));
        Self {
            table,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn set(&self, site: u8, uplink: Uplink) {
        self.table.lock().unwrap().insert(site, uplink);
    }
}

impl Drop for Uplinks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within one look; its own panic has been printed.
            let _ = thread.join();
        }
    }
}

/// The whole life of the thread.
fn carry(device: &tun::Device, mut queue: Queue, stop: &AtomicBool) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        await_packet(device, queue.wait());
        while let Ok(length) = device.recv(&mut buffer) {
            queue.take(&buffer[..length]);
        }
        while let Some(packet) = queue.due() {
            // The kernel drops what it has no room for, as an uplink does.
            let _ = device.send(&packet);
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the device does not lend its descriptor as a safe type"
)]
fn await_packet(device: &tun::Device, limit: Duration) {
    // Borrowed for this call alone, in which the device lives.
    let descriptor = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
    let mut wanted = [PollFd::new(descriptor, PollFlags::POLLIN)];
    let _ = ppoll(&mut wanted, Some(TimeSpec::from_duration(limit)), None);
}

/// Packets that wait, by the moment at which they may go.
struct Queue {
    clock: Stopwatch,
    table: Arc<Mutex<BTreeMap<u8, Uplink>>>,
    packets: BTreeMap<(Duration, u64), Vec<u8>>,
    number: u64,
    /// The last moment given to a packet of this pair.
    last: BTreeMap<(u8, u8), Duration>,
    /// When a narrow uplink has sent all that it keeps, by site and direction.
    free: BTreeMap<(u8, Way), Duration>,
    dice: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Up,
    Down,
}

impl Queue {
    fn new(table: Arc<Mutex<BTreeMap<u8, Uplink>>>) -> Self {
        Self {
            clock: Stopwatch::start(),
            table,
            packets: BTreeMap::new(),
            number: 0,
            last: BTreeMap::new(),
            free: BTreeMap::new(),
            dice: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// How long nothing is due.
    fn wait(&self) -> Duration {
        let first = self.packets.keys().next().map(|(at, _)| *at);
        let wait = first.map_or(LOOK_INTERVAL, |at| at.saturating_sub(self.clock.elapsed()));
        wait.min(LOOK_INTERVAL)
    }

    fn take(&mut self, packet: &[u8]) {
        let Some((from, to)) = ends(packet) else {
            return;
        };
        let (up, down) = {
            let table = self.table.lock().unwrap();
            let uplink = |site| table.get(&site).copied().unwrap_or(Uplink::IDEAL);
            (uplink(from), uplink(to))
        };
        let now = self.clock.elapsed();
        let Some(sent) = self.pass(up, (from, Way::Up), packet.len(), now) else {
            return;
        };
        let Some(at) = self.pass(down, (to, Way::Down), packet.len(), sent) else {
            return;
        };
        let last = self.last.entry((from, to)).or_default();
        *last = at.max(*last);
        self.number += 1;
        self.packets.insert((*last, self.number), packet.to_vec());
    }

    /// When a packet that enters an uplink `at` leaves it; nothing: it is lost.
    fn pass(
        &mut self,
        uplink: Uplink,
        key: (u8, Way),
        bytes: usize,
        at: Duration,
    ) -> Option<Duration> {
        if uplink.loss_percent > 0 && self.roll(100) < u64::from(uplink.loss_percent) {
            return None;
        }
        let mut leaves = at;
        if let Some(rate) = uplink.rate_mbit {
            let free = self.free.entry(key).or_default();
            if *free > at + QUEUE_MAX {
                return None;
            }
            let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
            *free = at.max(*free) + Duration::from_nanos(bits * 1_000 / u64::from(rate));
            leaves = *free;
        }
        let jitter_us = self.roll(u64::from(uplink.jitter_ms) * 1_000 + 1);
        Some(
            leaves
                + Duration::from_millis(uplink.delay_ms.into())
                + Duration::from_micros(jitter_us),
        )
    }

    fn due(&mut self) -> Option<Vec<u8>> {
        let first = self.packets.first_entry()?;
        (first.key().0 <= self.clock.elapsed()).then(|| first.remove())
    }

    /// A number below `sides`, by xorshift.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }
}

/// The sites between which a packet travels; nothing when one of them is none of ours.
fn ends(packet: &[u8]) -> Option<(u8, u8)> {
    let (from, to): (IpAddr, IpAddr) = match packet.first()? >> 4 {
        4 => {
            let field = |at| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
            (field(12)?.into(), field(16)?.into())
        }
        6 => {
            let field = |at| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
            (field(8)?.into(), field(24)?.into())
        }
        _ => return None,
    };
    Some((site_of(from)?, site_of(to)?))
}
