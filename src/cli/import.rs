//! `meshnode import`: what a file knows and this node does not.

use meshnode_protocol::export::Export;
use meshnode_protocol::op::Op;

use super::session::{Session, unexpected};
use super::verify::{Steps, bad, read};
use crate::control::{Blob, ImportRequest, Imported, Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, history};

/// Take what a file of this network has and this node has not
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode import /media/stick/net.mesh

Everything in the file is checked as if a stranger had sent it.
A node that is not in the network joins first: meshnode join.")]
pub(crate) struct Args {
    /// An export, or - for stdin
    #[arg(value_name = "FILE")]
    file: String,
}

/// Bytes of items in one request; as text they are twice as long.
const REQUEST_BYTES: usize = 64 * 1024;

/// Imports.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let bytes = read(&args.file)?;
    let export = Export::parse(&bytes).map_err(|error| bad(&args.file, &error))?;
    export
        .check_hash()
        .map_err(|error| bad(&args.file, &error))?;
    let first = export.ops.first().copied().unwrap_or_default();
    let genesis = Op::parse_genesis(first);
    let (genesis, _) = genesis.map_err(|error| bad(&args.file, &error))?;
    let place = session.place()?;
    let empty = || ImportRequest {
        network: genesis.id().network(),
        ops: Vec::new(),
        admits: Vec::new(),
        records: Vec::new(),
    };
    let send = |request: ImportRequest| -> Result<Imported, Failure> {
        let response = session.client(&place)?.ask(&Request::Import(request))?;
        let Response::Imported(imported) = response else {
            return Err(unexpected());
        };
        Ok(imported)
    };
    let mut steps = Steps::new(session.style, "taken", export.len());
    let (mut total, mut request, mut room) = (Imported::default(), empty(), REQUEST_BYTES);
    let lists = [&export.ops, &export.admits, &export.records];
    let items = (0..)
        .zip(lists)
        .flat_map(|(list, items)| items.iter().map(move |i| (list, *i)));
    for (done, (list, item)) in items.enumerate() {
        if item.len() > room && room < REQUEST_BYTES {
            add(&mut total, send(std::mem::replace(&mut request, empty()))?);
            room = REQUEST_BYTES;
            steps.reach(done);
        }
        room = room.saturating_sub(item.len());
        let blobs = match list {
            0 => &mut request.ops,
            1 => &mut request.admits,
            _ => &mut request.records,
        };
        blobs.push(Blob(item.to_vec()));
    }
    add(&mut total, send(request)?);
    if session.style.json {
        output::data(&history::imported_json(&total))?;
    }
    output::talk(session.style, &history::imported(&total));
    if total.refused > 0 {
        let text = format!(
            "{} items of the file do not hold and were left out",
            total.refused
        );
        return Err(Failure::new(Exit::Refused, "bad_export", text)
            .hint(format!("meshnode verify {} names the first", args.file)));
    }
    Ok(Exit::Done)
}

fn add(total: &mut Imported, new: Imported) {
    total.ops += new.ops;
    total.admits += new.admits;
    total.records += new.records;
    total.refused += new.refused;
}
