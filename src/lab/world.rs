//! A world of its own for a laboratory: user, mount, network and process namespaces around a copy of this program.
//!
//! [`World::enter`] starts the same program once more inside. The copy is the first process of a process
//! namespace, so the kernel kills everything in it when the copy ends, however it ends; it asks to be killed itself
//! when the outer one dies. Files live in a memory file system that only the copy's mount namespace has. Thus nothing
//! can be left behind, not even after `kill -9` of either.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, Uid, getegid, geteuid, getpid};
use tokio::signal::unix::{SignalKind, signal};

use super::{Error, Machine};

/// Carries the outer process's number to the copy. Not `MESHNODE_*`: those are settings of people.
pub(crate) const MARK: &str = "_MESHNODE_LAB_OUTSIDE";

/// Directories that exist on any system and that nothing inside needs; the first one becomes the world's memory.
const HOMES: [&str; 3] = ["/dev/shm", "/mnt", "/media"];

/// Signals that end a laboratory.
const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Entry {
    /// The copy, inside its world.
    Inside(World),
    /// The one outside: the copy has ended with this exit code, and there is nothing to do but to end too.
    Over(u8),
}

/// Proof of being inside; laboratories are built with it.
#[derive(Debug)]
pub struct World {
    home: PathBuf,
    next: AtomicU32,
}

impl World {
    /// Enters a world of its own, by starting this program once more with the same arguments.
    ///
    /// Must be called before the process has a second thread. Ctrl-C and SIGTERM from now on end the copy at once with
    /// 128 + the signal's number, which is safe anywhere as nothing can be left behind.
    ///
    /// # Errors
    /// [`Error::Forbidden`] or [`Error::Container`] when the system does not allow it.
    pub fn enter() -> Result<Entry, Error> {
        match std::env::var(MARK) {
            Ok(outside) if getpid() == Pid::from_raw(1) => {
                Self::settle(&outside).map(Entry::Inside)
            }
            Ok(_) | Err(_) => watch_over_copy().map(Entry::Over),
        }
    }

    /// Whether an ordinary user made this world, in a user namespace of its own.
    #[must_use]
    pub fn is_rootless(&self) -> bool {
        // One user is mapped, instead of all to themselves.
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().nth(2) == Some("1")
    }

    /// What somebody outside types in front of a command to run it on `machine`.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn way_to(&self, machine: &Machine) -> Result<String, Error> {
        let process = own_number()?;
        let users = if self.is_rootless() {
            "-U --preserve-credentials "
        } else {
            ""
        };
        let network = format!("/proc/{process}/fd/{}", machine.network_fd());
        Ok(format!("nsenter -t {process} {users}-m --net={network}"))
    }

    /// Where somebody outside finds a file of this world.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn path_from_outside(&self, inside: &Path) -> Result<PathBuf, Error> {
        let root = format!("/proc/{}/root", own_number()?);
        Ok(PathBuf::from(root).join(inside.strip_prefix("/").unwrap_or(inside)))
    }

    /// The directory where everything of this world is kept.
    #[must_use]
    pub const fn home(&self) -> &PathBuf {
        &self.home
    }

    pub(crate) fn fresh_directory(&self) -> Result<PathBuf, Error> {
        let directory = self
            .home
            .join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&directory)
            .map_err(|error| Error::system("make a laboratory's directory", error))?;
        Ok(directory)
    }

    /// What the copy does first.
    fn settle(outside: &str) -> Result<Self, Error> {
        set_pdeathsig(Signal::SIGKILL)
            .map_err(|errno| Error::errno("ask for the death signal", errno))?;
        // The outer process may have died before that; then this one has been given to another parent.
        if parent_number().as_deref() != Some(outside) {
            return Err(Error::Gone("the outer process".to_owned()));
        }
        end_on_signals()?;
        let none: Option<&str> = None;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none)
            .map_err(|errno| Error::errno("make the mounts private", errno))?;
        let home = HOMES.iter().map(PathBuf::from).find(|home| home.is_dir());
        let home = home.ok_or_else(|| Error::Gone(HOMES.join(", ")))?;
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("lab"), &home, Some("tmpfs"), quiet, Some("mode=0755"))
            .map_err(|errno| Error::errno("mount a memory file system", errno))?;
        Ok(Self {
            home,
            next: AtomicU32::new(0),
        })
    }
}

/// Checks that `/dev/net/tun` is there and opens.
///
/// # Errors
/// [`Error::TunMissing`] or [`Error::TunClosed`].
pub fn require_tun() -> Result<(), Error> {
    const MISSING: [Errno; 3] = [Errno::ENOENT, Errno::ENODEV, Errno::ENXIO];
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    opened.map(drop).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        if MISSING.contains(&errno) {
            Error::TunMissing
        } else {
            Error::TunClosed(error)
        }
    })
}

