//! Starting a daemon of its own for `init`, `join` and `up`: detached, with its log in the state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::Uid;

use super::session::{Session, needs_root};
use crate::clock::Clock;
use crate::config::place::Place;
use crate::config::state_dir;
use crate::control::Request;
use crate::control::client::{Client, Unreachable};
use crate::failure::Failure;

/// Whether the daemon was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launched {
    /// It was.
    Before,
    /// This run started it.
    Now,
}

/// Makes sure that the place's daemon answers.
///
/// # Errors
/// Without rights, or when the daemon ends or does not answer in time: with its own last error.
pub(crate) fn ensure(place: &Place, session: &Session) -> Result<Launched, Failure> {
    match Client::connect(&place.socket) {
        Ok(_) => return Ok(Launched::Before),
        Err(Unreachable::NotPermitted) => return session.client(place).map(|_| Launched::Before),
        Err(Unreachable::NotRunning) => {}
    }
    if !Uid::effective().is_root() {
        return Err(needs_root());
    }
    state_dir::prepare(&place.state_dir)?;
    let log = Log::open(&place.state_dir)?;
    let child = start(place, &log)?;
    wait(place, child, &log)?;
    Ok(Launched::Now)
}

/// Stops a daemon that this run started for something that then failed.
pub(crate) fn undo(launched: Launched, place: &Place) {
    if launched == Launched::Now
        && let Ok(client) = Client::connect(&place.socket)
    {
        // It has no network and nothing to lose; if it does not hear this, the next verb uses it.
        let _ = client.ask(&Request::Stop);
    }
}

fn start(place: &Place, log: &Log) -> Result<Child, Failure> {
    let failed = |cause: &dyn std::fmt::Display| Failure::world("cannot start a daemon", cause);
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let stdout = log.file.try_clone().map_err(|e| failed(&e))?;
    let stderr = log.file.try_clone().map_err(|e| failed(&e))?;
    Command::new(program)
        .args(["daemon", "--detached", "--state-dir"])
        .arg(&place.state_dir)
        .arg("--socket")
        .arg(&place.socket)
        .current_dir("/")
        .env_remove("MESHNODE_INVITE")
        .env_remove("MESHNODE_INVITE_FILE")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|e| failed(&e))
}

fn wait(place: &Place, mut child: Child, log: &Log) -> Result<(), Failure> {
    let clock = Clock::new();
    let started_ms = clock.now().uptime_ms();
    loop {
        if Client::connect(&place.socket).is_ok() {
            return Ok(());
        }
        let shown = log.path.display().to_string();
        if let Ok(Some(_)) = child.try_wait() {
            let cause = log
                .last_error()
                .unwrap_or_else(|| "it ended at once".to_owned());
            let failure = Failure::world("the daemon did not start", &cause);
            return Err(failure.hint(format!("its log: {shown}")));
        }
        if clock.now().uptime_ms().saturating_sub(started_ms) > START_MS_MAX {
            let cause = "it does not answer after 10 s";
            let failure = Failure::world("the daemon did not start", &cause);
            return Err(failure.hint(format!("its log: {shown}")));
        }
        std::thread::sleep(POLL);
    }
}

/// The daemon's log file, and where this start begins in it.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    begin: u64,
}

impl Log {
    /// Opens `daemon.log`; one that has grown large becomes `daemon.log.1` first.
    fn open(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("daemon.log");
        let failed = |cause: &dyn std::fmt::Display| {
            Failure::world(&format!("cannot write {}", path.display()), cause)
        };
        if fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
            fs::rename(&path, dir.join("daemon.log.1")).map_err(|e| failed(&e))?;
        }
        let mut open = OpenOptions::new();
        let file = open
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|e| failed(&e))?;
        let begin = file.metadata().map_err(|e| failed(&e))?.len();
        Ok(Self { path, file, begin })
    }

    /// The last `error:` line since this start.
    fn last_error(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(self.begin)).ok()?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let errors = text.lines().filter_map(|line| line.strip_prefix("error: "));
        errors.last().map(str::to_owned)
    }
}

/// A start takes well under a second; a busy machine some more.
const START_MS_MAX: u64 = 10_000;
const POLL: Duration = Duration::from_millis(20);
/// Two files of this size are kept.
const LOG_BYTES_MAX: u64 = 5_000_000;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_log_is_put_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        fs::write(&path, vec![b'x'; 5_000_001]).unwrap();
        let log = Log::open(dir.path()).unwrap();
        assert_eq!(log.begin, 0);
        assert!(dir.path().join("daemon.log.1").exists());
    }

    #[test]
    fn only_errors_of_this_start_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("daemon.log"), "error: old\n").unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        assert_eq!(log.last_error(), None);
        log.file
            .write_all(b"noise\nerror: no tun\nhint: x\n")
            .unwrap();
        assert_eq!(log.last_error().as_deref(), Some("no tun"));
    }
}
