//! Keeps what a membership must not forget: ops, admits and records in sled, keys and heads in files of their own.
//!
//! This room knows bytes and crash rules (`docs/protocol.md` §9). It does not know what an op says, nor who counts.
//! Every value is independently valid, so whatever a crash leaves behind is a valid replica; what is missing is
//! found out by comparing with the heads, and fetched again from members.

mod aside;
mod blocked;
mod fault;
mod sealed;
mod shelf;
mod trial;

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use meshnode_protocol::id::OpId;
use meshnode_protocol::io::{Stored, Write};
use zeroize::Zeroizing;

use self::aside::{finish_salvage, open_or_move_aside, remove_shelves, salvage};
pub use self::fault::StoreError;
use self::fault::io_at;
use self::sealed::SealedFile;
use self::shelf::{Kind, Shelf};

/// Writes that are not on the disk yet are flushed when they come to this many bytes, asked or not.
const UNFLUSHED_BYTES_MAX: usize = 256 * 1024;
/// Writes that the disk refuses are kept for a repetition up to this many bytes: the largest message, 16 times.
const REFUSED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Below this much free space nothing is written: two of sled's segments, so that sled itself never meets the end.
const FREE_BYTES_MIN: u64 = 1024 * 1024;
/// Damaged stores that are kept beside the one in use; the newest stay.
const DAMAGED_KEPT_MAX: u32 = 3;

/// sled's folder in the state directory.
const FOLDER: &str = "store";
/// Where a new shelf grows while what is intact of an old one is carried over.
const SALVAGE: &str = "store.salvage";

const KEYS: SealedFile = SealedFile::new("keys", *b"meshkeys");
const HEADS: SealedFile = SealedFile::new("heads", *b"meshhead");

/// A place that survives a restart. Blocking; one owner.
pub trait Store {
    /// Gives back everything there is, unproven.
    ///
    /// # Errors
    /// When the keys cannot be read or the store cannot be reached.
    fn load(&mut self) -> Result<Stored, StoreError>;

    /// Keeps all of `writes`; with `flush`, also everything before them is on the disk when this returns.
    ///
    /// Keys and heads reach the disk only after every op written before or with them, so they never speak of an op that
    /// a crash lost. Keys are flushed at once.
    ///
    /// # Errors
    /// When the disk refuses. The writes are kept in memory and come first at the next call, which may be empty.
    fn write(&mut self, writes: &[Write], flush: bool) -> Result<(), StoreError>;

    /// Forgets everything, keys first.
    ///
    /// # Errors
    /// When something cannot be removed; the keys are gone unless the error names them.
    fn erase(&mut self) -> Result<(), StoreError>;
}

/// What was found at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: no membership lives here yet.
    Fresh,
    /// Everything that was ever flushed.
    Whole,
    /// Parts were lost or put right; the rest stands.
    Mended(Mended),
    /// The store cannot be read. It was moved aside and an empty one stands in its place; keys and heads remain.
    Damaged {
        /// Where the unreadable one lies.
        moved_to: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
}

/// What was lost or put right while opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Values whose checksum does not fit; they are dropped.
    pub skipped: u64,
    /// Ops that were there when the heads were last written and are not found.
    pub missing: u64,
    /// The heads file was unreadable: what is missing cannot be known.
    pub heads_lost: bool,
    /// The keys file was unreadable and the copy from before its last change is used.
    pub keys_from_old: bool,
}

/// The store of one membership, in one directory.
#[derive(Debug)]
pub struct SledStore {
    dir: PathBuf,
    /// Held as long as the store is open: a lock on the directory itself.
    lock: File,
    shelf: Option<Shelf>,
    /// Everything not known to be on the disk, oldest first.
    pending: Vec<Write>,
    /// How many of `pending` the shelf has taken.
    taken: usize,
    mended: Mended,
}

impl SledStore {
    /// Opens the store in `dir`, made with mode 0700 if it is missing and narrowed to it if it is wider.
    ///
    /// # Errors
    /// When another process has it, the disk is full or refuses, or the keys are damaged.
    pub fn open(dir: &Path) -> Result<(Self, Opened), StoreError> {
        private_dir(dir)?;
        let lock = lock(dir)?;
        let keys = KEYS.read_or_old(dir)?;
        let (heads, heads_lost) = match Heads::read(dir) {
            Ok(heads) => (heads, false),
            Err(StoreError::Rotten { .. }) => (None, true),
            Err(other) => return Err(other),
        };
        let fresh = keys.is_none();
        if fresh {
            if heads.is_some() || heads_lost {
                return Err(KEYS.missing(dir));
            }
            // Nothing was ever acknowledged here, or an erasure was cut short: finish it.
            remove_shelves(dir)?;
        }
        finish_salvage(dir)?;
        let (mut shelf, census, damaged) = open_or_move_aside(dir)?;
        let mended = Mended {
            skipped: census.skipped,
            missing: heads.map_or(0, |heads| heads.ops.saturating_sub(census.ops)),
            heads_lost,
            keys_from_old: keys.is_some_and(|keys| keys.from_old),
        };
        if damaged.is_none() && (mended.skipped > 0 || mended.missing > 0) {
            shelf = salvage(dir, shelf)?;
        }
        let opened = match damaged {
            Some((moved_to, reason)) => Opened::Damaged { moved_to, reason },
            None if fresh => Opened::Fresh,
            None if mended == Mended::default() => Opened::Whole,
            None => Opened::Mended(mended),
        };
        let store = Self {
            dir: dir.to_path_buf(),
            lock,
            shelf: Some(shelf),
            pending: Vec::new(),
            taken: 0,
            mended,
        };
        Ok((store, opened))
    }

