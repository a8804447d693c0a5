//! The one port number of a network on this machine: tunnel UDP N, control TCP N, control QUIC UDP N + 1.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use meshnode_protocol::node::Setup;
use meshnode_protocol::path::Punch;
use tokio::time::sleep;

use crate::config::DaemonConfig;
use crate::failure::{Exit, Failure};

/// Random numbers that are tried.
const TRIES: usize = 64;
/// How often, and after which pauses, the saved number is tried.
const SAVED_TRIES: usize = 40;
const SAVED_PAUSE: Duration = Duration::from_millis(25);
/// The lowest number of ours.
const LOWEST: u16 = 10_000;

/// The port that was asked for, or the saved one while it is free, or a new one, saved.
///
/// The saved one is waited for a little: peers and routers know it, and the sockets of an engine that just ended may
/// still be on their way out.
pub(super) async fn choose(config: &DaemonConfig) -> Result<u16, Failure> {
    if let Some(port) = config.settings.listen_port() {
        return Ok(port);
    }
    let file = file(config);
    let saved = fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(port) = saved {
        for _ in 0..SAVED_TRIES {
            if is_free(port) {
                return Ok(port);
            }
            sleep(SAVED_PAUSE).await;
        }
    }
    for _ in 0..TRIES {
        let random = getrandom::u32()
            .map_err(|error| Failure::world("the system gives no randomness", &error))?;
        let room = u32::from(u16::MAX - 1 - LOWEST);
        let port = LOWEST + u16::try_from(random % room).unwrap_or(0);
        if is_free(port) {
            fs::write(&file, format!("{port}\n"))
                .map_err(|error| Failure::world("cannot save the port number", &error))?;
            return Ok(port);
        }
    }
    Err(
        Failure::new(Exit::Refused, "port", "no free UDP and TCP port was found")
            .hint("meshnode daemon --listen-port N"),
    )
}

/// Forgets the saved port: the membership is over.
pub(super) fn forget(config: &DaemonConfig) {
    let _absent = fs::remove_file(file(config));
}

fn file(config: &DaemonConfig) -> PathBuf {
    config.state_dir.join("port")
}

fn is_free(port: u16) -> bool {
    let any = Ipv4Addr::UNSPECIFIED;
    port < u16::MAX
        && UdpSocket::bind((any, port)).is_ok()
        && UdpSocket::bind((any, port + 1)).is_ok()
        && TcpListener::bind((any, port)).is_ok()
}

/// What the core must know of this program.
pub(super) fn setup(port: u16) -> Setup {
    Setup {
        tunnel_port: port,
        os: std::env::consts::OS.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        punch: Punch::default(),
    }
}
