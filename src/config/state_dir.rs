//! The state directory: private, owned by one daemon, and the few small files in it that are not the store's.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{AccessFlags, Uid, access};

use crate::failure::{Exit, Failure};

/// Makes `dir` with mode 0700 if it is missing, and checks that only this user can read it and that it takes files.
///
/// # Errors
/// With the sentence for what is wrong and the command that mends it.
pub(crate) fn prepare(dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    match fs::metadata(dir) {
        Ok(found) if !found.is_dir() => {
            let text = format!("the state directory {shown} is a file");
            Err(Failure::new(Exit::Refused, "state_dir", text)
                .hint("name another: --state-dir DIR"))
        }
        Ok(found) => check_private(dir, &found),
        Err(error) if error.kind() == ErrorKind::NotFound => make(dir),
        Err(error) => Err(unwritable(dir, &error)),
    }?;
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| unwritable(dir, &error))
}

/// Whether a network lives in `dir`: its keys are there, or this user cannot look.
pub(crate) fn holds_network(dir: &Path) -> bool {
    match fs::metadata(dir.join("keys")) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// The operator that was saved in `dir`.
pub(crate) fn operator(dir: &Path) -> Option<Uid> {
    let text = fs::read_to_string(dir.join("operator")).ok()?;
    text.trim().parse().ok().map(Uid::from_raw)
}

/// Saves the operator in `dir`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save_operator(dir: &Path, operator: Uid) -> Result<(), Failure> {
    fs::write(dir.join("operator"), format!("{operator}\n"))
        .map_err(|error| unwritable(dir, &error))
}

/// Makes a missing folder, and missing ones above it, with mode 0755 whatever the umask is. What is there stays as it
/// is.
///
/// # Errors
/// When the file system refuses.
pub(crate) fn make_public(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_public(above)?;
    }
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::world(&format!("cannot make {}", folder.display()), cause)
    };
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(&error)),
        Ok(()) | Err(_) => {}
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(|e| failed(&e))
}

fn make(dir: &Path) -> Result<(), Failure> {
    if let Some(above) = dir.parent() {
        // The folder above holds one private directory for each network; names are not secret.
        make_public(above)?;
    }
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.map_err(|error| unwritable(dir, &error))?;
    // The umask may have taken bits away.
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(dir, mode).map_err(|error| unwritable(dir, &error))
}

fn check_private(dir: &Path, found: &fs::Metadata) -> Result<(), Failure> {
    let shown = dir.display();
    let own = Uid::effective();
    if found.uid() != own.as_raw() {
        let text = format!("the state directory {shown} belongs to another user");
        return Err(Failure::new(Exit::Refused, "state_dir", text)
            .hint(format!("sudo chown {own} {shown}")));
    }
    if found.mode() & 0o077 != 0 {
        let text =
            format!("others can read the state directory {shown}; private keys would lie there");
        return Err(
            Failure::new(Exit::Refused, "state_dir", text).hint(format!("chmod 700 {shown}"))
        );
    }
    Ok(())
}

fn unwritable(dir: &Path, cause: &dyn std::fmt::Display) -> Failure {
    let text = format!(
        "the state directory {} is not writable: {cause}",
        dir.display()
    );
    Failure::new(Exit::Refused, "state_dir", text).hint("name another: --state-dir DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_the_cure() {
        let failure = prepare(Path::new("/proc/meshnode")).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(
            failure
                .text
                .starts_with("the state directory /proc/meshnode is not writable")
        );
        assert_eq!(failure.hints, ["name another: --state-dir DIR"]);
    }

    #[test]
    fn a_missing_directory_is_made_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        prepare(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        let above = fs::metadata(root.path().join("a")).unwrap();
        assert_eq!(above.mode() & 0o777, 0o755);
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused_with_the_cure() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let failure = prepare(root.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.hints,
            [format!("chmod 700 {}", root.path().display())]
        );
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("state");
        fs::write(&file, b"").unwrap();
        assert!(prepare(&file).unwrap_err().text.ends_with("is a file"));
    }

    #[test]
    fn the_operator_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(operator(root.path()), None);
        save_operator(root.path(), Uid::from_raw(1000)).unwrap();
        assert_eq!(operator(root.path()), Some(Uid::from_raw(1000)));
    }

    #[test]
    fn keys_make_a_network() {
        let root = tempfile::tempdir().unwrap();
        assert!(!holds_network(root.path()));
        fs::write(root.path().join("keys"), b"").unwrap();
        assert!(holds_network(root.path()));
    }
}
