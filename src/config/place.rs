//! The networks of this machine: one local name, one state directory, one socket each.

use std::fs;
use std::path::{Path, PathBuf};

use meshnode_protocol::name::Tag;

use super::socket_fits;
use crate::failure::{Exit, Failure};

/// Where one network of this machine lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What this machine calls it.
    pub(crate) local_name: String,
    /// Its state.
    pub(crate) state_dir: PathBuf,
    /// Its daemon's socket.
    pub(crate) socket: PathBuf,
    /// The settings by hand; only the system's networks have them.
    pub(crate) settings: Option<PathBuf>,
    /// Whether the paths are those of the system, so that a name says all.
    pub(crate) system: bool,
}

/// What a person said about which network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// `-n` or `MESHNODE_NETWORK`.
    pub(crate) network: Option<String>,
    /// `--state-dir` or `MESHNODE_STATE_DIR`.
    pub(crate) state_dir: Option<PathBuf>,
    /// `--socket` or `MESHNODE_SOCKET`.
    pub(crate) socket: Option<PathBuf>,
}

/// The folders that hold one entry for each network of the system.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    state: PathBuf,
    run: PathBuf,
    etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/meshnode"),
            run: PathBuf::from("/run/meshnode"),
            etc: PathBuf::from("/etc/meshnode"),
        }
    }
}

/// The local name of a machine's first network.
pub(crate) const FIRST: &str = "main";

impl Wish {
    /// The place that `--state-dir` or `--socket` names, one of the system's or another; nothing when neither was said.
    ///
    /// # Errors
    /// When the socket's path is too long for the system.
    pub(crate) fn explicit(&self, roots: &Roots) -> Result<Option<Place>, Failure> {
        let (state_dir, socket) = match (&self.state_dir, &self.socket) {
            (None, None) => return Ok(None),
            // A system's network keeps its socket elsewhere, so its directory names that one, too.
            (Some(dir), None) if roots.of_state_dir(&absolute(dir)).is_some() => {
                return Ok(roots.of_state_dir(&absolute(dir)));
            }
            (Some(dir), None) => (absolute(dir), absolute(dir).join("meshnode.sock")),
            (Some(dir), Some(socket)) => (absolute(dir), absolute(socket)),
            (None, Some(socket)) => {
                let socket = absolute(socket);
                let dir = socket.parent().map_or_else(PathBuf::new, Path::to_owned);
                (dir, socket)
            }
        };
        if !socket_fits(&socket) {
            let bytes = socket.as_os_str().len();
            let text = format!("the socket's path has {bytes} bytes; the system allows 107");
            return Err(Failure::usage(text).hint("name a shorter one: --socket PATH"));
        }
        let known = roots.of_state_dir(&state_dir);
        if let Some(place) = known.filter(|place| place.socket == socket) {
            return Ok(Some(place));
        }
        let last = state_dir.file_name().unwrap_or_default().to_string_lossy();
        Ok(Some(Place {
            local_name: Tag::from_text(&last, FIRST).to_string(),
            state_dir,
            socket,
            settings: None,
            system: false,
        }))
    }
}

impl Roots {
    /// The place of a local name.
    pub(crate) fn place(&self, local_name: &str) -> Place {
        Place {
            local_name: local_name.to_owned(),
            state_dir: self.state.join(local_name),
            socket: self.run.join(local_name).join("meshnode.sock"),
            settings: Some(self.etc.join(format!("{local_name}.toml"))),
            system: true,
        }
    }

    /// The system's network whose state directory this is.
    fn of_state_dir(&self, dir: &Path) -> Option<Place> {
        let name = dir.strip_prefix(&self.state).ok()?.to_str()?;
        let known = Tag::parse(name).is_ok_and(|tag| tag.as_str() == name);
        known.then(|| self.place(name))
    }

