//! `meshnode export`: the signed set in a file.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use meshnode_protocol::export::Export;

use super::session::{Session, unexpected};
use crate::control::{Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, history};
use crate::units;

/// Write the signed set of the network into a file, without any private key
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode export --out net.mesh
  meshnode export | ssh box meshnode verify -

Whoever reads the file sees names, addresses and who let whom in.
It seeds another node of the network: meshnode import net.mesh.")]
pub(crate) struct Args {
    /// The file; stdout when not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Exports.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    if args.out.is_none() && (session.style.json || io::stdout().is_terminal()) {
        let text = "an export is no text: it needs a file or a pipe";
        return Err(Failure::usage(text).hint("meshnode export --out net.mesh"));
    }
    let bytes = fetch(session)?;
    let Some(path) = &args.out else {
        output::data_bytes(&bytes)?;
        return Ok(Exit::Done);
    };
    let failed = |cause: &dyn std::fmt::Display| {
        Failure::world(&format!("cannot write {}", path.display()), cause)
    };
    replace(path, &bytes).map_err(|error| failed(&error))?;
    let export = Export::parse(&bytes).map_err(|error| failed(&error))?;
    let name = path.display().to_string();
    if session.style.json {
        output::data(&history::exported_json(&name, bytes.len(), &export))?;
    }
    let text = format!(
        "{}: {} ops, {} admits, {} records, {}. Check it anywhere: meshnode verify {}\n",
        output::clean(&name),
        export.ops.len(),
        export.admits.len(),
        export.records.len(),
        units::bytes(bytes.len() as u64),
        output::clean(&name),
    );
    output::talk(session.style, &text);
    Ok(Exit::Done)
}

/// The file of the chosen network, from its daemon.
pub(super) fn fetch(session: &Session) -> Result<Vec<u8>, Failure> {
    let place = session.place()?;
    let mut responses = session.client(&place)?.send(&Request::Export)?;
    let mut file = Vec::new();
    loop {
        let Response::Exported { bytes, last } = responses.next_response()? else {
            return Err(unexpected());
        };
        file.extend_from_slice(&bytes.0);
        if last {
            return Ok(file);
        }
    }
}

/// Replaces the file as a whole; only its owner reads it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // Whatever lies there is not ours: neither its mode nor where it leads.
    let _ = fs::remove_file(&part);
    let written = options
        .open(&part)
        .and_then(|mut file| io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // What could not become the file is of no use to anybody.
        let _ = fs::remove_file(&part);
    }
    written
}
