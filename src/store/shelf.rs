//! sled, fenced in: every value carries a checksum, and a panic or a hang inside of it stays inside of it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use meshnode_protocol::time::Timestamp;

/// sled's page cache; the core holds every op itself, so a second copy is not wanted.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// How often sled collects garbage and writes what nobody asked to be flushed.
const COLLECT_EVERY_MS: u64 = 10_000;
/// Reading a store of 10 000 members takes a second; sled turning in circles takes for ever.
const OPEN_WAIT: Duration = Duration::from_secs(60);
/// How long a closing sled may write.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
/// A sled that was just closed in this process holds its lock until its threads are done.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// Rotten keys that are removed at one opening.
const ROTTEN_REMOVED_MAX: usize = 100_000;

const CHECKSUM_BYTES: usize = 8;
const ID_BYTES: usize = 32;
const CONTEXT: &str = "meshnode store value 1";
/// Written and flushed at every opening: a store that cannot be written is found out then.
const PROBE_KEY: &[u8] = b"p";

/// What a value is; the first byte of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An op.
    Op,
    /// An admit.
    Admit,
    /// A device record.
    Record,
    /// When an op came.
    Heard,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Op => b'o',
            Self::Admit => b'a',
            Self::Record => b'r',
            Self::Heard => b'h',
        }
    }
}

/// A value with its kind and id.
pub(super) type Item = (Kind, [u8; ID_BYTES], Vec<u8>);

/// What was counted while opening.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Ops whose checksum fits.
    pub(super) ops: u64,
    /// Values whose checksum does not fit.
    pub(super) skipped: u64,
}

/// Why sled does not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenFault {
    /// Somebody has it.
    #[error("another process uses it")]
    InUse,
    /// The system refuses: space, rights, a broken disk. Not the files' fault.
    #[error("{0}")]
    Io(io::Error),
    /// The files are not what sled wrote.
    #[error("{0}")]
    Damaged(String),
}

/// Why sled does not do what it is told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fault(String);

/// An open sled.
#[derive(Debug)]
pub(super) struct Shelf {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    ops: u64,
}

impl Shelf {
    /// Opens the folder in `dir` and reads everything once, so that what follows meets no surprise.
    pub(super) fn open(dir: &Path, folder: &str) -> Result<(Self, Census), OpenFault> {
        let path = dir.join(folder);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
            .map_err(OpenFault::Io)?;
        let (sender, receiver) = mpsc::channel();
        let opening = thread::Builder::new().name("store-open".to_owned());
        let handle = opening
            .spawn(move || {
                let _ = sender.send(open_and_read(&path));
            })
            .map_err(OpenFault::Io)?;
        match receiver.recv_timeout(OPEN_WAIT) {
            Ok(Ok((db, census))) => {
                let shelf = Self {
                    db: Some(db),
                    ops: census.ops,
                };
                Ok((shelf, census))
            }
            Ok(Err(fault)) => Err(fault),
            Err(RecvTimeoutError::Timeout) => Err(OpenFault::Damaged("it never opened".to_owned())),
            Err(RecvTimeoutError::Disconnected) => {
                let panic = handle.join().err();
                Err(OpenFault::Damaged(panic.map_or_else(String::new, words)))
            }
        }
    }

    /// Ops on the shelf.
    pub(super) const fn ops(&self) -> u64 {
        self.ops
    }

    /// Puts a value, in place of one with the same id.
    pub(super) fn put(&mut self, kind: Kind, id: &[u8; 32], bytes: &[u8]) -> Result<(), Fault> {
        let key = key(kind, id);
        let value = seal(&key, bytes);
        let before = self.fenced(|db| db.insert(key, value))?;
        if kind == Kind::Op && before.is_none() {
            self.ops = self.ops.saturating_add(1);
        }
        Ok(())
    }

    /// Puts the time at which the op of an id came.
    pub(super) fn put_time(&mut self, id: &[u8; 32], at: Timestamp) -> Result<(), Fault> {
        self.put(Kind::Heard, id, &at.ms().to_le_bytes())
    }

    /// Removes a value, if it is there.
    pub(super) fn remove(&self, kind: Kind, id: &[u8; 32]) -> Result<(), Fault> {
        self.fenced(|db| db.remove(key(kind, id)).map(drop))
    }

