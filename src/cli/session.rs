//! One run of the command line: which network is meant, who is at its socket, how to write.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use nix::unistd::{Uid, User};

use super::Globals;
use crate::config::place::{self, Place, Roots, Wish};
use crate::config::settings::Settings;
use crate::config::state_dir;
use crate::control::client::{Client, Unreachable, address};
use crate::control::report::StatusReport;
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::acts::Here;
use crate::output::{self, Style};

/// What all verbs need.
#[derive(Debug)]
pub(crate) struct Session {
    /// How to write.
    pub(crate) style: Style,
    /// Whether every question is answered with yes.
    pub(crate) yes: bool,
    /// Whether to print the daemon's log lines, too.
    reading_along: bool,
    wish: Wish,
    roots: Roots,
}

impl Session {
    /// A session of these flags.
    pub(crate) fn new(globals: Globals) -> Self {
        Self {
            style: globals.style(),
            yes: globals.yes,
            reading_along: globals.verbose > 1,
            wish: globals.wish(),
            roots: Roots::default(),
        }
    }

    /// All places that are meant: the chosen one, or every one of the system.
    pub(crate) fn places(&self) -> Result<Vec<Place>, Failure> {
        let places = self.meant()?;
        let names: Vec<&str> = places
            .iter()
            .map(|place| place.local_name.as_str())
            .collect();
        self.reason(&format!("network here: {}", names.join(", ")));
        Ok(places)
    }

    fn meant(&self) -> Result<Vec<Place>, Failure> {
        if let Some(place) = self.wish.explicit(&self.roots)? {
            return Ok(vec![place]);
        }
        let all = self.inhabited();
        let Some(typed) = &self.wish.network else {
            return Ok(all);
        };
        if let Some(place) = all.iter().find(|place| place.local_name == *typed) {
            return Ok(vec![place.clone()]);
        }
        let known = |place: &&Place| {
            self.report(place)
                .is_ok_and(|report| is_called(&report, typed))
        };
        let found: Vec<Place> = all.iter().filter(known).cloned().collect();
        let names: Vec<String> = all.into_iter().map(|place| place.local_name).collect();
        match found.len() {
            0 => Err(place::unknown(typed, &names)),
            1 => Ok(found),
            _ => Err(place::which(&names)),
        }
    }

    /// The places of the system where a network is, or may be for all that this user can see. A folder that stayed
    /// behind, or a daemon without a network, is none.
    fn inhabited(&self) -> Vec<Place> {
        let mut all = self.roots.all();
        if all.len() > 1 {
            all.retain(|place| {
                let empty = |failure: Failure| failure.exit == Exit::NoNetwork;
                !self.report(place).is_err_and(empty)
            });
        }
        all
    }

    /// What the networks that are meant, and whose daemons answer, say of themselves.
    ///
    /// # Errors
    /// When none answers.
    pub(crate) fn reports(&self) -> Result<(Vec<Place>, Vec<StatusReport>), Failure> {
        let places = self.places()?;
        let (mut alive, mut reports) = (Vec::new(), Vec::new());
        let mut failed = Failure::no_network();
        for place in places {
            match self.report(&place) {
                Ok(report) => {
                    reports.push(report);
                    alive.push(place);
                }
                Err(failure) => failed = failure,
            }
        }
        if reports.is_empty() {
            return Err(failed);
        }
        Ok((alive, reports))
    }

    /// The state directory that was typed.
    pub(crate) fn typed_state_dir(&self) -> Option<&Path> {
        self.wish.state_dir.as_deref()
    }

    /// A reason, for who asked for reasons.
    pub(crate) fn reason(&self, text: &str) {
        output::reason(self.style, &format!("{}\n", output::clean(text)));
    }

    /// The one place that is meant.
    pub(crate) fn place(&self) -> Result<Place, Failure> {
        let mut places = self.places()?;
        match (places.pop(), places.is_empty()) {
            (None, _) => Err(Failure::no_network()),
            (Some(place), true) => Ok(place),
            (Some(last), false) => {
                places.push(last);
                let names: Vec<String> = places.into_iter().map(|place| place.local_name).collect();
                Err(place::which(&names))
            }
        }
    }

    /// The place where a network is to be made or joined: it need not exist.
    pub(crate) fn new_place(&self) -> Result<Place, Failure> {
        if let Some(place) = self.wish.explicit(&self.roots)? {
            return Ok(place);
        }
        self.roots
            .place_of(self.wish.network.as_deref().unwrap_or(place::FIRST))
    }