    /// What was lost or put right at the door, also when the whole store was damaged.
    #[must_use]
    pub const fn mended(&self) -> Mended {
        self.mended
    }

    /// Brings everything pending to the shelf and, when asked or when it has become much, to the disk.
    fn settle(&mut self, flush: bool) -> Result<(), StoreError> {
        let bytes = size_of_writes(&self.pending);
        let free_bytes = free_bytes(&self.dir)?;
        if free_bytes < FREE_BYTES_MIN.saturating_add(2 * bytes as u64) {
            return Err(self.full(free_bytes));
        }
        self.note_trial()?;
        self.take_pending()?;
        let keys = |write: &Write| matches!(write, Write::Secrets(_));
        if flush || bytes > UNFLUSHED_BYTES_MAX || self.pending.iter().any(keys) {
            let shelf = self.shelf()?;
            let ops = shelf.ops();
            shelf
                .flush()
                .map_err(|fault| self.broken(fault.to_string()))?;
            self.replace_files(ops)?;
            self.pending.clear();
            self.taken = 0;
        }
        Ok(())
    }

    /// The note of a trial is on the disk before anything of its op is.
    fn note_trial(&self) -> Result<(), StoreError> {
        let trial = self.pending.iter().rev().find_map(|write| match write {
            Write::Trial(trial) => Some(*trial),
            Write::Op(..)
            | Write::Admit(..)
            | Write::DropAdmit(_)
            | Write::Record(..)
            | Write::DropRecord(_)
            | Write::Heard(..)
            | Write::Secrets(_)
            | Write::Heads(_)
            | Write::Blocked(_) => None,
        });
        match trial.flatten() {
            Some(trial) => trial::write(&self.dir, Some(trial)),
            None => Ok(()),
        }
    }

    /// Writes the newest pending keys, then heads and blocked devices. They speak of ops, so they come after the flush.
    fn replace_files(&self, ops: u64) -> Result<(), StoreError> {
        let (mut keys, mut heads, mut blocked, mut trial) = (None, None, None, None);
        for write in &self.pending {
            match write {
                Write::Secrets(bytes) => keys = Some(bytes),
                Write::Heads(ids) => heads = Some(ids),
                Write::Blocked(ids) => blocked = Some(ids),
                Write::Trial(now) => trial = Some(*now),
                Write::Op(..)
                | Write::Admit(..)
                | Write::DropAdmit(_)
                | Write::Record(..)
                | Write::DropRecord(_)
                | Write::Heard(..) => {}
            }
        }
        if let Some(bytes) = keys {
            KEYS.replace(&self.dir, bytes)?;
        }
        if let Some(ids) = heads {
            let ids = ids.clone();
            Heads { ops, ids }.write(&self.dir)?;
        }
        if let Some(ids) = blocked {
            blocked::write(&self.dir, ids)?;
        }
        if let Some(now) = trial {
            trial::write(&self.dir, now)?;
        }
        Ok(())
    }

    fn take_pending(&mut self) -> Result<(), StoreError> {
        self.shelf()?;
        while let Some(write) = self.pending.get(self.taken) {
            let Some(shelf) = &mut self.shelf else {
                break;
            };
            let put = match write {
                Write::Op(id, bytes) => shelf.put(Kind::Op, id.as_bytes(), bytes),
                Write::Admit(id, bytes) => shelf.put(Kind::Admit, id.as_bytes(), bytes),
                Write::DropAdmit(id) => shelf.remove(Kind::Admit, id.as_bytes()),
                Write::Record(slot, bytes) => shelf.put(Kind::Record, slot.as_bytes(), bytes),
                Write::DropRecord(slot) => shelf.remove(Kind::Record, slot.as_bytes()),
                Write::Heard(id, at) => shelf.put_time(id.as_bytes(), *at),
                // They wait for the flush.
                Write::Secrets(_) | Write::Heads(_) | Write::Blocked(_) | Write::Trial(_) => Ok(()),
            };
            if let Err(fault) = put {
                return Err(self.broken(fault.to_string()));
            }
            self.taken += 1;
        }
        Ok(())
    }

    /// The shelf, opened again if a fault had closed it. sled takes nothing more after its first error.
    fn shelf(&mut self) -> Result<&Shelf, StoreError> {
        if self.shelf.is_none() {
            let (shelf, _) =
                Shelf::open(&self.dir, FOLDER).map_err(|fault| self.broken(fault.to_string()))?;
            self.taken = 0;
            self.shelf = Some(shelf);
        }
        self.shelf
            .as_ref()
            .ok_or_else(|| StoreError::broken(&self.dir, "it is closed".to_owned()))
    }

