//! Floods against the real daemon: what they cost it, and that everything else goes on.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use meshnode::carrier::Carrier;
use meshnode::lab::{Machine, Stopwatch, World};
use meshnode::swarm::{Certificate, Swarm, SwarmConfig};
use meshnode_protocol::link::{CallId, DialId, LinkInput, LinkOutput};
use meshnode_protocol::record::{ControlAddress, Transport};
use serde_json::Value;
use tokio::sync::mpsc as channel;
use zeroize::Zeroizing;

use crate::attacker::{datagrams, questions};
use crate::flooder::{FLOOD, Flooder};
use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, agree, eventually, measured, ms, names};

/// Pings while a flood goes on, and between two.
const PINGS: &str = "80";
const PING_EVERY: &str = "100ms";
/// How many of them may be lost: a core takes a message in one step, and one of 1500 ops takes a debug build on a busy
/// machine longer than some probes wait.
const LOST_MAX: u64 = 40;
/// What a member's flood may leave behind. It has room for 4 MiB of ops, about 18 000, of which each has its place in
/// the stored set, its indices and the view; beside that, up to 65 536 ids that were turned away, 8 MiB of held ops,
/// and the messages of its links.
const MEMBER_BYTES_MAX: u64 = 160 << 20;
/// What strangers may leave behind: nothing but buffers of connections, which are few for one address.
const STRANGERS_BYTES_MAX: u64 = 64 << 20;
/// How soon a change of the policy is heard in the midst of a flood: some rounds, on a machine that does much else.
const POLICY_LIMIT: Duration = Duration::from_secs(30);
/// How soon a flooder is out, with a flood between its revocation and who is to hear it.
const AFTER_LIMIT: Duration = Duration::from_secs(30);
/// Strangers with links of their own, and the first of their ports.
const STRANGERS: u8 = 6;
const PORT: u16 = 4300;
/// Connections that one thread holds open.
const HELD: usize = 300;

/// What a daemon uses: bytes of memory, and time of its processor.
#[derive(Clone, Copy)]
struct Use {
    bytes: u64,
    cpu: Duration,
}

impl Use {
    fn of(node: &Node) -> Self {
        let place = process(node.process());
        let read = |file: &str| fs::read_to_string(place.join(file));
        let status = read("status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let stat = read("stat").unwrap();
        // The name may hold anything; the fields stand behind its parenthesis.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        Self {
            bytes: kib.unwrap().parse::<u64>().unwrap() * 1024,
            cpu: Duration::from_millis(ticks * 10),
        }
    }
}

