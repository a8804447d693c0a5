//! `meshnode verify`: every byte, signature and rule of a set, from the genesis on, without a daemon.

use std::fs::File;
use std::io::{self, Read};

use meshnode_protocol::export::Export;
use meshnode_protocol::history::names;
use meshnode_protocol::limits::EXPORT_BYTES_MAX;
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::View;

use super::session::Session;
use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::output::verify::Checked;
use crate::output::{self, Style};

/// Check a set from its genesis on: every signature, every right, who counts
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode verify net.mesh
  meshnode verify

With a file it asks nobody and needs no daemon. Without one it checks what this
node has. The order of acts is proved; dates are what their authors said.")]
pub(crate) struct Args {
    /// An export, or - for stdin; this node's own set when not given
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

/// Verifies.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let bytes = match &args.file {
        Some(file) => read(file)?,
        None => super::export::fetch(session)?,
    };
    let name = args.file.as_deref().unwrap_or("this node's set");
    let export = Export::parse(&bytes).map_err(|error| bad(name, &error))?;
    let mut steps = Steps::new(session.style, "checked", export.len());
    let verified = export.verify(|done| steps.reach(done));
    let verified = verified.map_err(|error| bad(name, &error))?;
    let (authority, records) = (&verified.authority, &verified.records);
    // At the beginning of time nothing has expired: what is shown does not depend on the day.
    let view = View::compute(authority, &records.left(), Timestamp::default());
    let checked = Checked {
        authority,
        view: &view,
        names: &names(authority, &view),
        records: export.records.len(),
    };
    let text = if session.style.json {
        checked.json()
    } else {
        checked.screen(session.style, output::width())
    };
    output::data(&text)?;
    Ok(Exit::Done)
}

/// A whole file, or stdin.
pub(super) fn read(name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = EXPORT_BYTES_MAX as u64 + 1;
    let read = if name == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(name).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::world(&format!("cannot read {name}"), &error)),
    }
}

/// A file that does not hold.
pub(super) fn bad(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Refused,
        "bad_export",
        format!("{name} does not hold: {error}"),
    )
    .hint("use another copy, or make a new one: meshnode export --out FILE")
}

/// Says every second how far a long piece of work is.
#[derive(Debug)]
pub(super) struct Steps {
    style: Style,
    act: &'static str,
    of: usize,
    clock: Clock,
    next_ms: u64,
}

impl Steps {
    /// Work on so many things.
    pub(super) fn new(style: Style, act: &'static str, of: usize) -> Self {
        let clock = Clock::new();
        Self {
            style,
            act,
            of,
            clock,
            next_ms: clock.now().uptime_ms() + STEP_MS,
        }
    }

    /// So many are through.
    pub(super) fn reach(&mut self, done: usize) {
        let now_ms = self.clock.now().uptime_ms();
        if now_ms >= self.next_ms {
            self.next_ms = now_ms + STEP_MS;
            output::talk(self.style, &format!("{} {done} of {}\n", self.act, self.of));
        }
    }
}

const STEP_MS: u64 = 1_000;
