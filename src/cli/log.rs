//! `meshnode log`: who did what, on whose authority, when it was said and when it was heard.

use std::time::Duration;

use meshnode_protocol::time::Timestamp;

use super::session::{Session, unexpected};
use crate::clock::Clock;
use crate::config::place::Place;
use crate::control::history::{KINDS, UNKNOWN};
use crate::control::{LogLine, Request, Response};
use crate::failure::{Exit, Failure};
use crate::output::{self, history};
use crate::units;

/// Show who changed what, on whose authority, and whether it counts
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  meshnode log
  meshnode log --node old-pi --kind revoke
  meshnode log --since 7d -f

The order is proved. Dates under SAID are what the authors said.
A TIME is 24h (ago), 2026-11-20, or 2026-11-20T19:04.")]
pub(crate) struct Args {
    /// Only what this node signed, or what is about it
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only acts of this kind; may be repeated
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Vec<String>,
    /// Only what was said since then
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    since: Option<units::TimeWord>,
    /// Only what was said until then
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    until: Option<units::TimeWord>,
    /// Only what this node had heard by then
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    at: Option<units::TimeWord>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// All columns, however narrow the terminal
    #[arg(long)]
    wide: bool,
}

/// Shows the history.
pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let place = session.place()?;
    let (lines, mut ops) = fetch(session, &place, 0)?;
    let address = args
        .node
        .as_ref()
        .and_then(|node| id_of(session, &place, node));
    let sieve = Sieve::new(args, address, Clock::new().now().wall);
    if let Some(node) = &args.node
        && !lines.iter().any(|line| sieve.names(line))
    {
        let text = format!("no node of the history is called {}", output::clean(node));
        return Err(
            Failure::new(Exit::Usage, "unknown_node", text).hint("meshnode log names all of them")
        );
    }
    show(&sieve, &lines, args, session, true)?;
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        std::thread::sleep(FOLLOW_INTERVAL);
        let (lines, now) = fetch(session, &place, ops)?;
        ops = now;
        show(&sieve, &lines, args, session, false)?;
    }
}

fn show(
    sieve: &Sieve<'_>,
    lines: &[LogLine],
    args: &Args,
    session: &Session,
    first: bool,
) -> Result<(), Failure> {
    let lines: Vec<&LogLine> = lines.iter().filter(|line| sieve.keeps(line)).collect();
    if session.style.json {
        let text: String = lines.into_iter().map(history::log_json).collect();
        return output::data(&text);
    }
    if lines.is_empty() && !first {
        return Ok(());
    }
    let width = if args.wide {
        usize::MAX
    } else {
        output::width()
    };
    output::data(&history::log(&lines, session.style, width))?;
    if first && !session.style.plain {
        let text = "The order is proved; dates under SAID are what the authors said.\n";
        output::talk(session.style, text);
    }
    Ok(())
}

fn fetch(session: &Session, place: &Place, skip: usize) -> Result<(Vec<LogLine>, usize), Failure> {
    let mut responses = session.client(place)?.send(&Request::Log { skip })?;
    let mut all = Vec::new();
    loop {
        let Response::Log { lines, ops, last } = responses.next_response()? else {
            return Err(unexpected());
        };
        all.extend(lines);
        if last {
            return Ok((all, ops));
        }
    }
}

/// The id behind an address of the overlay; names and ids are looked up in the history itself.
fn id_of(session: &Session, place: &Place, typed: &str) -> Option<String> {
    let address: std::net::IpAddr = typed.parse().ok()?;
    let report = session.report(place).ok()?;
    let peers = report.peers.iter().map(|peer| &peer.member);
    let mut members = report.this.iter().chain(peers);
    let member = members.find(|member| match address {
        std::net::IpAddr::V4(address) => member.ipv4 == Some(address),
        std::net::IpAddr::V6(address) => member.ipv6 == address,
    });
    member.map(|member| member.id.to_string())
}

/// What of the history is wanted.
struct Sieve<'a> {
    node: Option<String>,
    kinds: &'a [String],
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    at: Option<Timestamp>,
}

impl<'a> Sieve<'a> {
    fn new(args: &'a Args, id: Option<String>, now: Timestamp) -> Self {
        let typed = args.node.as_ref().map(|node| {
            let lower = node.to_ascii_lowercase();
            lower.split('.').next().unwrap_or_default().to_owned()
        });
        let time = |word: &Option<units::TimeWord>| word.as_ref().map(|word| word.before(now));
        Self {
            node: id.or(typed),
            kinds: &args.kind,
            since: time(&args.since),
            until: time(&args.until),
            at: time(&args.at),
        }
    }

    fn keeps(&self, line: &LogLine) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&line.kind);
        let since = self.since.is_none_or(|since| line.said >= since);
        let until = self.until.is_none_or(|until| line.said <= until);
        let at = self
            .at
            .is_none_or(|at| line.heard.unwrap_or(line.said) <= at);
        kind && since && until && at && self.names(line)
    }

    fn names(&self, line: &LogLine) -> bool {
        let Some(node) = &self.node else {
            return true;
        };
        let is = |id: Option<String>, name: Option<&str>| {
            let by_id =
                node.len() >= ID_SYMBOLS_MIN && id.is_some_and(|id| id.starts_with(node.as_str()));
            name == Some(node) || by_id
        };
        let author = &line.author;
        let id = author.id.map(|id| id.to_string());
        let name = author.id.map(|_| author.name.as_str());
        let subject = line.subject.as_ref();
        is(id, name) || subject.is_some_and(|s| is(Some(s.id.clone()), s.name.as_deref()))
    }
}

fn parse_kind(text: &str) -> Result<String, String> {
    let words: Vec<&str> = KINDS
        .iter()
        .map(|(_, word)| *word)
        .chain([UNKNOWN])
        .collect();
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} is none of {}",
        text.escape_default(),
        words.join(", ")
    ))
}

const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// Fewer symbols of an id name too many nodes.
const ID_SYMBOLS_MIN: usize = 6;
