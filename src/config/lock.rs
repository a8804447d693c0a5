//! One daemon for one state directory: a lock file that holds the daemon's process id.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::failure::{Exit, Failure};

/// The lock on a state directory; held until dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl Lock {
    /// Takes the lock of `state_dir`.
    ///
    /// # Errors
    /// When another process has it (its id is named), or the file cannot be written.
    pub(crate) fn take(state_dir: &Path) -> Result<Self, Failure> {
        let path = state_dir.join("lock");
        let failed = |cause: &dyn std::fmt::Display| {
            Failure::world(&format!("cannot write {}", path.display()), cause)
        };
        let mut open = OpenOptions::new();
        open.read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = open.open(&path).map_err(|e| failed(&e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0).map_err(|e| failed(&e))?;
                lock.seek(SeekFrom::Start(0)).map_err(|e| failed(&e))?;
                writeln!(lock, "{}", std::process::id()).map_err(|e| failed(&e))?;
                Ok(Self(lock))
            }
            Err((file, Errno::EWOULDBLOCK)) => Err(taken(state_dir, file)),
            Err((_, error)) => Err(failed(&error)),
        }
    }
}

/// The process that holds the lock of `state_dir`, as its file says.
pub(crate) fn holder(state_dir: &Path) -> Option<u32> {
    File::open(state_dir.join("lock")).ok().and_then(pid_in)
}

fn pid_in(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn taken(state_dir: &Path, file: File) -> Failure {
    let who = pid_in(file).map_or("another daemon".to_owned(), |pid| format!("process {pid}"));
    let text = format!("{} is in use by {who}", state_dir.display());
    Failure::new(Exit::Refused, "in_use", text).hint("meshnode status shows its network")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_told_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let failure = Lock::take(dir.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        let own = std::process::id();
        assert!(
            failure
                .text
                .ends_with(&format!("is in use by process {own}")),
            "{failure}"
        );
        assert_eq!(holder(dir.path()), Some(own));
        drop(lock);
        assert!(Lock::take(dir.path()).is_ok());
    }
}