/// Where the host's table has a process that this world knows by a number of its own.
fn process(number: u32) -> PathBuf {
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut places = entries.map(|entry| entry.path());
    let found = places.find(|place| {
        let status = fs::read_to_string(place.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inside = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
        inside == Some(number) && fs::read_link(place.join("ns/pid")).is_ok_and(|ns| ns == own)
    });
    found.expect("the daemon runs")
}

/// Two honest nodes in the midst of a flood.
struct Watched<'a> {
    nodes: [&'a Node; 2],
    before: [Use; 2],
    since: Stopwatch,
}

impl<'a> Watched<'a> {
    fn begin(nodes: [&'a Node; 2]) -> Self {
        Self {
            nodes,
            before: nodes.map(Use::of),
            since: Stopwatch::start(),
        }
    }

    /// Pings from the second to the first, and a change of the policy by the first, while the flood goes on.
    fn live(&self, flood: &str) {
        let [nas, pi] = self.nodes;
        let ping = pi.command(&["ping", nas.name(), "-c", PINGS, "-i", PING_EVERY]);
        let mut ping = ping.start().unwrap();
        thread::sleep(FLOOD / 4);
        let file = nas.machine().directory().join("rules");
        fs::write(
            &file,
            "{\"grants\": [{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"*\"]}]}",
        )
        .unwrap();
        let changed = Stopwatch::start();
        nas.ask(&["policy", "set", file.to_str().unwrap()]);
        eventually(
            "the policy is heard in the midst of a flood",
            POLICY_LIMIT,
            || pi.ask(&["policy"])["exists"] == true,
        );
        measured(
            &format!("{flood}: a policy until it is heard"),
            ms(changed.elapsed()),
        );
        let ended = ping.wait(FLOOD + PATIENCE).unwrap().expect("it ends");
        let said = ping.stdout();
        let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let field = |name: &str| summary["summary"][name].as_u64();
        let received = field("received").unwrap();
        measured(
            &format!("{flood}: pings answered"),
            format!(
                "{received} of {PINGS}, slowest {} ms",
                summary["summary"]["max_ms"]
            ),
        );
        assert!(received + LOST_MAX >= 80, "{ended}: {said}");
    }

    /// What the flood cost.
    fn end(self, flood: &str, bytes_max: u64) {
        let passed = self.since.elapsed().as_secs_f64();
        for (node, before) in self.nodes.iter().zip(self.before) {
            let after = Use::of(node);
            let cpu = (after.cpu - before.cpu).as_secs_f64();
            measured(
                &format!("{flood}: memory of {}", node.name()),
                format!(
                    "{} MiB before, {} MiB after",
                    before.bytes >> 20,
                    after.bytes >> 20
                ),
            );
            measured(
                &format!("{flood}: processor of {}", node.name()),
                format!(
                    "{:.0} % of one core over {passed:.0} s",
                    100.0 * cpu / passed
                ),
            );
            assert!(after.bytes < before.bytes + bytes_max, "{}", node.name());
        }
    }
}

fn unharmed(nodes: [&Node; 2]) {
    for node in nodes {
        let log = node.whole_log();
        assert!(
            !log.contains("panicked") && !log.contains(" ERROR "),
            "{log}"
        );
    }
    let [one, other] = nodes;
    one.reaches(other.name());
    other.reaches(one.name());
}

pub(crate) fn a_member_that_floods_is_borne_and_everything_else_goes_on(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    let machine = lab.machine("mallory").unwrap();
    machine.attach(&lan, "192.168.1.66/24", None).unwrap();
    let mallory = Flooder::join(&machine, &nas.invite(&[]));
    nas.ask(&["--yes", "admin", "add", "mallory"]);
    mallory.is_admin();
    agree(&[&nas, &pi], 3);
    pi.reaches("nas");
    let watched = Watched::begin([&nas, &pi]);
    mallory.begin();
    watched.live("an admin floods");
    let said = mallory.over();
    measured(
        "an admin floods: what it said in 10 s",
        format!(
            "{} rumours, {} pushes, {} questions, {} MiB",
            said.rumours,
            said.pushes,
            said.questions,
            said.bytes >> 20
        ),
    );
    assert!(said.pushes > 10 && said.rumours > 100, "{said:?}");
    watched.end("an admin floods", MEMBER_BYTES_MAX);
    // A person is told, puts it out, and both have it so.
    let told = |node: &Node| node.status()["warnings"].to_string().contains("mallory");
    eventually("a person is told who floods", PATIENCE, || told(&nas));
    // The two took other parts of the flood; what the revocation stands on is fetched all the same.
    let revoked = Stopwatch::start();
    nas.ask(&["--yes", "revoke", "mallory"]);
    eventually("the flooder is out everywhere", AFTER_LIMIT, || {
        [&nas, &pi]
            .iter()
            .all(|node| names(&node.status()).len() == 2)
    });
    measured(
        "an admin floods: revoked until it is out everywhere",
        ms(revoked.elapsed()),
    );
    unharmed([&nas, &pi]);
}

pub(crate) fn strangers_that_flood_the_control_port_are_borne_and_everything_else_goes_on(
    world: &World,
) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    pi.reaches("nas");
    // Two addresses: what one may do is bounded together.
    let [machine, asking] = [66, 67].map(|host| {
        let machine = lab.machine(&format!("stranger-{host}")).unwrap();
        let address = format!("192.168.1.{host}/24");
        machine.attach(&lan, &address, None).unwrap();
        machine
    });
    let port = u16::try_from(nas.status()["self"]["port"].as_u64().unwrap()).unwrap();
    let watched = Watched::begin([&nas, &pi]);
    let udp = machine
        .inside(|| UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    let strangers = strangers(&asking, port);
    let speaking = [false, true].map(|speaks| connections(&machine, port, speaks));
    let noise = thread::spawn(move || {
        datagrams(&udp, port, 0);
        datagrams(&udp, port + 1, 1);
    });
    watched.live("strangers flood");
    let made: usize = speaking
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    noise.join().unwrap();
    let asked = strangers.join().unwrap();
    measured(
        "strangers flood: what they did in 10 s",
        format!("{made} connections without a handshake, {asked} questions over links"),
    );
    assert!(made > 100 && asked > 10, "{made} {asked}");
    watched.end("strangers flood", STRANGERS_BYTES_MAX);
    unharmed([&nas, &pi]);
}

/// Opens connections as fast as they are taken and holds the newest; some get noise, some get nothing.
fn connections(machine: &Machine, port: u16, speaks: bool) -> thread::JoinHandle<usize> {
    let to = SocketAddr::from(([192, 168, 1, 1], port));
    let thread = machine.inside(move || {
        thread::spawn(move || {
            let since = Stopwatch::start();
            let mut held = std::collections::VecDeque::new();
            let mut made = 0;
            while since.elapsed() < FLOOD {
                match TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
                    Ok(mut stream) => {
                        made += 1;
                        if speaks {
                            // It may be closed already; that is the point.
                            let _ = stream.write_all(&[0xAA; 4096]);
                        }
                        held.push_back(stream);
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
                if held.len() > HELD {
                    held.pop_front();
                }
            }
            made
        })
    });
    thread.unwrap()
}

/// Strangers with links of their own that ask everything again and again; gives how many questions were ended.
fn strangers(machine: &Machine, port: u16) -> thread::JoinHandle<usize> {
    let thread = machine.inside(move || {
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let tasks: Vec<_> = (0..STRANGERS)
                    .map(|number| tokio::spawn(stranger(number, port)))
                    .collect();
                let mut asked = 0;
                for task in tasks {
                    asked += task.await.unwrap();
                }
                asked
            })
        })
    });
    thread.unwrap()
}

