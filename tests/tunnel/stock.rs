//! A stock WireGuard at the other end: `wireguard-go`, configured by hand with `wg`.

use std::process::{Command, Stdio};

use meshnode_protocol::peering::{Path, Roaming};

use crate::lab::{Guard, Namespace, as_root, eventually};
use crate::node::Node;

/// The number of the stock node; its secret is that of `node::secret`.
pub(crate) const STOCK: u8 = 5;
/// Its UDP port.
pub(crate) const PORT: u16 = 51820;

/// Starts `wireguard-go` as node 5 with node 1 as its peer.
pub(crate) fn stock(place: &Namespace, device: &str, endpoint: &str) -> Guard {
    let mut command = Command::new("wireguard-go");
    command
        .args(["-f", device])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let guard = place.start(command);
    eventually("wireguard-go's device", || {
        place.try_sh(&format!("wg show {device}")).0
    });
    let key = |number: u8| format!("printf '\\{number:03o}%.0s' $(seq 32) | base64");
    place.sh(&format!(
        "{} > /tmp/{device}.key && wg set {device} private-key /tmp/{device}.key \
         listen-port {PORT} peer $({} | wg pubkey) allowed-ips 100.64.0.1/32,fd77::1/128 {endpoint}; \
         code=$?; rm -f /tmp/{device}.key; exit $code",
        key(STOCK),
        key(1),
    ));
    place.ip(&format!("addr add 100.64.0.5/32 dev {device}"));
    place.ip(&format!("addr add fd77::5/128 dev {device}"));
    place.ip(&format!("link set {device} mtu 1420 up"));
    place.ip(&format!("route add 100.64.0.1 dev {device}"));
    place.ip(&format!("route add fd77::1 dev {device}"));
    guard
}

/// Names are seen by the whole machine through `wireguard-go`'s control socket.
pub(crate) fn device(role: &str) -> String {
    format!("mw{role}{}", std::process::id())
}

pub(crate) fn places() -> (Namespace, Namespace, Node) {
    let (left, right) = (Namespace::new(), Namespace::new());
    left.cable(&right, "cable", 2);
    let node = Node::start(&left, 1, &[STOCK]);
    node.meet(STOCK, Roaming::Follow);
    (left, right, node)
}

#[test]
fn a_stock_wireguard_answers_our_handshake() {
    as_root("stock::a_stock_wireguard_answers_our_handshake", || {
        let (left, right, node) = places();
        let device = device("a");
        let _guard = stock(&right, &device, "");
        node.path(
            STOCK,
            Some(Path::to((crate::lab::outer("192.0.2.2"), PORT).into())),
        );
        left.ping("100.64.0.5");
        left.ping("fd77::5");
        right.ping("100.64.0.1");
        right.ping("fd77::1");
        let handshakes = right.sh(&format!("wg show {device} latest-handshakes"));
        assert!(!handshakes.trim_end().ends_with("\t0"), "{handshakes}");
    });
}

#[test]
fn our_tunnel_answers_a_stock_wireguards_handshake() {
    as_root(
        "stock::our_tunnel_answers_a_stock_wireguards_handshake",
        || {
            let (left, right, node) = places();
            let device = device("b");
            let endpoint = format!("endpoint [fd00:2::1]:{}", node.tunnel.port());
            let _guard = stock(&right, &device, &endpoint);
            right.ping("100.64.0.1");
            right.ping("fd77::1");
            left.ping("100.64.0.5");
            left.ping("fd77::5");
            let transfer = right.sh(&format!("wg show {device} transfer"));
            let bytes: Vec<u64> = transfer
                .split_whitespace()
                .skip(1)
                .map(|count| count.parse().unwrap())
                .collect();
            assert!(bytes.iter().all(|count| *count > 400), "{transfer}");
        },
    );
}
