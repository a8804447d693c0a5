//! What becomes of a shelf that is damaged: moved aside, or what is intact of it carried over to a new one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fault::{StoreError, io_at};
use super::shelf::{Census, OpenFault, Shelf};
use super::{
    DAMAGED_KEPT_MAX, Damage, FOLDER, FREE_BYTES_MIN, SALVAGE, free_bytes, name_fault, sealed,
};

/// Opens the shelf; if it cannot be read, moves it aside and opens an empty one.
pub(super) fn open_or_move_aside(
    dir: &Path,
) -> Result<(Shelf, Census, Option<Damage>), StoreError> {
    let reason = match Shelf::open(dir, FOLDER) {
        Ok((shelf, census)) => return Ok((shelf, census, None)),
        Err(OpenFault::InUse) => return Err(StoreError::in_use(dir)),
        Err(OpenFault::Io(error)) => return Err(name_fault(dir, error.to_string())),
        Err(OpenFault::Damaged(reason)) => reason,
    };
    if free_bytes(dir)? < FREE_BYTES_MIN {
        // A store that could not be opened for want of space is not damaged.
        return Err(name_fault(dir, reason));
    }
    let moved_to = move_aside(dir)?;
    let (shelf, census) =
        Shelf::open(dir, FOLDER).map_err(|fault| name_fault(dir, fault.to_string()))?;
    Ok((shelf, census, Some((moved_to, reason))))
}

/// Carries what is intact to a new shelf: a log that sled mended may lose again what is added to it.
pub(super) fn salvage(dir: &Path, old: Shelf) -> Result<Shelf, StoreError> {
    let broken = |fault: &dyn std::fmt::Display| name_fault(dir, fault.to_string());
    let all = old.read_all().map_err(|fault| broken(&fault))?;
    drop(old);
    let (mut new, _) = Shelf::open(dir, SALVAGE).map_err(|fault| broken(&fault))?;
    for (kind, id, bytes) in all {
        new.put(kind, &id, &bytes).map_err(|fault| broken(&fault))?;
    }
    new.flush().map_err(|fault| broken(&fault))?;
    // sled opens some files by their path, so it is closed while the path changes.
    drop(new);
    move_aside(dir)?;
    finish_salvage(dir)?;
    let (shelf, _) = Shelf::open(dir, FOLDER).map_err(|fault| broken(&fault))?;
    Ok(shelf)
}

/// Puts a complete salvaged shelf in its place, removes one that a crash left half done.
pub(super) fn finish_salvage(dir: &Path) -> Result<(), StoreError> {
    let (from, to) = (dir.join(SALVAGE), dir.join(FOLDER));
    if !from.exists() {
        return Ok(());
    }
    if to.exists() {
        return remove_dir(&from);
    }
    fs::rename(&from, &to).map_err(io_at("put in place", &from))?;
    sealed::sync_dir(dir)
}

fn move_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let numbers = damaged_numbers(dir)?;
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    for old in &numbers {
        if old.saturating_add(DAMAGED_KEPT_MAX) <= next {
            remove_dir(&damaged_path(dir, *old))?;
        }
    }
    let to = damaged_path(dir, next);
    let from = dir.join(FOLDER);
    fs::rename(&from, &to).map_err(io_at("move aside", &from))?;
    sealed::sync_dir(dir)?;
    Ok(to)
}

fn damaged_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{}.damaged-{number}", FOLDER))
}

fn damaged_numbers(dir: &Path) -> Result<Vec<u32>, StoreError> {
    let prefix = format!("{}.damaged-", FOLDER);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_at("list", dir))? {
        let name = entry.map_err(io_at("list", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn remove_shelves(dir: &Path) -> Result<(), StoreError> {
    remove_dir(&dir.join(FOLDER))?;
    remove_dir(&dir.join(SALVAGE))?;
    for number in damaged_numbers(dir)? {
        remove_dir(&damaged_path(dir, number))?;
    }
    sealed::sync_dir(dir)
}

fn remove_dir(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
