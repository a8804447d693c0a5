//! `meshnode status`, and `meshnode` alone.

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::session::Session;
use super::usage;
use crate::config::place::{self, Place};
use crate::control::report::{NodeState, StatusReport};
use crate::failure::{Exit, Failure};
use crate::output::{self, json, status};

/// Show who is there, by which path, and what needs your attention
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode status
  meshnode status --watch
  meshnode status --check -q || echo 'the network needs a look'")]
pub(crate) struct Args {
    /// Show it again every 2 s
    #[arg(long)]
    watch: bool,
    /// Exit 1 on any warning, and when down or isolated
    #[arg(long)]
    check: bool,
    /// All columns, however narrow the terminal
    #[arg(long)]
    wide: bool,
    /// With --json: one object with all networks of this machine
    #[arg(long)]
    all: bool,
}

/// Shows the state.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let places = session.places()?;
    if places.is_empty() {
        return Err(Failure::no_network());
    }
    if session.style.json && places.len() > 1 && !args.all {
        let names: Vec<String> = places.into_iter().map(|place| place.local_name).collect();
        return Err(place::which(&names).hint("--all for all of them"));
    }
    loop {
        let redraw = args.watch && !session.style.json && !session.style.plain;
        if redraw && io::stdout().is_terminal() {
            output::data("\u{1b}[H\u{1b}[2J")?;
        }
        let exit = show(args, session, &places)?;
        if !args.watch {
            return Ok(exit);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

fn show(args: &Args, session: &Session, places: &[Place]) -> Result<Exit, Failure> {
    if session.style.json && args.all {
        return show_all(args, session, places);
    }
    let mut exit = Exit::Done;
    for (at, place) in places.iter().enumerate() {
        let report = match session.report(place) {
            Ok(report) => report,
            Err(failure) if places.len() == 1 => return Err(failure),
            Err(failure) => {
                exit = Exit::Refused;
                output::data(&missing(place, &failure))?;
                continue;
            }
        };
        if needs_a_look(&report) {
            exit = Exit::Refused;
        }
        if session.style.quiet && args.check {
            continue;
        }
        if session.style.json {
            output::data(&json::status(&report))?;
            continue;
        }
        let width = if args.wide {
            usize::MAX
        } else {
            output::width()
        };
        let gap = if at > 0 { "\n" } else { "" };
        let screen = status::screen(&report, session.style, width);
        output::data(&output::painted(session.style, format!("{gap}{screen}")))?;
    }
    Ok(if args.check { exit } else { Exit::Done })
}

fn show_all(args: &Args, session: &Session, places: &[Place]) -> Result<Exit, Failure> {
    let one = |place: &Place| (place.local_name.clone(), session.report(place));
    let all: Vec<_> = places.iter().map(one).collect();
    let bad = all.iter().any(|(_, report)| match report {
        Ok(report) => needs_a_look(report),
        Err(_) => true,
    });
    if !(session.style.quiet && args.check) {
        output::data(&json::statuses(&all))?;
    }
    Ok(if args.check && bad {
        Exit::Refused
    } else {
        Exit::Done
    })
}

/// One line of state a network, then the help.
pub(crate) fn front_page(session: &Session) -> Result<Exit, Failure> {
    let places = session.places()?;
    let mut text = String::new();
    for place in &places {
        text.push_str(&match session.report(place) {
            Ok(report) => format!("{}\n", status::state_line(&report)),
            Err(failure) => missing(place, &failure),
        });
    }
    if !places.is_empty() {
        text.push('\n');
    }
    output::data(&format!("{text}{}", usage::HELP))?;
    Ok(Exit::Done)
}

fn missing(place: &Place, failure: &Failure) -> String {
    let hint = failure.hints.first();
    let hint = hint.map_or(String::new(), |hint| format!(": {hint}"));
    format!(
        "{}: {}{hint}\n",
        place.local_name,
        output::clean(&failure.text)
    )
}

fn needs_a_look(report: &StatusReport) -> bool {
    report.state != NodeState::Running || !report.warnings.is_empty()
}

const WATCH_INTERVAL: Duration = Duration::from_secs(2);