    /// The daemon of a place.
    pub(crate) fn client(&self, place: &Place) -> Result<Client, Failure> {
        let client = Client::connect(&place.socket).map_err(|why| match why {
            Unreachable::NotPermitted => not_permitted(place),
            Unreachable::NotRunning if state_dir::holds_network(&place.state_dir) => {
                let text = format!("the daemon of {} does not run", place.local_name);
                Failure::new(Exit::NoDaemon, "no_daemon", text).hint(self.command(place, "up"))
            }
            Unreachable::NotRunning => Failure::no_network(),
        })?;
        let client = client.called(self.called(place));
        self.reason(&format!("asking {}", place.socket.display()));
        Ok(if self.reading_along {
            client.reading_along(output::log_line)
        } else {
            client
        })
    }

    /// The state of a place's network.
    pub(crate) fn report(&self, place: &Place) -> Result<StatusReport, Failure> {
        let response = self.client(place)?.ask(&Request::Status)?;
        let Response::Status(mut report) = response else {
            return Err(unexpected());
        };
        report.local_name.clone_from(&place.local_name);
        if let Some(called) = self.called(place) {
            for warning in &mut report.warnings {
                warning.hint = warning.hint.take().map(|hint| address(&hint, &called));
            }
        }
        Ok(*report)
    }

    /// What a command needs to mean this place; nothing where there is no other.
    fn called(&self, place: &Place) -> Option<String> {
        let several = place.system && self.roots.all().len() > 1;
        several.then(|| format!("-n {}", place.local_name))
    }

    /// A verb for a place as a person with rights types it.
    pub(crate) fn command(&self, place: &Place, verb: &str) -> String {
        if place.system && place.local_name == place::FIRST {
            return format!("sudo meshnode {verb}");
        }
        if place.system {
            return format!("sudo meshnode -n {} {verb}", place.local_name);
        }
        let dir = place.state_dir.display();
        if place.socket == place.state_dir.join("meshnode.sock") {
            return format!("sudo meshnode --state-dir {dir} {verb}");
        }
        let socket = place.socket.display();
        format!("sudo meshnode --state-dir {dir} --socket {socket} {verb}")
    }

    /// What the screens of `init` and `join` say about this machine.
    pub(crate) fn here(&self, place: &Place) -> Here {
        let settings = Settings::load(place, Vec::new()).ok();
        let operator = settings.and_then(|settings| settings.operator());
        let operator = operator.filter(|uid| !uid.is_root());
        // A socket inside the private directory is open to nobody but its owner.
        let open = !place.socket.starts_with(&place.state_dir);
        let name = |uid| User::from_uid(uid).ok().flatten().map(|user| user.name);
        Here {
            up_command: self.command(place, "up"),
            operator: operator.filter(|_| open).and_then(name),
        }
    }

    /// Asks before an act; `--yes` answers.
    ///
    /// # Errors
    /// When the answer is no, or nobody can be asked.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if self.style.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let text = format!("{question} This needs an answer, and nobody can be asked here");
            return Err(Failure::new(Exit::Usage, "needs_yes", text).hint("add --yes"));
        }
        output::say(&format!("{question} [y/N] "));
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Refused,
            "not_confirmed",
            "not confirmed; nothing was done",
        ))
    }
}

/// An answer that does not belong to the request: another version, or a fault.
pub(crate) fn unexpected() -> Failure {
    let text = "the daemon gave an answer that was not asked for";
    Failure::new(Exit::Bug, "bug", text)
        .hint("stop the daemon and start it again: sudo meshnode up")
}

/// That only root may.
pub(crate) fn needs_root() -> Failure {
    let text = "a network device needs administrator rights";
    Failure::new(Exit::Denied, "not_root", text).hint("type it again with sudo in front")
}

fn is_called(report: &StatusReport, typed: &str) -> bool {
    report.network.as_ref().is_some_and(|network| {
        let id = network.id.to_string();
        let begin = typed.to_ascii_lowercase();
        network.name.as_str() == typed || (typed.len() >= 6 && id.starts_with(&begin))
    })
}

fn not_permitted(place: &Place) -> Failure {
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let user = user.map_or("this user".to_owned(), |user| user.name);
    let text = format!("{user} may not ask the daemon of {}", place.local_name);
    Failure::new(Exit::Denied, "not_permitted", text)
        .hint("type it again with sudo in front")
        .hint(
            "or let a group look and use: sudo groupadd -f meshnode; sudo usermod -aG meshnode \
             USER; then start the daemon again",
        )
}
