//! `meshnode daemon`: prepares directories, lock, log and session, then hands over to the daemon's loop.

use nix::unistd::{Uid, setsid};

use super::session::{Session, needs_root};
use crate::config::lock::Lock;
use crate::config::place::Place;
use crate::config::{self, DaemonConfig, LogFormat, TUN_NAME_BYTES_MAX, environment, state_dir};
use crate::failure::{Exit, Failure};

/// Run the daemon in the foreground
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo meshnode daemon
  sudo meshnode -n work daemon --listen-port 41641 --log-format json

It runs with or without a network; init and join start one by themselves.
MESHNODE_LOG sets what is logged: info, debug, meshnode=trace.")]
pub(crate) struct Args {
    /// UDP and TCP port of this node; random and saved when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    listen_port: Option<u16>,
    /// Name of the network device
    #[arg(long, value_name = "NAME", value_parser = parse_tun_name)]
    tun_name: Option<String>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// Neither announce this node nor look for others on the LAN
    #[arg(long)]
    no_mdns: bool,
    /// Leave the terminal's session; for the verbs that start a daemon
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs until it is stopped.
pub(crate) fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    if args.detached {
        setsid().map_err(|error| Failure::world("cannot leave the terminal's session", &error))?;
    }
    if !Uid::effective().is_root() {
        return Err(needs_root());
    }
    let place = session.new_place()?;
    state_dir::prepare(&place.state_dir)?;
    prepare_socket_folder(&place)?;
    let _lock = Lock::take(&place.state_dir)?;
    let config = config(args, place)?;
    crate::daemon::run(config).map(|()| Exit::Done)
}

fn config(args: Args, place: Place) -> Result<DaemonConfig, Failure> {
    let tun_name = args
        .tun_name
        .unwrap_or_else(|| config::tun_name(&place.local_name));
    Ok(DaemonConfig {
        operator: operator(&place)?,
        state_dir: place.state_dir,
        socket: place.socket,
        local_name: place.local_name,
        listen_port: args.listen_port,
        tun_name,
        log_format: args.log_format,
        log_filter: environment::text("MESHNODE_LOG").unwrap_or_else(|| "info".to_owned()),
        mdns: !args.no_mdns,
    })
}

/// The saved operator; else who typed `sudo` at the first start, saved.
fn operator(place: &Place) -> Result<Option<Uid>, Failure> {
    if let Some(saved) = state_dir::operator(&place.state_dir) {
        return Ok(Some(saved));
    }
    let sudo = environment::text("SUDO_UID").and_then(|text| text.parse().ok());
    let Some(operator) = sudo.map(Uid::from_raw).filter(|uid| !uid.is_root()) else {
        return Ok(None);
    };
    state_dir::save_operator(&place.state_dir, operator)?;
    Ok(Some(operator))
}

/// Makes the folder of the socket; a system's is open for all to pass, the socket itself says who may ask.
fn prepare_socket_folder(place: &Place) -> Result<(), Failure> {
    match place.socket.parent() {
        Some(folder) if folder != place.state_dir => state_dir::make_public(folder),
        Some(_) | None => Ok(()),
    }
}

fn parse_tun_name(text: &str) -> Result<String, String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if text.is_empty() || text.len() > TUN_NAME_BYTES_MAX || !text.bytes().all(known) {
        return Err("a device name has 1 to 15 of a-z A-Z 0-9 - _".to_owned());
    }
    Ok(text.to_owned())
}
