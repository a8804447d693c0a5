//! One network namespace with a host name, kept by a thread that lives in it.
//!
//! A namespace belongs to threads, so the keeper makes it, does every errand in it (sockets, netlink, starting
//! programs) and by ending lets it go. Errands come as closures.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use super::{Error, link};

type Errand = Box<dyn FnOnce() + Send>;

/// A network namespace and its keeper.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    file: File,
    inode: u64,
    errands: Mutex<Option<SyncSender<Errand>>>,
    keeper: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes a namespace in which only the loopback is up.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let (errands, inbox) = sync_channel::<Errand>(1);
        let (ready, made) = sync_channel(1);
        let host = name.to_owned();
        let keeper = thread::Builder::new()
            .name(format!("keeper of {name}"))
            .spawn(move || {
                let begun = enter(&host);
                let usable = begun.is_ok();
                if ready.send(begun).is_ok() && usable {
                    keep(&inbox);
                }
            })
            .map_err(|error| Error::system("start a keeper thread", error))?;
        let file = made.recv().map_err(|_| Error::Gone(name.to_owned()))??;
        let inode = file
            .metadata()
            .map_err(|error| Error::system("look at a new namespace", error))?
            .ino();
        let errands = Mutex::new(Some(errands));
        Ok(Self {
            name: name.to_owned(),
            file,
            inode,
            errands,
            keeper: Some(keeper),
        })
    }

    /// Runs `act` on the keeper's thread, so inside the namespace, and waits for its result.
    ///
    /// # Panics
    /// When `act` panics, with its words.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = sync_channel(1);
        let errand: Errand = Box::new(move || {
            // The caller may be gone; then nobody wants the result.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(act)));
        });
        let gone = || Error::Gone(self.name.clone());
        let sender = self
            .errands
            .lock()
            .ok()
            .and_then(|held| held.clone())
            .ok_or_else(gone)?;
        sender.send(errand).map_err(|_| gone())?;
        match answered.recv().map_err(|_| gone())? {
            Ok(result) => Ok(result),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The open namespace, for moving a link into it.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The number that `/proc/PID/ns/net` shows for processes inside.
    pub(crate) const fn inode(&self) -> u64 {
        self.inode
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Ok(mut errands) = self.errands.lock() {
            errands.take();
        }
        if let Some(keeper) = self.keeper.take() {
            // The keeper catches the panics of errands; it has none of its own to pass on.
            let _ = keeper.join();
        }
    }
}

/// What the keeper does before its first errand.
fn enter(host: &str) -> Result<File, Error> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)
        .map_err(|errno| Error::errno("make a network namespace", errno))?;
    sethostname(host).map_err(|errno| Error::errno("name a machine", errno))?;
    // Duplicate address detection would keep every IPv6 address unusable for seconds, and nobody here advertises.
    for setting in ["default/accept_dad", "all/accept_dad", "default/accept_ra"] {
        // A kernel without IPv6 has no such file, and then nothing to wait for.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{setting}"), "0");
    }
    link::bring_up("lo")?;
    File::open("/proc/thread-self/ns/net")
        .map_err(|error| Error::system("open a new network namespace", error))
}

fn keep(inbox: &Receiver<Errand>) {
    for errand in inbox {
        errand();
    }
}
