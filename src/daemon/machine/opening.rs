//! Opens the engine, and says to a person why it cannot be.

use meshnode_protocol::io::CarryTerms;
use meshnode_protocol::node::Node;
use meshnode_protocol::peering::TunnelInput;
use tokio::sync::mpsc;

use super::MTU;
use crate::carrier::Carrier;
use crate::failure::{Exit, Failure};
use crate::tunnel::{Offloads, TunError, Tunnel, TunnelConfig};

/// Opens the device and the sockets.
pub(super) fn open_tunnel(
    node: &Node,
    name: &str,
    port: u16,
    reporter: &mpsc::Sender<TunnelInput>,
    carrier: &Carrier,
) -> Result<Tunnel, Failure> {
    let secret = node.danger_tunnel_secret();
    let config = TunnelConfig {
        name: name.to_owned(),
        secret,
        port,
        mtu: MTU,
        control: Some(port),
        offloads: Offloads::default(),
        carrier: carrier.clone(),
    };
    Tunnel::start(config, reporter.clone()).map_err(|error| {
        match error.downcast_ref::<TunError>() {
            Some(error) => tun_failure(error),
            None => port_failure(port, &error),
        }
    })
}

/// Carries datagrams between others on these terms, or not at all.
pub(super) fn carry(tunnel: &Tunnel, terms: Option<CarryTerms>) {
    if let Err(error) = tunnel.carry(terms) {
        tracing::error!(
            error = format!("{error:#}"),
            "nothing is carried for others"
        );
    }
}

fn tun_failure(error: &TunError) -> Failure {
    match error {
        TunError::Permission => Failure::new(Exit::Denied, "rights", error.to_string())
            .hint("type it again with sudo in front"),
        TunError::NoDeviceNode => Failure::new(Exit::Refused, "no_tun", error.to_string())
            .hint("in a container: start it with --device /dev/net/tun --cap-add NET_ADMIN"),
        TunError::NoModule => {
            Failure::new(Exit::Refused, "no_tun", error.to_string()).hint("sudo modprobe tun")
        }
        TunError::InUse(_) => Failure::new(Exit::Refused, "tun_in_use", error.to_string())
            .hint("meshnode daemon --tun-name NAME"),
        TunError::Other(source) => Failure::new(Exit::Refused, "tun", format!("{error}: {source}")),
    }
}

pub(super) fn port_failure(port: u16, error: &anyhow::Error) -> Failure {
    Failure::new(
        Exit::Refused,
        "port",
        format!("cannot listen at port {port}: {error:#}"),
    )
    .hint("meshnode daemon --listen-port N")
}
