//! What can go wrong with the store, in the words a person may read.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("another meshnode uses {}", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// The disk is full; what was to be written is kept in memory.
    #[error("the disk of {} is full: {free_bytes} bytes are free", path.display())]
    Full {
        /// The state directory.
        path: PathBuf,
        /// Bytes that were free.
        free_bytes: u64,
    },
    /// The private keys are lost or unreadable: the membership cannot run.
    #[error("the keys in {} cannot be used: {reason}; {way_out}", path.display())]
    Keys {
        /// The keys file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// A file's bytes are not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Rotten {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that a later version of the program wrote.
    #[error("{} was written by a newer meshnode (format {version}); update this one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u16,
    },
    /// The database gave up; the next call opens it again.
    #[error("the store in {} failed: {reason}", path.display())]
    Broken {
        /// The state directory.
        path: PathBuf,
        /// The database's own words.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn in_use(dir: &Path) -> Self {
        Self::InUse {
            path: dir.to_path_buf(),
        }
    }

    pub(super) fn broken(dir: &Path, reason: String) -> Self {
        Self::Broken {
            path: dir.to_path_buf(),
            reason,
        }
    }
}

/// Names the act and the file for an error of the system.
pub(super) fn io_at(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { act, path, source }
}
