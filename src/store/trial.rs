//! The change of the policy that is on trial: a small file, so that no end of the program makes it permanent.

use std::path::Path;

use meshnode_protocol::id::OpId;
use meshnode_protocol::io::Trial;
use meshnode_protocol::time::Timestamp;

use super::fault::StoreError;
use super::sealed::SealedFile;

const TRIAL: SealedFile = SealedFile::new("trial", *b"meshtrlX");

/// Reads it; `None` when nothing is on trial. A damaged one is none, too: the copy from before its last change would
/// undo something that was decided long ago, and the policy that is in force can be seen and rolled back.
pub(super) fn read(dir: &Path) -> Result<Option<Trial>, StoreError> {
    match TRIAL.read(dir) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| parse(&bytes))),
        Err(StoreError::Rotten { path, reason }) => {
            tracing::warn!(path = %path.display(), reason, "what is on trial cannot be read");
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

fn parse(bytes: &[u8]) -> Option<Trial> {
    let (op, rest) = bytes.split_first_chunk::<32>()?;
    let (due, rest) = rest.split_first_chunk::<8>()?;
    let for_ms: [u8; 8] = rest.try_into().ok()?;
    Some(Trial {
        op: OpId::new(*op),
        due: Timestamp::from_ms(u64::from_le_bytes(*due)),
        for_ms: u64::from_le_bytes(for_ms),
    })
}

/// Writes it.
pub(super) fn write(dir: &Path, trial: Option<Trial>) -> Result<(), StoreError> {
    let Some(trial) = trial else {
        return TRIAL.erase(dir);
    };
    let mut bytes = trial.op.as_bytes().to_vec();
    bytes.extend(trial.due.ms().to_le_bytes());
    bytes.extend(trial.for_ms.to_le_bytes());
    TRIAL.replace(dir, &bytes)
}

/// Removes it.
pub(super) fn erase(dir: &Path) -> Result<(), StoreError> {
    TRIAL.erase(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_trial_is_there_again_until_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let trial = Trial {
            op: OpId::new([7; 32]),
            due: Timestamp::from_ms(1_790_000_000_000),
            for_ms: 60_000,
        };
        assert!(read(dir.path()).unwrap().is_none());
        write(dir.path(), Some(trial)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(trial));
        let file = dir.path().join("trial");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(read(dir.path()).unwrap().is_none(), "damaged");
        write(dir.path(), Some(trial)).unwrap();
        write(dir.path(), None).unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
