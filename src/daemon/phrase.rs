//! The recovery phrases that nobody has typed back yet: one file in the state directory, wiped when they were.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Daemon;
use crate::control::SecretText;
use crate::control::{RecoveryFacts, Response, convert};
use crate::failure::{Exit, Failure};

/// One phrase a line.
const FILE: &str = "recovery-phrase";
/// Sixteen phrases fit many times.
const BYTES_MAX: u64 = 16 * 1024;

/// Keeps the phrases of a network that is being made: on the disk before anybody is told.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn keep(dir: &Path, phrases: &[SecretText]) -> io::Result<()> {
    let path = path(dir);
    let mut open = OpenOptions::new();
    let mut file = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    for phrase in phrases {
        writeln!(file, "{}", phrase.reveal())?;
    }
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Whether phrases wait to be typed back.
pub(super) fn is_kept(dir: &Path) -> bool {
    path(dir).exists()
}

/// Forgets them: overwritten as far as the file system lets, then removed.
///
/// # Errors
/// When they cannot be removed.
pub(super) fn wipe(dir: &Path) -> io::Result<()> {
    let path = path(dir);
    let mut file = match OpenOptions::new().write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len().min(BYTES_MAX);
    file.write_all(&vec![0; usize::try_from(length).unwrap_or(0)])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    File::open(dir)?.sync_all()
}

fn read(dir: &Path) -> io::Result<Vec<SecretText>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path(dir))?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text
        .lines()
        .map(|line| SecretText::new(line.to_owned()))
        .collect())
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

impl Daemon {
    /// How the way back stands.
    pub(super) fn recovery_facts(&self) -> Result<RecoveryFacts, Failure> {
        let machine = self.machine.as_ref().ok_or_else(Failure::no_network)?;
        let (threshold, of) = machine.node.recovery().ok_or_else(Failure::no_network)?;
        Ok(RecoveryFacts {
            threshold,
            of,
            kept: is_kept(&self.config.state_dir),
        })
    }

    /// The phrases, as long as nobody typed them back.
    pub(super) fn recovery_show(&self) -> Result<Response, Failure> {
        let dir = &self.config.state_dir;
        if !is_kept(dir) {
            let text = "the recovery phrase is not kept on this machine";
            return Err(Failure::new(Exit::Refused, "no_phrase", text)
                .hint("it is kept where the network was made, until recovery check"));
        }
        let phrases = read(dir).map_err(|e| Failure::world("cannot read the phrase", &e))?;
        Ok(Response::Phrases(phrases))
    }

    /// Compares typed phrases with the root keys of the network; if all are right, the copy here is forgotten.
    pub(super) fn recovery_check(&self, phrases: &[SecretText]) -> Result<Response, Failure> {
        let typed = tokio::task::block_in_place(|| convert::acts::roots(phrases))?;
        let machine = self.machine.as_ref().ok_or_else(Failure::no_network)?;
        let (known, of) = machine.node.known_roots(&typed);
        if known < phrases.len() {
            let text = "that is not the recovery phrase of this network";
            return Err(Failure::new(Exit::Denied, "wrong_phrase", text)
                .hint("look at every word, then try again; nothing was forgotten"));
        }
        let dir = &self.config.state_dir;
        let forgotten = known == of && is_kept(dir);
        if forgotten {
            wipe(dir).map_err(|error| Failure::world("cannot forget the phrase here", &error))?;
        }
        Ok(Response::PhraseChecked {
            known,
            of,
            forgotten,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn phrases_are_private_and_gone_after_the_wipe() {
        let dir = tempfile::tempdir().unwrap();
        let phrases = [
            SecretText::new("one two".to_owned()),
            SecretText::new("three".to_owned()),
        ];
        keep(dir.path(), &phrases).unwrap();
        let mode = fs::metadata(path(dir.path())).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(is_kept(dir.path()));
        assert_eq!(read(dir.path()).unwrap(), phrases);
        wipe(dir.path()).unwrap();
        assert!(!is_kept(dir.path()));
        wipe(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
