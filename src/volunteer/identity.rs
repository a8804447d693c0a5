//! The key of a relay: its own, of no network, kept in its state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// Reads the seed of the key, or makes one and keeps it.
///
/// # Errors
/// When the file is no key, or the disk or the system's randomness refuses.
pub(super) fn load(dir: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let path = dir.join("key");
    match fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let seed: Option<&[u8; 32]> = bytes.as_slice().try_into().ok();
            let seed = seed.ok_or_else(|| {
                let text = format!("{} is no key of a relay", path.display());
                Failure::new(Exit::Refused, "relay_key", text)
            })?;
            Ok(Zeroizing::new(*seed))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make(dir, &path),
        Err(error) => {
            let what = format!("cannot read {}", path.display());
            Err(Failure::world(&what, &error))
        }
    }
}

/// Makes a key; it is whole at its place or not there at all.
fn make(dir: &Path, path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Failure::world("the system gives no randomness", &error))?;
    let fresh = dir.join("key.new");
    let written = || {
        let mut open = OpenOptions::new();
        let open = open.write(true).create(true).truncate(true).mode(0o600);
        let mut file = open.open(&fresh)?;
        file.write_all(seed.as_slice())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(dir)?.sync_all()
    };
    written().map_err(|error| {
        let what = format!("cannot write {}", path.display());
        Failure::world(&what, &error)
    })?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(dir.path()).unwrap();
        assert_eq!(first, load(dir.path()).unwrap());
        assert_ne!(*first, [0; 32]);
        let mode = fs::metadata(dir.path().join("key")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join("key.new").exists());
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key"), b"short").unwrap();
        let failure = load(dir.path()).unwrap_err();
        assert!(failure.text.ends_with("is no key of a relay"), "{failure}");
        assert_eq!(fs::read(dir.path().join("key")).unwrap(), b"short");
    }
}