    /// The place of a local name that a person typed.
    ///
    /// # Errors
    /// When the text is no name.
    pub(crate) fn place_of(&self, typed: &str) -> Result<Place, Failure> {
        let name = Tag::parse(typed).map_err(|error| {
            Failure::usage(format!(
                "{} is no local name: {error}",
                typed.escape_default()
            ))
        })?;
        Ok(self.place(name.as_str()))
    }

    /// All networks of the system, `main` first, then by name.
    pub(crate) fn all(&self) -> Vec<Place> {
        let mut names: Vec<String> = [&self.state, &self.run]
            .into_iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| Tag::parse(name).is_ok_and(|tag| tag.as_str() == name))
            .collect();
        names.sort_by_key(|name| (name != FIRST, name.clone()));
        names.dedup();
        names.iter().map(|name| self.place(name)).collect()
    }
}

/// That a choice is needed, with the choices.
pub(crate) fn which(names: &[String]) -> Failure {
    let text = "this machine is in several networks; say which one".to_owned();
    Failure::new(Exit::Usage, "which_network", text).hint(format!("-n {}", names.join(", or -n ")))
}

/// That no network has the name, with those there are.
pub(crate) fn unknown(typed: &str, names: &[String]) -> Failure {
    let text = format!("this machine has no network {}", typed.escape_default());
    let failure = Failure::new(Exit::Usage, "unknown_network", text);
    if names.is_empty() {
        failure.hint("meshnode init, or meshnode join")
    } else {
        failure.hint(format!("-n {}", names.join(", or -n ")))
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(dir: &Path) -> Roots {
        Roots {
            state: dir.join("state"),
            run: dir.join("run"),
            etc: dir.join("etc"),
        }
    }

    #[test]
    fn a_state_directory_names_the_network_and_holds_the_socket() {
        let wish = Wish {
            state_dir: Some(PathBuf::from("/tmp/Work")),
            ..Wish::default()
        };
        let place = wish.explicit(&Roots::default()).unwrap().unwrap();
        assert_eq!(place.local_name, "work");
        assert_eq!(place.socket, Path::new("/tmp/Work/meshnode.sock"));
        assert_eq!((place.settings, place.system), (None, false));
    }

    #[test]
    fn the_paths_of_a_system_network_name_that_network() {
        let roots = roots(Path::new("/nowhere"));
        let work = roots.place("work");
        let mut wish = Wish {
            state_dir: Some(work.state_dir.clone()),
            ..Wish::default()
        };
        assert_eq!(wish.explicit(&roots).unwrap().as_ref(), Some(&work));
        wish.socket = Some(work.socket.clone());
        assert_eq!(wish.explicit(&roots).unwrap().as_ref(), Some(&work));
        assert!(work.system && work.settings.is_some());
        wish.socket = Some(PathBuf::from("/tmp/other.sock"));
        assert!(!wish.explicit(&roots).unwrap().unwrap().system);
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_wrong_usage_with_the_cure() {
        let wish = Wish {
            state_dir: Some(PathBuf::from(format!("/tmp/{}", "x".repeat(100)))),
            ..Wish::default()
        };
        let failure = wish.explicit(&Roots::default()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.hints, ["name a shorter one: --socket PATH"]);
        let short = Wish {
            socket: Some(PathBuf::from("/tmp/x.sock")),
            ..wish
        };
        assert!(short.explicit(&Roots::default()).is_ok());
    }

    #[test]
    fn system_networks_are_found_by_state_and_by_socket_with_main_first() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["state/home", "state/main", "run/main", "run/work", "run/.x"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let names: Vec<String> = roots(dir.path())
            .all()
            .into_iter()
            .map(|place| place.local_name)
            .collect();
        assert_eq!(names, ["main", "home", "work"]);
    }

    #[test]
    fn a_local_name_cannot_leave_its_folder() {
        let failure = Roots::default().place_of("../etc").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn several_networks_are_listed_as_they_are_typed() {
        let failure = which(&["main".to_owned(), "work".to_owned()]);
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.hints, ["-n main, or -n work"]);
    }
}
