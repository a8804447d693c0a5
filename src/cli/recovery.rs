//! `meshnode recovery`: the way back when every admin machine is lost.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use meshnode_protocol::id::NodeId;
use meshnode_protocol::op::petition;

use super::act::Flags;
use super::export::replace;
use super::revoke::parse_since;
use super::session::{Session, unexpected};
use super::{node, phrase};
use crate::control::acts::{Act, Petition, Recovery, Since};
use crate::control::report::StatusReport;
use crate::control::{Request, Response, SecretText};
use crate::failure::{Exit, Failure};
use crate::output::{self, acts, json, signed};

/// The recovery phrase: look at it, check it, use it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode recovery check
  sudo meshnode recovery use --lost laptop
  meshnode recovery sign petition.mesh          where several phrases are needed

The phrase is typed here or comes on stdin, never as an argument.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the phrase, where the network was made, until it was checked
    Show,
    /// Type the phrase back; if it is right, this machine forgets it
    Check,
    /// Make this node an admin again with the phrase
    Use(Use),
    /// Sign what another holder of a phrase began
    Sign {
        /// The file that recovery use wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Use {
    /// A lost admin to put out; may be repeated. All admins that are away if not given
    #[arg(long, value_name = "NODE")]
    lost: Vec<String>,
    /// Put nobody out
    #[arg(long, conflicts_with_all = ["lost", "stolen", "since"])]
    keep: bool,
    /// Somebody else has the keys of the lost ones: what they signed since then falls
    #[arg(long, value_name = "TIME|OP", value_parser = parse_since)]
    since: Option<Since>,
    /// Somebody else has the keys of the lost ones: not even what they revoked stays revoked
    #[arg(long)]
    stolen: bool,
    /// What other holders signed
    #[arg(long, value_name = "FILE")]
    petition: Option<PathBuf>,
    /// Where to write what other holders have to sign
    #[arg(long, value_name = "FILE", default_value = "petition.mesh")]
    out: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

/// Runs one of them.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        None => overview(session),
        Some(Verb::Show) => show(session),
        Some(Verb::Check) => check(session),
        Some(Verb::Use(args)) => use_it(args, session),
        Some(Verb::Sign { file }) => sign(&file, session),
    }
}

fn ask(request: &Request, session: &Session) -> Result<Response, Failure> {
    let place = session.place()?;
    session.client(&place)?.ask(request)
}

fn overview(session: &Session) -> Result<Exit, Failure> {
    let Response::Recovery(facts) = ask(&Request::Recovery, session)? else {
        return Err(unexpected());
    };
    output::data(&if session.style.json {
        json::recovery(&facts)
    } else {
        acts::recovery(&facts)
    })?;
    Ok(Exit::Done)
}

fn show(session: &Session) -> Result<Exit, Failure> {
    let Response::Phrases(phrases) = ask(&Request::RecoveryShow, session)? else {
        return Err(unexpected());
    };
    let lines: Vec<&str> = phrases.iter().map(SecretText::reveal).collect();
    output::data(&if session.style.json {
        json::phrases(&lines)
    } else {
        lines.join("\n") + "\n"
    })?;
    Ok(Exit::Done)
}

fn check(session: &Session) -> Result<Exit, Failure> {
    let phrases = phrase::ask()?;
    let request = Request::RecoveryCheck { phrases };
    let Response::PhraseChecked {
        known,
        of,
        forgotten,
    } = ask(&request, session)?
    else {
        return Err(unexpected());
    };
    if session.style.json {
        output::data(&json::phrase_checked(known, of, forgotten))?;
    }
    let rest = match (forgotten, known < of) {
        (true, _) => " It is forgotten here now: the paper is the only copy.",
        (false, true) => " To have them forgotten here, type all of them.",
        (false, false) => "",
    };
    let what = if of == 1 {
        "The phrase is right.".to_owned()
    } else {
        format!("{known} of {of} phrases are right.")
    };
    output::talk(session.style, &format!("{what}{rest}\n"));
    Ok(Exit::Done)
}

