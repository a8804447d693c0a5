//! The stage: `vps` is public, `nas` and `laptop` share a home behind a NAT router, `pi` is behind another.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Ended, Error, Lab, Machine, Process, Router, Stopwatch, World};

/// Where the router of `pi` is seen by everybody else.
pub(crate) const PI_OUTSIDE: &str = "203.0.113.3";

/// How long a command may take before the demo counts it as stuck; three times the longest step that is expected.
const COMMAND_LIMIT: Duration = Duration::from_secs(45);

/// How long a daemon may take to open its socket, and to stop.
const DAEMON_LIMIT: Duration = Duration::from_secs(10);

/// How often something awaited is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// All machines; dropped as a whole.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) vps: Node,
    pub(crate) nas: Node,
    pub(crate) pi: Node,
    pub(crate) laptop: Node,
    _routers: [Router; 2],
    _lab: Lab,
}

impl Stage {
    /// Builds the machines and cables; nothing runs on them yet.
    pub(crate) fn build(world: &World) -> Result<Self, Error> {
        let lab = Lab::new(world)?;
        let inet = lab.switch("inet")?;
        let vps = lab.machine("vps")?;
        vps.attach(&inet, "203.0.113.1/24", None)?;
        let home = lab
            .router("home")
            .wan(&inet, "203.0.113.2/24")
            .lan("192.168.1.1/24")
            .build()?;
        let wan = format!("{PI_OUTSIDE}/24");
        let cabin = lab
            .router("cabin")
            .wan(&inet, &wan)
            .lan("192.168.2.1/24")
            .build()?;
        let [nas, laptop, pi] = [
            ("nas", &home, "192.168.1.10/24", "192.168.1.1"),
            ("laptop", &home, "192.168.1.11/24", "192.168.1.1"),
            ("pi", &cabin, "192.168.2.10/24", "192.168.2.1"),
        ]
        .map(|(name, router, address, gateway)| {
            let machine = lab.machine(name)?;
            machine.attach(router.lan(), address, Some(gateway))?;
            Ok::<_, Error>(machine)
        });
        let program = std::env::current_exe().map_err(|error| Error::System {
            act: "find this program".to_owned(),
            source: error,
        })?;
        let node = |machine| Node {
            machine,
            program: program.clone(),
            daemon: None,
        };
        Ok(Self {
            vps: node(vps),
            nas: node(nas?),
            pi: node(pi?),
            laptop: node(laptop?),
            _routers: [home, cabin],
            _lab: lab,
        })
    }

    /// All four.
    pub(crate) fn nodes(&self) -> [&Node; 4] {
        [&self.vps, &self.nas, &self.pi, &self.laptop]
    }
}

/// A machine with this program on it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) machine: Machine,
    program: PathBuf,
    daemon: Option<Process>,
}

impl Node {
    /// Its host name.
    pub(crate) fn name(&self) -> &str {
        self.machine.name()
    }

    /// This very program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The control socket of its daemon.
    pub(crate) fn socket(&self) -> PathBuf {
        self.machine.directory().join("meshnode.sock")
    }

    /// Switches the machine on: its daemon runs and its control socket answers.
    pub(crate) fn switch_on(&mut self) -> Result<(), Miss> {
        let lost = |error: Error| Miss::new("a daemon that starts", error);
        let mut daemon = self.meshnode(&["daemon"]).start().map_err(lost)?;
        let (watch, socket) = (Stopwatch::start(), self.socket());
        while UnixStream::connect(&socket).is_err() {
            let ended = daemon.wait(LOOK_INTERVAL).map_err(lost)?;
            if ended.is_some() || watch.elapsed() > DAEMON_LIMIT {
                let got = ended.map_or_else(|| "silence".to_owned(), |status| status.to_string());
                let mut miss = Miss::new("a daemon that answers at its socket", got);
                miss.said = self.quote("daemon", &daemon.stderr());
                return Err(miss);
            }
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Switches the machine off, politely (SIGTERM). One that is off stays off.
    pub(crate) fn switch_off(&mut self) -> Result<(), Miss> {
        let Some(daemon) = self.daemon.take() else {
            return Ok(());
        };
        match daemon.stop(DAEMON_LIMIT) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Miss::new("a daemon that stops with exit code 0", status)),
            Err(error) => Err(Miss::new("a daemon that stops when asked", error)),
        }
    }