async fn stranger(number: u8, port: u16) -> usize {
    let (events, mut inputs) = channel::channel(256);
    let config = SwarmConfig {
        seed: Zeroizing::new([100 + number; 32]),
        port: PORT + u16::from(number) * 2,
        mdns: false,
        carrier: Carrier::new().unwrap(),
        certificate: Certificate::passing().unwrap(),
        proxy: None,
    };
    let swarm = Swarm::start(config, events).unwrap();
    let dial = |swarm: &Swarm, dial: u64| {
        let address = SocketAddr::from(([192, 168, 1, 1], port));
        swarm.act(LinkOutput::Dial {
            dial: DialId(dial),
            peer: None,
            addresses: vec![ControlAddress {
                transport: Transport::Tcp,
                address,
            }],
        });
    };
    let since = Stopwatch::start();
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let (mut dials, mut calls, mut ended, mut member) = (0, 0, 0, None);
    while since.elapsed() < FLOOD {
        tokio::select! {
            Some(input) = inputs.recv() => {
                if let LinkInput::Up { peer, dial: Some(_), .. } = &input {
                    member = Some(*peer);
                }
                member = member.filter(|_| !matches!(input, LinkInput::Down { .. }));
                ended += usize::from(matches!(input, LinkInput::Answered { .. }));
            }
            _ = beat.tick() => {
                let Some(peer) = member else {
                    dials += 1;
                    if dials % 10 == 1 {
                        dial(&swarm, dials);
                    }
                    continue;
                };
                for (_, service, bytes) in questions() {
                    calls += 1;
                    swarm.act(LinkOutput::Ask { call: CallId(calls), peer, service, bytes });
                }
            }
        }
    }
    swarm.stop().await;
    ended
}
