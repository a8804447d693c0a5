//! A machine with the real program on it: what people type there, and what they may then expect.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Ended, Machine, Process, Program, Stopwatch};
use serde_json::Value;

/// How long a command may take before it counts as stuck.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(75);

/// How long what follows by itself (a path, a copy, a removal) may take before it counts as missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long nodes that were apart may take to hold the same: a round that is held anyway, at the latest.
const AGREE_LIMIT: Duration = Duration::from_secs(75);

/// How long a daemon may take to open its socket, and to stop.
const DAEMON_LIMIT: Duration = Duration::from_secs(10);

/// How often something awaited is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Words of a person's last lines of a log that are quoted when a story ends badly.
const QUOTED_LINES: usize = 25;

/// One membership's place on a machine: its state directory, its socket, its daemon.
#[derive(Debug)]
pub(crate) struct Node {
    machine: Rc<Machine>,
    place: String,
    flags: Vec<String>,
    settings: Vec<String>,
    daemon: Option<Process>,
}

impl Node {
    /// A machine whose daemon is off.
    pub(crate) fn new(machine: Machine) -> Self {
        Self::beside(&Rc::new(machine), "state", &[])
    }

    /// One of several places on one machine; its daemon gets `flags`.
    pub(crate) fn beside(machine: &Rc<Machine>, place: &str, flags: &[&str]) -> Self {
        Self {
            machine: Rc::clone(machine),
            place: place.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            settings: Vec::new(),
            daemon: None,
        }
    }

    /// A new machine with its daemon on.
    pub(crate) fn on(machine: Machine) -> Self {
        let mut node = Self::new(machine);
        node.switch_on();
        node
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(crate) fn name(&self) -> &str {
        self.machine.name()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.machine.directory().join(&self.place)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.machine
            .directory()
            .join(format!("{}.sock", self.place))
    }

    /// From the next start on the daemon runs with these settings (`NAME=VALUE`).
    pub(crate) fn set(&mut self, settings: &[String]) {
        self.settings = settings.to_vec();
    }

    /// Starts the daemon and waits until its socket answers.
    pub(crate) fn switch_on(&mut self) {
        let program = self.machine.command("env");
        let program = program.args(&self.settings).arg(PROGRAM).arg("daemon");
        let program = self.places(program).args(&self.flags);
        let mut daemon = program.start().unwrap();
        let watch = Stopwatch::start();
        while UnixStream::connect(self.socket()).is_err() {
            let ended = daemon.wait(LOOK_INTERVAL).unwrap();
            let late = watch.elapsed() > DAEMON_LIMIT;
            assert!(
                ended.is_none() && !late,
                "{}: the daemon does not answer: {ended:?} {}",
                self.name(),
                daemon.stderr()
            );
        }
        self.daemon = Some(daemon);
    }

    /// Asks the daemon to stop, and expects that it obeys.
    pub(crate) fn switch_off(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let status = daemon.stop(DAEMON_LIMIT).unwrap();
            assert!(status.success(), "{} stops with {status}", self.name());
        }
    }

    /// Kills the daemon with SIGKILL, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.daemon = None;
    }

    /// Whether the daemon that was started still runs.
    pub(crate) fn runs(&mut self) -> bool {
        let daemon = self.daemon.as_mut();
        daemon.is_some_and(|daemon| daemon.wait(Duration::ZERO).unwrap().is_none())
    }

    /// The process of the daemon.
    pub(crate) fn process(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// A command of this machine's person, with `--json`.
    pub(crate) fn command(&self, words: &[&str]) -> Program<'_> {
        let program = self.places(self.machine.command(PROGRAM));
        program.args(words).arg("--json")
    }

    fn places<'a>(&self, program: Program<'a>) -> Program<'a> {
        let program = program.arg("--state-dir").arg(self.state_dir());
        program.arg("--socket").arg(self.socket())
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        self.command(words).output(COMMAND_LIMIT).unwrap()
    }

    /// A command that must succeed; all its lines.
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<Value> {
        let ended = self.run(words);
        let log = if ended.status.success() {
            String::new()
        } else {
            self.log()
        };
        assert!(
            ended.status.success(),
            "{}: {}: {ended}\n{}{}\ndaemon:\n{log}",
            self.name(),
            words[0],
            ended.stdout,
            ended.stderr
        );
        parse(&ended.stdout)
    }

    /// A command that must succeed; its last object.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        self.lines(words).pop().expect("an object")
    }

    /// A command that must fail; its exit code and its sentence.
    pub(crate) fn refused(&self, words: &[&str]) -> (i32, String) {
        let ended = self.run(words);
        let object = parse(&ended.stdout).pop().unwrap_or_default();
        let said = text(&object, "/error/text");
        (ended.status.code().unwrap_or(-1), said)
    }

    pub(crate) fn init(&self, network: &str) -> Value {
        self.ask(&["init", "--name", network])
    }

    /// A fresh code, as it is to be typed.
    pub(crate) fn invite(&self, flags: &[&str]) -> String {
        let words: Vec<&str> = ["invite"].iter().chain(flags).copied().collect();
        text(&self.ask(&words), "/code")
    }

    pub(crate) fn join(&self, code: &str) -> Value {
        self.ask(&["join", code])
    }

    pub(crate) fn status(&self) -> Value {
        self.ask(&["status"])
    }

    /// The addresses of the overlay: IPv4, then IPv6.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        let status = self.status();
        ["/self/ipv4", "/self/ipv6"].map(|field| text(&status, field).parse().unwrap())
    }

    /// Whether programs here can use `address` as their own.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        let bound = self.machine.inside(move || UdpSocket::bind((address, 0)));
        bound.unwrap().is_ok()
    }

    /// One probe; the answered line, if any came.
    pub(crate) fn ping(&self, node: &str) -> Option<Value> {
        let ended = self.run(&["ping", node, "-c", "1"]);
        let mut lines = parse(&ended.stdout).into_iter();
        lines.find(|line| line.get("rtt_ms").is_some_and(Value::is_number))
    }

    /// Probes until an answer comes; how long that took.
    pub(crate) fn reaches(&self, node: &str) -> Duration {
        let claim = format!("{} reaches {node}", self.name());
        eventually(&claim, PATIENCE, || self.ping(node).is_some())
    }

    /// The last lines of the daemon's log.
    pub(crate) fn log(&self) -> String {
        let log = self.daemon.as_ref().map(Process::stderr);
        let file = || std::fs::read_to_string(self.state_dir().join("daemon.log")).ok();
        let log = log.or_else(file).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    /// Everything the daemon has logged since it was started.
    pub(crate) fn whole_log(&self) -> String {
        self.daemon
            .as_ref()
            .map(Process::stderr)
            .unwrap_or_default()
    }
}

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_meshnode");

