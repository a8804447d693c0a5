//! `meshnode relay`: carry sealed packets for strangers, and look at those who do.

mod named;
mod service;
mod test;

use std::path::{Path, PathBuf};

use meshnode_protocol::id::TransportKey;

use super::session::Session;
use crate::config::relay::{self, Said};
use crate::config::{LogFormat, environment};
use crate::failure::{Exit, Failure};
use crate::output::relay::{Ready, ready, status, status_json};
use crate::output::{self, Style};
use crate::units;
use crate::volunteer::{self, socket};

/// Carry sealed packets for others, and name the relays of a network; alone: how this machine's relay does
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo meshnode relay run --public relay.example.org
  sudo meshnode relay service install
  meshnode relay add k7q2m9fdx4@relay.example.org:443

A relay is a member of no network. It needs UDP and TCP at its port, and UDP at the next one.")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Carry for anybody, in the foreground, until Ctrl-C
    Run(RunArgs),
    /// How the relay of this machine does
    Status(StatusArgs),
    /// Let a network use a relay
    Add(named::AddArgs),
    /// Let it use one no more
    Remove(named::RemoveArgs),
    /// The relays of a network, and how this node stands with each
    List,
    /// Whether a relay answers, how fast, and whose it is
    Test(test::Args),
    /// Run the relay at every start of this machine, or no more
    Service(service::Args),
}

#[derive(Debug, Default, clap::Args)]
struct StatusArgs {
    /// Every pair
    #[arg(long)]
    wide: bool,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// All pairs together, as 100Mbit/s
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    rate: Option<u64>,
    /// One pair, as 10Mbit/s
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    pair_rate: Option<u64>,
    /// All pairs in a calendar month, as 1TB/month
    #[arg(long, value_name = "VOLUME", value_parser = units::parse_volume)]
    volume: Option<u64>,
    /// Pairs at the same time; 500 when not given
    #[arg(long, value_name = "N", value_parser = relay::parse_pairs)]
    pairs: Option<usize>,
    /// Port; :443, or :4443 without the right to that
    #[arg(long, value_name = "PORT", value_parser = relay::parse_port)]
    listen: Option<u16>,
    /// Name or address under which others reach this machine
    #[arg(long, value_name = "HOST", value_parser = relay::parse_public)]
    public: Option<String>,
    /// Only for nodes with these transport keys
    #[arg(long, value_name = "KEY", num_args = 1.., value_parser = relay::parse_key)]
    allow: Option<Vec<TransportKey>>,
    /// Only help others to meet
    #[arg(long)]
    introduce_only: bool,
    /// Certificate for TLS (PEM, the whole chain), with --tls-key; without, it makes one that nobody trusts
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Does what was asked; without a verb, shows the status.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    match args.verb {
        None => show(&StatusArgs::default(), session),
        Some(Verb::Status(args)) => show(&args, session),
        Some(Verb::Run(args)) => carry(args, session),
        Some(Verb::Add(args)) => named::add(args, session),
        Some(Verb::Remove(args)) => named::remove(args, session),
        Some(Verb::List) => named::list(session),
        Some(Verb::Test(args)) => test::run(&args, session.style),
        Some(Verb::Service(args)) => service::run(&args, session.style),
    }
}

fn carry(args: RunArgs, session: &Session) -> Result<Exit, Failure> {
    volunteer::start_log(args.log_format, &log_filter());
    let said = Said {
        rate_bps: args.rate,
        pair_bps: args.pair_rate,
        month_bytes: args.volume,
        pairs: args.pairs,
        port: args.listen,
        public: args.public,
        allowed: args.allow,
        introduces_only: args.introduce_only.then_some(true),
        tls_cert: args.tls_cert,
        tls_key: args.tls_key,
    };
    let settings = said.settle(Path::new(FILE))?;
    let style = session.style;
    volunteer::run(&state_dir(session), &settings, |key| {
        say_ready(style, &settings, key);
    })?;
    Ok(Exit::Done)
}

fn say_ready(style: Style, settings: &relay::RelaySettings, key: &TransportKey) {
    let text = ready(&Ready {
        key: &key.to_string(),
        public: settings.public.as_deref(),
        port: settings.port,
        budget: volunteer::budget(settings),
        introduces_only: settings.introduces_only,
    });
    output::talk(style, &text);
}

fn show(args: &StatusArgs, session: &Session) -> Result<Exit, Failure> {
    let report = match socket::ask(&state_dir(session)) {
        // A member carries, too, without a relay of its own.
        Err(failure) if failure.exit == Exit::NoDaemon && session.typed_state_dir().is_none() => {
            return named::carried(session, failure);
        }
        told => told?,
    };
    if session.style.json {
        output::data(&status_json(&report))?;
    } else {
        output::data(&status(&report, args.wide, session.style.plain))?;
    }
    Ok(Exit::Done)
}

fn state_dir(session: &Session) -> PathBuf {
    session
        .typed_state_dir()
        .map_or_else(|| PathBuf::from(STATE_DIR), Path::to_owned)
}

fn log_filter() -> String {
    environment::text("MESHNODE_LOG").unwrap_or_else(|| "info".to_owned())
}

/// Where a relay keeps its key.
const STATE_DIR: &str = "/var/lib/meshnode-relay";
/// Its settings by hand.
const FILE: &str = "/etc/meshnode/relay.toml";