fn use_it(args: Use, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let report = session.report(&place)?;
    let lost = lost(&args, &report)?;
    let petition = args.petition.as_deref().map(read_petition).transpose()?;
    let this = report.this.as_ref();
    let this = this.map_or("this node".to_owned(), |this| this.name.to_string());
    if !args.flags.is_dry() {
        let question = match &petition {
            Some(petition) => told(petition, &report)?,
            None if lost.is_empty() => format!("{this} becomes an admin, nobody is put out."),
            None => format!(
                "{this} becomes an admin, {} out; nodes they let in stay.",
                names(&lost, &report)
            ),
        };
        session.confirm(&format!("{question} Go on?"))?;
    }
    if args.petition.is_none() && args.out.exists() {
        let text = format!("{} is there already", args.out.display());
        return Err(Failure::new(Exit::Refused, "file_exists", text)
            .hint("go on with it: --petition FILE")
            .hint("or write another: --out FILE"));
    }
    let phrases = phrase::ask()?;
    let act = Act::RecoveryUse(Recovery {
        phrases,
        petition,
        lost,
        since: args.since,
        stolen: args.stolen,
    });
    let head = |acted: &crate::control::acts::Acted| {
        let would = if acted.dry_run { "would be" } else { "is" };
        format!(
            "{this} {would} an admin, by the recovery phrase.\n{}The phrase was typed into this \
             machine: if you do not trust it, move to a new network.\n",
            signed::consequences(&acted.plan)
        )
    };
    match args.flags.carry(act, session, head)? {
        None => Ok(Exit::Done),
        Some(petition) => {
            write_petition(&args.out, &petition.bytes)?;
            tell_petition(&petition, &args.out, session)?;
            Ok(Exit::Done)
        }
    }
}

/// What a petition asks for, out of its own bytes: who signs it should know.
fn told(bytes: &[u8], report: &StatusReport) -> Result<String, Failure> {
    let ops = petition::read(bytes)
        .map_err(|_| Failure::new(Exit::Refused, "bad_petition", "the petition is damaged"))?;
    let (mut admins, mut out) = (Vec::new(), Vec::new());
    for body in ops.iter().filter_map(petition::Unsigned::body) {
        if let Some(grant) = body.grant() {
            // With the id: the name is the petition's own word.
            admins.push(format!("{} ({})", grant.name, grant.device.short()));
        }
        out.extend(body.revoke().map(|revoke| revoke.device));
    }
    let known = |id: &NodeId| {
        let mut members = report.peers.iter().map(|peer| &peer.member);
        let member = members.find(|member| member.id == *id);
        member.map_or(id.short(), |member| {
            format!("{} ({})", member.name, id.short())
        })
    };
    let out: Vec<String> = out.iter().map(known).collect();
    let admins = signed::list(admins.iter().map(String::as_str));
    let out = signed::list(out.iter().map(String::as_str));
    Ok(format!(
        "{admins} becomes an admin of level 1; put out: {out}."
    ))
}

fn sign(file: &Path, session: &Session) -> Result<Exit, Failure> {
    let petition = read_petition(file)?;
    let place = session.place()?;
    let report = session.report(&place)?;
    session.confirm(&format!("{} Sign it?", told(&petition, &report)?))?;
    let phrases = phrase::ask()?;
    let request = Request::RecoverySign { petition, phrases };
    let Response::Petition(petition) = ask(&request, session)? else {
        return Err(unexpected());
    };
    write_petition(file, &petition.bytes)?;
    tell_petition(&petition, file, session)?;
    Ok(Exit::Done)
}

/// Those that are named, or all admins that are not reachable.
fn lost(args: &Use, report: &StatusReport) -> Result<Vec<NodeId>, Failure> {
    if args.keep {
        return Ok(Vec::new());
    }
    if args.lost.is_empty() {
        let away = report.peers.iter();
        let away = away.filter(|peer| peer.member.is_admin() && !peer.online);
        return Ok(away.map(|peer| peer.member.id).collect());
    }
    let reports = std::slice::from_ref(report);
    let find = |typed: &String| Ok(node::find(typed, reports)?.peer.member.id);
    args.lost.iter().map(find).collect()
}

fn names(ids: &[NodeId], report: &StatusReport) -> String {
    let members = report.peers.iter().map(|peer| &peer.member);
    let named = members.filter(|member| ids.contains(&member.id));
    signed::list(named.map(|member| member.name.as_str()))
}

fn read_petition(path: &Path) -> Result<Vec<u8>, Failure> {
    let what = format!("cannot read {}", path.display());
    let file = File::open(path).map_err(|error| Failure::world(&what, &error))?;
    let mut bytes = Vec::new();
    let read = file.take(PETITION_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| Failure::world(&what, &error))?;
    Ok(bytes)
}

fn write_petition(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    replace(path, bytes)
        .map_err(|error| Failure::world(&format!("cannot write {}", path.display()), &error))
}

fn tell_petition(petition: &Petition, path: &Path, session: &Session) -> Result<(), Failure> {
    let shown = path.display().to_string();
    if session.style.json {
        output::data(&json::petition(petition, &shown))?;
    }
    let (signed, threshold) = (petition.signed, petition.threshold);
    let next = if signed < threshold {
        format!("Another holder types:  meshnode recovery sign {shown}\n")
    } else {
        format!("Enough. Where it began:  meshnode recovery use --petition {shown}\n")
    };
    let text = format!("{shown} is signed by {signed} of {threshold} needed phrases.\n{next}");
    output::talk(session.style, &text);
    Ok(())
}

/// A petition is two ops and their signatures.
const PETITION_BYTES_MAX: u64 = 64 * 1024;
