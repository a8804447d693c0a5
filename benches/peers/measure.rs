//! What is measured, and how.

use serde_json::Value;

use super::pair::{Pair, busy_seconds, shell, start, try_shell};
use super::product::Running;

/// Bytes of a UDP payload that fits every tunnel in one piece.
const DATAGRAM_BYTES: u32 = 1200;
/// What a loss-free rate may lose, percent.
const LOSS_PERCENT_MAX: f64 = 0.5;

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// One TCP stream.
    Tcp1,
    /// One TCP stream back.
    Tcp1Back,
    /// Four TCP streams.
    Tcp4,
    /// Datagrams of 64 bytes.
    Small,
    /// A hundred TCP streams.
    Flows,
    /// Datagrams, as many as nothing is lost of.
    Udp,
    /// Round trips while nothing else happens.
    Ping,
    /// Round trips beside four TCP streams.
    Load,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Tcp1Mbps,
    Tcp1BackMbps,
    Tcp4Mbps,
    FlowsMbps,
    SmallPerSecond,
    UdpMbps,
    UdpFloodMbps,
    CpuPerGb,
    MachinePerGb,
    PingMs,
    PingP99Ms,
    LoadMs,
    LoadP99Ms,
    PeakKb,
}

impl What {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp1Mbps => "tcp1 Mbit/s",
            Self::Tcp1BackMbps => "tcp1 back Mbit/s",
            Self::Tcp4Mbps => "tcp4 Mbit/s",
            Self::FlowsMbps => "100 flows Mbit/s",
            Self::SmallPerSecond => "64 B packets/s",
            Self::UdpMbps => "udp Mbit/s",
            Self::UdpFloodMbps => "udp flood Mbit/s",
            Self::CpuPerGb => "cpu s/GB",
            Self::MachinePerGb => "machine s/GB",
            Self::PingMs => "rtt ms",
            Self::PingP99Ms => "rtt p99 ms",
            Self::LoadMs => "rtt loaded ms",
            Self::LoadP99Ms => "rtt loaded p99 ms",
            Self::PeakKb => "peak memory kB",
        }
    }

    /// Whether more is better.
    pub(crate) const fn is_rate(self) -> bool {
        match self {
            Self::Tcp1Mbps
            | Self::Tcp1BackMbps
            | Self::Tcp4Mbps
            | Self::FlowsMbps
            | Self::SmallPerSecond
            | Self::UdpMbps
            | Self::UdpFloodMbps => true,
            Self::CpuPerGb
            | Self::MachinePerGb
            | Self::PingMs
            | Self::PingP99Ms
            | Self::LoadMs
            | Self::LoadP99Ms
            | Self::PeakKb => false,
        }
    }
}

/// A figure and its value.
pub(crate) struct Sample {
    pub(crate) what: What,
    pub(crate) value: f64,
}

const fn sample(what: What, value: f64) -> Sample {
    Sample { what, value }
}

impl Measure {
    pub(crate) const ALL: [Self; 8] = [
        Self::Tcp1,
        Self::Tcp1Back,
        Self::Tcp4,
        Self::Small,
        Self::Flows,
        Self::Udp,
        Self::Ping,
        Self::Load,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1",
            Self::Tcp1Back => "tcp1r",
            Self::Tcp4 => "tcp4",
            Self::Small => "small",
            Self::Flows => "flows",
            Self::Udp => "udp",
            Self::Ping => "ping",
            Self::Load => "load",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let all = Self::ALL.into_iter().find(|measure| measure.name() == name);
        all.ok_or_else(|| format!("{name} is no measure"))
    }

    /// Does it; no figures where the product carries nothing any more.
    pub(crate) fn take(self, pair: &Pair, running: &Running, seconds: u32) -> Vec<Sample> {
        let tcp = |flags: &str| stream(pair, running, &format!("-C cubic -t {seconds} {flags}"));
        match self {
            Self::Tcp1 => {
                let (cpu, busy) = (pair.cost().0, busy_seconds());
                let Some((mbps, gigabytes)) = tcp("") else {
                    return Vec::new();
                };
                let (after, peak) = pair.cost();
                vec![
                    sample(What::Tcp1Mbps, mbps),
                    sample(What::CpuPerGb, (after - cpu) / gigabytes),
                    sample(What::MachinePerGb, (busy_seconds() - busy) / gigabytes),
                    sample(What::PeakKb, peak),
                ]
            }
            Self::Tcp1Back => one(What::Tcp1BackMbps, tcp("-R")),
            Self::Tcp4 => one(What::Tcp4Mbps, tcp("-P 4")),
            Self::Flows => one(What::FlowsMbps, tcp("-P 100")),
            Self::Small => {
                let sent = datagrams(pair, running, "0", 64, seconds.min(3));
                let rate = |(mbps, _): (f64, f64)| mbps * 1e6 / (64.0 * 8.0);
                let rate = sent.map(rate);
                rate.map(|rate| sample(What::SmallPerSecond, rate))
                    .into_iter()
                    .collect()
            }
            Self::Udp => udp(pair, running),
            Self::Ping => round_trips(
                pair,
                &format!("ping -n -i 0.005 -c 300 {}", running.target),
                [What::PingMs, What::PingP99Ms],
            ),
            Self::Load => {
                let target = &running.target;
                let server = serve(pair);
                let load = format!("iperf3 -c {target} -C cubic -t 4");
                let _load = start(pair.left(), &load);
                let ping = format!("sleep 0.8; ping -n -i 0.01 -c 250 -W 1 {target}");
                let samples = round_trips(pair, &ping, [What::LoadMs, What::LoadP99Ms]);
                drop(server);
                samples
            }
        }
    }
}