    /// Closes the shelf after a fault, and finds the fault's name.
    fn broken(&mut self, reason: String) -> StoreError {
        self.shelf = None;
        self.taken = 0;
        name_fault(&self.dir, reason)
    }

    fn full(&self, free_bytes: u64) -> StoreError {
        StoreError::Full {
            path: self.dir.clone(),
            free_bytes,
        }
    }
}

impl Store for SledStore {
    fn load(&mut self) -> Result<Stored, StoreError> {
        let mut stored = Stored {
            secrets: KEYS.read_or_old(&self.dir)?.map(|keys| keys.bytes.into()),
            blocked: blocked::read(&self.dir)?,
            trial: trial::read(&self.dir)?,
            ..Stored::default()
        };
        if let Ok(Some(heads)) = Heads::read(&self.dir) {
            stored.heads = heads.ids;
        }
        let all = self.shelf()?.read_all();
        for (kind, id, bytes) in all.map_err(|fault| self.broken(fault.to_string()))? {
            match kind {
                Kind::Op => stored.ops.push(bytes),
                Kind::Admit => stored.admits.push(bytes),
                Kind::Record => stored.records.push(bytes),
                Kind::Heard => stored
                    .heard
                    .extend(shelf::time(&bytes).map(|at| (OpId::new(id), at))),
            }
        }
        Ok(stored)
    }

    fn write(&mut self, writes: &[Write], flush: bool) -> Result<(), StoreError> {
        let bytes = size_of_writes(&self.pending).saturating_add(size_of_writes(writes));
        if bytes > REFUSED_BYTES_MAX && !self.pending.is_empty() {
            // The disk has been refusing for long: make room, or say so again and keep nothing more.
            self.settle(true)?;
        }
        self.pending.extend_from_slice(writes);
        self.settle(flush)
    }

    fn erase(&mut self) -> Result<(), StoreError> {
        self.pending.clear();
        self.taken = 0;
        KEYS.erase(&self.dir)?;
        HEADS.erase(&self.dir)?;
        blocked::erase(&self.dir)?;
        trial::erase(&self.dir)?;
        self.shelf = None;
        remove_shelves(&self.dir)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            // Nobody is left to tell; what was promised has been flushed before.
            let _ = self.settle(true);
        }
        self.shelf = None;
        // Said aloud: a child process that is just being started has a copy of the file, and would keep the lock.
        let _ = self.lock.unlock();
    }
}

/// The authority heads, and how many ops were on the disk when they were written.
struct Heads {
    ops: u64,
    ids: Vec<OpId>,
}

impl Heads {
    fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = HEADS.read(dir)? else {
            return Ok(None);
        };
        let heads = bytes.split_first_chunk().and_then(|(ops, rest)| {
            let (ids, tail) = rest.as_chunks::<32>();
            tail.is_empty().then(|| Self {
                ops: u64::from_le_bytes(*ops),
                ids: ids.iter().copied().map(OpId::new).collect(),
            })
        });
        heads
            .map(Some)
            .ok_or_else(|| HEADS.rotten(dir, "it has an impossible length"))
    }

    fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let mut bytes = self.ops.to_le_bytes().to_vec();
        for id in &self.ids {
            bytes.extend_from_slice(id.as_bytes());
        }
        HEADS.replace(dir, &Zeroizing::new(bytes))
    }
}

type Damage = (PathBuf, String);

fn private_dir(dir: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(io_at("make", dir))?;
    let mode = fs::metadata(dir)
        .map_err(io_at("look at", dir))?
        .permissions()
        .mode();
    if mode & 0o777 != 0o700 {
        let narrowed = fs::set_permissions(dir, Permissions::from_mode(0o700));
        narrowed.map_err(io_at("make private", dir))?;
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = File::open(dir).map_err(io_at("open", dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::in_use(dir)),
        // Some file systems cannot lock; sled's own lock remains.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let stat = nix::sys::statvfs::statvfs(dir)
        .map_err(|errno| io_at("look at", dir)(io::Error::from(errno)))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// A fault on a full disk is the full disk's.
fn name_fault(dir: &Path, reason: String) -> StoreError {
    match free_bytes(dir) {
        Ok(free_bytes) if free_bytes < FREE_BYTES_MIN => StoreError::Full {
            path: dir.to_path_buf(),
            free_bytes,
        },
        Ok(_) | Err(_) => StoreError::broken(dir, reason),
    }
}

fn size_of_writes(writes: &[Write]) -> usize {
    let size = |write: &Write| match write {
        Write::Op(_, bytes) | Write::Admit(_, bytes) | Write::Record(_, bytes) => bytes.len() + 64,
        Write::DropAdmit(_) | Write::DropRecord(_) | Write::Heard(..) | Write::Trial(_) => 64,
        Write::Secrets(bytes) => bytes.len(),
        Write::Heads(ids) => ids.len() * 32,
        Write::Blocked(ids) => ids.len() * 32,
    };
    writes.iter().map(size).sum()
}
