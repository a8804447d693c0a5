//! Programs inside a machine: started there, timed, and never outliving it.
//!
//! A program is started on the keeper's thread and so inherits its namespaces. Nobody needs a parent-death signal:
//! a machine that goes kills whatever lives in its network namespace, detached daemons included, and when the
//! world's first process dies in any way, the kernel kills everything in its process namespace.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::world::MARK;
use super::{Error, Machine};

/// How often a process is looked at while it is waited for; also the precision of [`Ended::took`].
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Numbers the files that catch what programs say.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts to measure.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the laboratory measures real programs"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A program to be started inside a machine.
#[derive(Debug)]
pub struct Program<'lab> {
    machine: &'lab Machine,
    words: Vec<OsString>,
}

impl<'lab> Program<'lab> {
    pub(crate) fn new(machine: &'lab Machine, program: &OsStr) -> Self {
        Self {
            machine,
            words: vec![program.to_owned()],
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.words
            .extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Runs it to its end, with no input, and gives what it said.
    ///
    /// # Errors
    /// When it cannot be started, or is still running after `limit`; then it is killed.
    pub fn output(self, limit: Duration) -> Result<Ended, Error> {
        let typed = self.typed();
        let watch = Stopwatch::start();
        let mut process = self.start()?;
        let Some(status) = process.wait(limit)? else {
            return Err(Error::Late {
                program: typed,
                seconds: limit.as_secs(),
            });
        };
        Ok(Ended {
            status,
            took: watch.elapsed(),
            stdout: process.stdout(),
            stderr: process.stderr(),
        })
    }

    /// Starts it and lets it run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(self) -> Result<Process, Error> {
        let typed = self.typed();
        let failed = |error| Error::system(format!("start {typed}"), error);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stdout = self.machine.directory().join(format!("{number}.stdout"));
        let stderr = self.machine.directory().join(format!("{number}.stderr"));
        let Some((program, arguments)) = self.words.split_first() else {
            return Err(Error::Gone(typed));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir("/")
            .env("HOME", self.machine.directory())
            .env_remove(MARK)
            // Ctrl-C is for the laboratory alone, which then ends all.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).map_err(failed)?)
            .stderr(File::create(&stderr).map_err(failed)?);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"MESHNODE_") {
                command.env_remove(name);
            }
        }
        let child = self
            .machine
            .inside(move || command.spawn())?
            .map_err(failed)?;
        Ok(Process {
            child,
            stdout,
            stderr,
        })
    }

    fn typed(&self) -> String {
        let words: Vec<_> = self
            .words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }
}

/// A program that ran to its end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// How long it ran.
    pub took: Duration,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

/// A program that runs; killed with its process group when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Its number, as processes inside the world see it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, at most `limit`; `None` when it is still running then.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>, Error> {
        let watch = Stopwatch::start();
        loop {
            let seen = self.child.try_wait();
            let seen = seen.map_err(|error| Error::system("wait for a program", error))?;
            if seen.is_some() || watch.elapsed() >= limit {
                return Ok(seen);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Asks it to stop (SIGTERM) and waits; after `limit` it is killed and that is an error.
    ///
    /// # Errors
    /// [`Error::Late`] when it did not obey.
    pub fn stop(mut self, limit: Duration) -> Result<ExitStatus, Error> {
        // It may have ended by itself.
        let _ = kill(self.pid(), Signal::SIGTERM);
        self.wait(limit)?.ok_or_else(|| Error::Late {
            program: format!("process {} after SIGTERM", self.child.id()),
            seconds: limit.as_secs(),
        })
    }

    /// Everything it has written to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Everything it has written to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when there is nothing left to kill.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// What a file holds; programs under test may write anything.
fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Kills every process whose network namespace is the one with this number.
pub(crate) fn kill_all_in(inode: u64) {
    let inside = format!("net:[{inode}]");
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for entry in processes.flatten() {
        let network = fs::read_link(entry.path().join("ns/net"));
        if network.is_ok_and(|link| link.as_os_str() == inside.as_str())
            && let Some(pid) = inner_pid(&entry.path().join("status"))
        {
            // It may have ended in between.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// The number of a process in its innermost namespace: `/proc` is the one from outside of the world.
fn inner_pid(status: &PathBuf) -> Option<Pid> {
    let status = fs::read_to_string(status).ok()?;
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers
        .split_whitespace()
        .last()?
        .parse()
        .ok()
        .map(Pid::from_raw)
}

/// Says in words how a program ended.
impl std::fmt::Display for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(out, "exit code {code}"),
            (None, Some(signal)) => write!(out, "killed by signal {signal}"),
            (None, None) => out.write_str("ended"),
        }
    }
}