fn parse(stdout: &str) -> Vec<Value> {
    let objects = stdout.lines().map(serde_json::from_str);
    objects.collect::<Result<_, _>>().expect("lines of JSON")
}

/// A text field that must be there.
pub(crate) fn text(value: &Value, field: &str) -> String {
    let found = value.pointer(field).and_then(Value::as_str);
    found
        .unwrap_or_else(|| panic!("no text {field} in {value}"))
        .to_owned()
}

/// What follows `@` in a code leads there from outside; in a LAN the symbols alone must do.
pub(crate) fn symbols(code: &str) -> &str {
    code.split('@').next().unwrap_or(code)
}

/// The names of all nodes that a status shows, its own included.
pub(crate) fn names(status: &Value) -> BTreeSet<String> {
    let peers = status.pointer("/peers").and_then(Value::as_array);
    let peers = peers.into_iter().flatten().map(|peer| text(peer, "/name"));
    peers.chain([text(status, "/self/name")]).collect()
}

/// What must be equal on nodes that agree: digest, number of ops, and every node with its addresses and standing.
pub(crate) fn truth(status: &Value) -> (String, u64, BTreeSet<String>) {
    let card = |node: &Value| {
        let fields = ["name", "id", "ipv4", "ipv6", "standing", "level"];
        fields.map(|field| node[field].to_string()).join(" ")
    };
    let peers = status.pointer("/peers").and_then(Value::as_array);
    let cards = peers
        .into_iter()
        .flatten()
        .chain([&status["self"]])
        .map(card);
    let ops = status.pointer("/network/ops").and_then(Value::as_u64);
    (
        text(status, "/network/view"),
        ops.unwrap_or(0),
        cards.collect(),
    )
}

/// Waits until all these nodes hold the same for true, with so many nodes in it; how long that took.
pub(crate) fn agree(nodes: &[&Node], count: usize) -> Duration {
    let claim = format!("{} nodes agree on {count} nodes", nodes.len());
    eventually(&claim, AGREE_LIMIT, || {
        let first = truth(&nodes[0].status());
        let rest = &nodes[1..];
        first.2.len() == count && rest.iter().all(|node| truth(&node.status()) == first)
    })
}

/// Whether a datagram of a program on `from` comes to a program on `to`, over these addresses of the overlay.
pub(crate) fn carries(from: &Node, to: &Node) {
    let (ours, theirs) = (from.addresses(), to.addresses());
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        let sender = from
            .machine()
            .inside(move || UdpSocket::bind((ours, 0)).unwrap());
        let receiver = to
            .machine()
            .inside(move || UdpSocket::bind((theirs, 0)).unwrap());
        let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
        receiver
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let at = receiver.local_addr().unwrap();
        let claim = format!(
            "a datagram from {} to {} at {theirs}",
            from.name(),
            to.name()
        );
        eventually(&claim, PATIENCE, || {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let token = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            // No route yet, or no path yet: the next one.
            let _ = sender.send_to(&token, at);
            let mut buffer = [0; 64];
            let got = receiver.recv_from(&mut buffer);
            got.is_ok_and(|(length, source)| buffer[..length] == token && source.ip() == ours)
        });
    }
}

/// Waits until something is so; how long that took.
pub(crate) fn eventually(
    claim: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Duration {
    let watch = Stopwatch::start();
    while !is_so() {
        let passed = watch.elapsed();
        assert!(
            passed < limit,
            "{} s passed, and it is not so: {claim}",
            passed.as_secs()
        );
        thread::sleep(LOOK_INTERVAL);
    }
    watch.elapsed()
}

/// The figures of the story that is being told.
pub(crate) static FIGURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A figure for `docs/performance.md`; printed below the story's verdict.
pub(crate) fn measured(name: &str, value: impl Display) {
    let mut figures = FIGURES.lock().unwrap();
    figures.push(format!("measured: {name} = {value}\n"));
}

/// Milliseconds for people.
pub(crate) fn ms(span: Duration) -> String {
    format!("{} ms", span.as_millis())
}

/// The median and the greatest of some spans.
pub(crate) fn spread(mut spans: Vec<Duration>) -> String {
    spans.sort();
    let last = spans.last().copied().unwrap_or_default();
    format!("median {}, max {}", ms(spans[spans.len() / 2]), ms(last))
}