fn one(what: What, outcome: Option<(f64, f64)>) -> Vec<Sample> {
    let value = outcome.map(|(mbps, _)| sample(what, mbps));
    value.into_iter().collect()
}

fn serve(pair: &Pair) -> meshnode::lab::Process {
    let server = start(pair.right(), "iperf3 -s");
    // It says nothing when it listens, and a client that comes too early is told so at once.
    shell(
        pair.right(),
        "until ss -Htln 'sport = 5201' | grep -q .; do sleep 0.02; done",
    );
    server
}

fn iperf(pair: &Pair, running: &Running, flags: &str) -> Option<Value> {
    let _server = serve(pair);
    let line = format!("iperf3 -J -c {} {flags}", running.target);
    let ended = try_shell(pair.left(), &line);
    let report: Value = serde_json::from_str(&ended.stdout).ok()?;
    report.get("end").cloned()
}

/// Megabits a second and gigabytes received.
fn stream(pair: &Pair, running: &Running, flags: &str) -> Option<(f64, f64)> {
    let end = iperf(pair, running, flags)?;
    let received = end.get("sum_received")?;
    let mbps = received.get("bits_per_second")?.as_f64()? / 1e6;
    let gigabytes = received.get("bytes")?.as_f64()? / 1e9;
    (gigabytes > 0.0).then_some((mbps, gigabytes))
}

/// Megabits a second that arrived, and percent lost.
fn datagrams(
    pair: &Pair,
    running: &Running,
    rate: &str,
    bytes: u32,
    seconds: u32,
) -> Option<(f64, f64)> {
    let flags = format!("-u -l {bytes} -b {rate} -t {seconds} -w 2M");
    let end = iperf(pair, running, &flags)?;
    let sum = end.get("sum")?;
    let lost = sum.get("lost_percent")?.as_f64()?;
    let mbps = sum.get("bits_per_second")?.as_f64()? / 1e6;
    Some((mbps * (1.0 - lost / 100.0), lost))
}

/// The highest rate of which next to nothing is lost, by halving, and what arrives of a flood.
fn udp(pair: &Pair, running: &Running) -> Vec<Sample> {
    let Some((flood, _)) = datagrams(pair, running, "0", DATAGRAM_BYTES, 2) else {
        return Vec::new();
    };
    let (mut low, mut high, mut best) = (0.0, flood * 2.0 + 50.0, 0.0);
    for _ in 0..6 {
        let wanted = f64::midpoint(low, high);
        let rate = format!("{wanted:.0}M");
        // A second try: one stall of a shared machine is not the product's loss.
        let passes =
            |(mbps, lost): &(f64, f64)| *lost <= LOSS_PERCENT_MAX && *mbps >= 0.97 * wanted;
        let mut tries = (0..2).filter_map(|_| datagrams(pair, running, &rate, DATAGRAM_BYTES, 2));
        match tries.find(passes) {
            Some((mbps, _)) => {
                low = wanted;
                best = mbps;
            }
            None => high = wanted,
        }
    }
    vec![
        sample(What::UdpMbps, best),
        sample(What::UdpFloodMbps, flood),
    ]
}

fn round_trips(pair: &Pair, line: &str, [median, tail]: [What; 2]) -> Vec<Sample> {
    let said = try_shell(pair.left(), line).stdout;
    let times = said.split("time=").skip(1);
    let times = times.filter_map(|rest| rest.split(' ').next()?.parse().ok());
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    let Some(last) = times.len().checked_sub(1) else {
        return Vec::new();
    };
    vec![
        sample(median, times[times.len() / 2]),
        sample(tail, times[last.min(times.len() * 99 / 100)]),
    ]
}