    /// Runs a verb here with `--json`, and expects exit code 0 and JSON; the last line counts, as streams end with a
    /// summary.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<Vec<Value>, Miss> {
        let ended = self.run(words)?;
        if !ended.status.success() {
            let mut miss = Miss::new("exit code 0", &ended);
            miss.said = self.complaint(words, &ended);
            return Err(miss);
        }
        let lines: Result<Vec<Value>, _> = ended
            .stdout
            .lines()
            .map(serde_json::from_str::<Value>)
            .collect();
        let lines = lines.map_err(|error| Miss::new("JSON", error))?;
        if lines.is_empty() {
            return Err(Miss::new("a line of JSON", "nothing"));
        }
        Ok(lines)
    }

    /// As [`Self::ask`], for verbs that print one object.
    pub(crate) fn ask_one(&self, words: &[&str]) -> Result<Value, Miss> {
        let mut lines = self.ask(words)?;
        lines
            .pop()
            .ok_or_else(|| Miss::new("a line of JSON", "nothing"))
    }

    /// Asks again and again until the answer is as wanted; `limit` bounds it, and the last answer is the complaint.
    pub(crate) fn await_answer(
        &self,
        words: &[&str],
        expected: &str,
        limit: Duration,
        accept: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, Miss> {
        let watch = Stopwatch::start();
        loop {
            let answer = self.ask(words);
            match answer {
                Ok(lines) if accept(&lines) => return Ok(lines),
                Ok(lines) if watch.elapsed() > limit => {
                    let got = lines.last().map(Value::to_string).unwrap_or_default();
                    return Err(Miss::new(
                        format!("{expected} within {} s", limit.as_secs()),
                        got,
                    ));
                }
                Err(mut miss) if watch.elapsed() > limit => {
                    miss.expected = format!("{expected} within {} s", limit.as_secs());
                    return Err(miss);
                }
                Ok(_) | Err(_) => thread::sleep(LOOK_INTERVAL),
            }
        }
    }

    /// Whether programs on this machine can use `address` as their own.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        let bound = self.machine.inside(move || UdpSocket::bind((address, 0)));
        matches!(bound, Ok(Ok(_)))
    }

    fn run(&self, words: &[&str]) -> Result<Ended, Miss> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let ran = self.meshnode(&words).output(COMMAND_LIMIT);
        ran.map_err(|error| Miss::new("a command that ends", verdict(&error)))
    }

    fn meshnode(&self, words: &[&str]) -> crate::lab::Program<'_> {
        self.machine
            .command(&self.program)
            .arg("--state-dir")
            .arg(self.machine.directory().join("state"))
            .arg("--socket")
            .arg(self.socket())
            .args(words)
    }

    fn complaint(&self, words: &[&str], ended: &Ended) -> Vec<String> {
        let mut said = self.quote(words.first().unwrap_or(&""), &ended.stderr);
        if let Some(daemon) = &self.daemon {
            said.extend(self.quote("daemon", &daemon.stderr()));
        }
        said
    }

    /// The last lines that a program here said.
    fn quote(&self, verb: &str, text: &str) -> Vec<String> {
        const LINES_MAX: usize = 12;
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
        last.iter()
            .map(|line| format!("{} {verb}: {line}", self.name()))
            .collect()
    }
}

/// A command line carries a code; what is shown of a stuck one must not.
fn verdict(error: &Error) -> String {
    match error {
        Error::Late { seconds, .. } => format!("still running after {seconds} s"),
        Error::System { source, .. } => source.to_string(),
        Error::Forbidden { .. }
        | Error::Container
        | Error::TunMissing
        | Error::TunClosed(_)
        | Error::NatMissing(_)
        | Error::Denied(_)
        | Error::Netlink { .. }
        | Error::Address(_)
        | Error::HalfRouter(_)
        | Error::Gone(_) => error.to_string(),
    }
}

/// What did not happen, and what did.
#[derive(Debug)]
pub(crate) struct Miss {
    pub(crate) expected: String,
    pub(crate) got: String,
    /// What the programs involved said last, a line each.
    pub(crate) said: Vec<String>,
}

impl Miss {
    pub(crate) fn new(expected: impl Into<String>, got: impl std::fmt::Display) -> Self {
        Self {
            expected: expected.into(),
            got: got.to_string(),
            said: Vec::new(),
        }
    }
}