    /// Brings everything to the disk.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        self.fenced(|db| db.flush().map(drop))
    }

    /// All values whose checksum fits.
    pub(super) fn read_all(&self) -> Result<Vec<Item>, Fault> {
        self.fenced(|db| {
            let mut all = Vec::new();
            for item in db.iter() {
                let (key, value) = item?;
                if let (Some((kind, id)), Some(bytes)) = (parse(&key), unseal(&key, &value)) {
                    all.push((kind, id, bytes.to_vec()));
                }
            }
            Ok(all)
        })
    }

    fn fenced<T>(&self, act: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, Fault> {
        let db = self
            .db
            .as_ref()
            .ok_or_else(|| Fault("it is closed".to_owned()))?;
        match catch_unwind(AssertUnwindSafe(|| act(db))) {
            Ok(done) => done.map_err(|error| Fault(error.to_string())),
            Err(panic) => Err(Fault(words(panic))),
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Some(db) = self.db.take() {
            close(db);
        }
    }
}

/// The time in a value.
pub(super) fn time(bytes: &[u8]) -> Option<Timestamp> {
    let ms = bytes.try_into().ok().map(u64::from_le_bytes)?;
    Some(Timestamp::from_ms(ms))
}

/// Closes sled in a thread of its own: after a fault it may panic or wait for a thread that is gone.
fn close(db: sled::Db) {
    let (sender, receiver) = mpsc::channel::<()>();
    let closing = thread::Builder::new().name("store-close".to_owned());
    let spawned = closing.spawn(move || {
        drop(db);
        drop(sender);
    });
    if spawned.is_ok() {
        let _ = receiver.recv_timeout(CLOSE_WAIT);
    }
}

fn open_and_read(path: &Path) -> Result<(sled::Db, Census), OpenFault> {
    let db = open_sled(path)?;
    match catch_unwind(AssertUnwindSafe(|| read_and_probe(&db))) {
        Ok(Ok(census)) => Ok((db, census)),
        Ok(Err(error)) => {
            close(db);
            Err(fault_of(error))
        }
        Err(panic) => {
            close(db);
            Err(OpenFault::Damaged(words(panic)))
        }
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, OpenFault> {
    let config = || {
        sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(COLLECT_EVERY_MS))
    };
    for _ in 1..LOCK_ATTEMPTS {
        match config().open().map_err(fault_of) {
            Err(OpenFault::InUse) => thread::sleep(LOCK_RETRY),
            other => return other,
        }
    }
    config().open().map_err(fault_of)
}

fn read_and_probe(db: &sled::Db) -> sled::Result<Census> {
    let mut census = Census::default();
    let mut rotten = Vec::new();
    for item in db.iter() {
        let (key, value) = item?;
        match (parse(&key), unseal(&key, &value)) {
            (Some((Kind::Op, _)), Some(_)) => census.ops += 1,
            (Some((Kind::Admit | Kind::Record | Kind::Heard, _)), Some(_)) => {}
            (None, Some(_)) if *key == *PROBE_KEY => {}
            (Some(_) | None, _) => {
                census.skipped += 1;
                if rotten.len() < ROTTEN_REMOVED_MAX {
                    rotten.push(key);
                }
            }
        }
    }
    for key in rotten {
        db.remove(key)?;
    }
    db.insert(PROBE_KEY, seal(PROBE_KEY, &census.ops.to_le_bytes()))?;
    db.flush()?;
    Ok(census)
}

fn fault_of(error: sled::Error) -> OpenFault {
    match error {
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            OpenFault::InUse
        }
        // Cut files end too early; garbage does not parse.
        sled::Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
            ) =>
        {
            OpenFault::Damaged(error.to_string())
        }
        sled::Error::Io(error) => OpenFault::Io(error),
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => OpenFault::Damaged(error.to_string()),
    }
}

fn key(kind: Kind, id: &[u8; ID_BYTES]) -> [u8; 1 + ID_BYTES] {
    let mut key = [kind.byte(); 1 + ID_BYTES];
    key[1..].copy_from_slice(id);
    key
}

fn parse(key: &[u8]) -> Option<(Kind, [u8; ID_BYTES])> {
    let (first, id) = key.split_first()?;
    let kind = match first {
        b'o' => Kind::Op,
        b'a' => Kind::Admit,
        b'r' => Kind::Record,
        b'h' => Kind::Heard,
        _ => return None,
    };
    Some((kind, id.try_into().ok()?))
}

fn seal(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut value = checksum(key, bytes).to_vec();
    value.extend_from_slice(bytes);
    value
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, bytes) = value.split_first_chunk::<CHECKSUM_BYTES>()?;
    (*sum == checksum(key, bytes)).then_some(bytes)
}

/// Over the key as well, so that a value under another's key is rot too.
fn checksum(key: &[u8], bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(key);
    hasher.update(bytes);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn words(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