/// What the outer process does: unshare, start the copy, pass signals on, and end as the copy ends.
fn watch_over_copy() -> Result<u8, Error> {
    let outside = own_number()?;
    let signals: SigSet = ENDS.into_iter().chain([Signal::SIGCHLD]).collect();
    signals
        .thread_block()
        .map_err(|errno| Error::errno("hold signals back", errno))?;
    leave_the_system()?;
    let mut words = std::env::args_os();
    let program =
        std::env::current_exe().map_err(|error| Error::system("find this program", error))?;
    let mut command = Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let mut copy = command
        .args(words)
        .env(MARK, outside.to_string())
        .spawn()
        .map_err(|error| Error::system("start this program in its own world", error))?;
    let copy_id = Pid::from_raw(copy.id().cast_signed());
    loop {
        if let Some(code) = ended(&mut copy)? {
            return Ok(code);
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            // It may have ended in between, which the next turn sees.
            Ok(end) => drop(kill(copy_id, end)),
        }
    }
}

/// The copy's exit code, once it has one; a killed copy counts as 128 + the signal, as in a shell.
fn ended(copy: &mut Child) -> Result<Option<u8>, Error> {
    use std::os::unix::process::ExitStatusExt;
    let status = copy
        .try_wait()
        .map_err(|error| Error::system("wait for the copy", error))?;
    Ok(status.map(|status| {
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX)
    }))
}

/// Takes this process (and with the process namespace: its next child) out of the system's namespaces.
fn leave_the_system() -> Result<(), Error> {
    let world = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        match unshare(world) {
            Ok(()) => return Ok(()),
            // Root of a container; it may still be allowed a user namespace.
            Err(Errno::EPERM) => {}
            Err(errno) => return Err(Error::errno("make namespaces", errno)),
        }
    }
    unshare(CloneFlags::CLONE_NEWUSER | world).map_err(|_| forbidden(user))?;
    // A restricted system lets the namespace be made, and then lets nothing be done in it.
    let map = |file: &str, content: String| {
        fs::write(format!("/proc/self/{file}"), content).map_err(|_| forbidden(user))
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("0 {user} 1"))?;
    map("gid_map", format!("0 {group} 1"))
}

/// Names the setting of this system that forbids user namespaces.
fn forbidden(user: Uid) -> Error {
    if user.is_root() {
        return Error::Container;
    }
    let typed: Vec<String> = std::env::args().collect();
    Error::Forbidden {
        typed: typed.join(" "),
        cure: cure(&|path| fs::read_to_string(path)),
    }
}

fn cure(read: &dyn Fn(&str) -> io::Result<String>) -> Option<&'static str> {
    let settings = [
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
    ];
    let forbids = |path: &str, value: &str| read(path).is_ok_and(|text| text.trim() == value);
    settings
        .iter()
        .find(|(path, value, _)| forbids(path, value))
        .map(|(.., cure)| *cure)
}

/// Ends the copy at once when a signal asks for it; as first process of its namespace it would ignore them.
///
/// By handlers and not by a held-back mask, because programs started later inherit a mask but no handlers.
fn end_on_signals() -> Result<(), Error> {
    let (ready, installed) = sync_channel(1);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let ended = runtime.and_then(|runtime| runtime.block_on(await_end(&ready)));
            match ended {
                Ok(signal) => std::process::exit(128 + signal as i32),
                // Either it has been told by the failure itself, or nobody waits any more.
                Err(error) => drop(ready.send(Err(error))),
            }
        })
        .map_err(|error| Error::system("start a thread", error))?;
    let failed = |error| Error::system("listen to signals", error);
    installed
        .recv()
        .map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?
        .map_err(failed)?;
    // The outer process holds signals back, and its mask was inherited.
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| Error::errno("let signals in", errno))
}

/// Waits for the first signal that ends a laboratory; says on `ready` that it listens.
async fn await_end(ready: &SyncSender<io::Result<()>>) -> io::Result<Signal> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // The other side waits for this; when it is gone, there is nothing to end.
    let _ = ready.send(Ok(()));
    Ok(tokio::select! {
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
        _ = hangup.recv() => Signal::SIGHUP,
    })
}

/// This process's number as `/proc` shows it, which is the one from outside of the world.
fn own_number() -> Result<u32, Error> {
    let failed = |error| Error::system("read /proc/self", error);
    let link = fs::read_link("/proc/self").map_err(failed)?;
    let number = link.to_str().and_then(|link| link.parse().ok());
    number.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

/// The parent's number in the same counting.
fn parent_number() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_that_forbids_namespaces_is_named() {
        let only = |wanted: &'static str, value: &'static str| {
            move |path: &str| {
                if path.contains(wanted) {
                    Ok(format!("{value}\n"))
                } else {
                    Err(io::ErrorKind::NotFound.into())
                }
            }
        };
        let named = |wanted, value| cure(&only(wanted, value));
        assert!(named("apparmor", "1").is_some_and(|cure| cure.contains("apparmor")));
        assert_eq!(named("apparmor", "0"), None);
        assert!(named("userns_clone", "0").is_some_and(|cure| cure.contains("userns_clone=1")));
        assert!(named("max_user", "0").is_some_and(|cure| cure.contains("max_user_namespaces")));
        assert_eq!(named("max_user", "96365"), None);
    }
}
