//! `meshnode daemon`: prepares directories, lock, log and session, then hands over to the daemon's loop.

use nix::unistd::{Uid, setsid};

use super::session::{Session, needs_root};
use crate::config::lock::Lock;
use crate::config::place::Place;
use crate::config::settings::{OnOff, Setting, Settings, TUN_NAME, is_tun_name};
use crate::config::{DaemonConfig, LogFormat, environment, state_dir};
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65534))]
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
    note_operator(&place)?;
    let flags = [
        args.listen_port.map(Setting::ListenPort),
        args.tun_name.map(Setting::TunName),
        args.no_mdns.then_some(Setting::Mdns(OnOff::Off)),
    ];
    let settings = Settings::load(&place, flags.into_iter().flatten().collect())?;
    Ok(DaemonConfig {
        settings,
        state_dir: place.state_dir,
        socket: place.socket,
        local_name: place.local_name,
        log_format: args.log_format,
        log_filter: environment::text("MESHNODE_LOG").unwrap_or_else(|| "info".to_owned()),
    })
}

/// Saves who typed `sudo` at the first start: the operator, unless another is set.
fn note_operator(place: &Place) -> Result<(), Failure> {
    if state_dir::operator(&place.state_dir).is_some() {
        return Ok(());
    }
    let sudo = environment::text("SUDO_UID").and_then(|text| text.parse().ok());
    match sudo.map(Uid::from_raw).filter(|uid| !uid.is_root()) {
        Some(operator) => state_dir::save_operator(&place.state_dir, operator),
        None => Ok(()),
    }
}

/// Makes the folder of the socket; a system's is open for all to pass, the socket itself says who may ask.
fn prepare_socket_folder(place: &Place) -> Result<(), Failure> {
    match place.socket.parent() {
        Some(folder) if folder != place.state_dir => state_dir::make_public(folder),
        Some(_) | None => Ok(()),
    }
}

fn parse_tun_name(text: &str) -> Result<String, String> {
    if !is_tun_name(text) {
        return Err(format!("a device name has {TUN_NAME}"));
    }
    Ok(text.to_owned())
}
