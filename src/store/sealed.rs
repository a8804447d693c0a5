//! One small file that is either the old one or the new one, whole, and says itself whether it is intact.
//!
//! Bytes: magic (8), version (u16 LE), length (u32 LE), content, BLAKE3 of all before (32).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::fault::{StoreError, io_at};

const VERSION: u16 = 1;
const HEADER_BYTES: usize = 8 + 2 + 4;
const CHECKSUM_BYTES: usize = 32;
/// Far above what keys and heads can come to; a file beyond it is not ours.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CONTEXT: &str = "meshnode store file 1";

/// A file's name and mark.
pub(super) struct SealedFile {
    name: &'static str,
    magic: [u8; 8],
}

/// What was read, and from which of the two.
pub(super) struct Keys {
    /// The content.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Whether it is the copy from before the last change.
    pub(super) from_old: bool,
}

impl SealedFile {
    /// Names a file.
    pub(super) const fn new(name: &'static str, magic: [u8; 8]) -> Self {
        Self { name, magic }
    }

    fn path(&self, dir: &Path, suffix: &str) -> PathBuf {
        dir.join(format!("{}{suffix}", self.name))
    }

    /// Reads the content; `None` when there is no file.
    pub(super) fn read(&self, dir: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.read_at(&self.path(dir, ""))
    }

    fn read_at(&self, path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let rotten = |reason| StoreError::Rotten {
            path: path.to_path_buf(),
            reason,
        };
        match fs::metadata(path) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(rotten("it is far too long")),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Ok(_) | Err(_) => {}
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(io_at("read", path))?);
        if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES {
            return Err(rotten("it is cut short"));
        }
        let (head, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if head[..8] != self.magic {
            return Err(rotten("it does not begin as it should"));
        }
        if blake3::derive_key(CONTEXT, head) != checksum {
            return Err(rotten("its checksum does not fit"));
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        if version != VERSION {
            return Err(StoreError::Newer {
                path: path.to_path_buf(),
                version,
            });
        }
        let length = u32::from_le_bytes([head[10], head[11], head[12], head[13]]);
        let content = &head[HEADER_BYTES..];
        if u32::try_from(content.len()) != Ok(length) {
            return Err(rotten("its length does not fit"));
        }
        Ok(Some(Zeroizing::new(content.to_vec())))
    }

    /// Reads the content, or the copy from before the last change if the file is damaged or gone.
    pub(super) fn read_or_old(&self, dir: &Path) -> Result<Option<Keys>, StoreError> {
        let reason = match self.read(dir) {
            Ok(Some(bytes)) => {
                let from_old = false;
                return Ok(Some(Keys { bytes, from_old }));
            }
            Ok(None) => None,
            Err(StoreError::Rotten { reason, .. }) => Some(reason),
            Err(other) => return Err(other),
        };
        match (self.read_at(&self.path(dir, ".old")), reason) {
            (Ok(Some(bytes)), _) => {
                let from_old = true;
                Ok(Some(Keys { bytes, from_old }))
            }
            (Ok(None), None) => Ok(None),
            (Ok(None) | Err(StoreError::Rotten { .. }), Some(reason)) => {
                Err(self.unusable(dir, reason))
            }
            (Err(StoreError::Rotten { .. }), None) => Err(self.missing(dir)),
            (Err(other), _) => Err(other),
        }
    }

    /// Puts new content in the old one's place; the old one stays beside it until the new one was read back.
    pub(super) fn replace(&self, dir: &Path, content: &[u8]) -> Result<(), StoreError> {
        let (path, new, old) = (
            self.path(dir, ""),
            self.path(dir, ".new"),
            self.path(dir, ".old"),
        );
        write_synced(&new, &self.seal(content, &path)?)?;
        // Only a file that can be read is worth keeping, and it must not push out a good older one.
        if matches!(self.read_at(&path), Ok(Some(_))) {
            remove(&old)?;
            let kept = fs::hard_link(&path, &old).or_else(|_| fs::copy(&path, &old).map(drop));
            kept.map_err(io_at("keep", &old))?;
            sync_dir(dir)?;
        }
        fs::rename(&new, &path).map_err(io_at("replace", &path))?;
        sync_dir(dir)?;
        let back = self.read_at(&path)?;
        if back.is_none_or(|back| back.as_slice() != content) {
            return Err(self.rotten(dir, "it does not read back as written"));
        }
        remove(&old)?;
        sync_dir(dir)
    }

    fn seal(&self, content: &[u8], path: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let length = u32::try_from(content.len())
            .ok()
            .filter(|length| u64::from(*length) < FILE_BYTES_MAX / 2)
            .ok_or_else(|| io_at("write so much to", path)(ErrorKind::FileTooLarge.into()))?;
        let capacity = HEADER_BYTES + content.len() + CHECKSUM_BYTES;
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(content);
        let checksum = blake3::derive_key(CONTEXT, &bytes);
        bytes.extend_from_slice(&checksum);
        Ok(bytes)
    }

    /// Overwrites and removes the file and its copies. The overwriting is worth something on some disks only.
    pub(super) fn erase(&self, dir: &Path) -> Result<(), StoreError> {
        for suffix in ["", ".old", ".new"] {
            let path = self.path(dir, suffix);
            if let Ok(file) = OpenOptions::new().write(true).open(&path) {
                let length = file.metadata().map_or(0, |meta| meta.len());
                let zeros = vec![0; usize::try_from(length.min(FILE_BYTES_MAX)).unwrap_or(0)];
                let _ = (&file).write_all(&zeros).and_then(|()| file.sync_all());
            }
            remove(&path)?;
        }
        sync_dir(dir)
    }

    /// The error for content that does not fit.
    pub(super) fn rotten(&self, dir: &Path, reason: &'static str) -> StoreError {
        StoreError::Rotten {
            path: self.path(dir, ""),
            reason,
        }
    }

    /// The error for a membership without its keys.
    pub(super) fn missing(&self, dir: &Path) -> StoreError {
        self.unusable(dir, "the file is missing, though a membership was here")
    }

    fn unusable(&self, dir: &Path, reason: &'static str) -> StoreError {
        StoreError::Keys {
            path: self.path(dir, ""),
            reason,
            way_out: "put back a copy of this file, or remove the whole directory and join again with a new invite",
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    remove(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_at("write", path))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes renames and removals in a directory last.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(io_at("sync", dir))
}
