//! Another key under a running engine.

use meshnode_protocol::peering::{PeerChange, PeerConfig, Roaming};

use crate::lab::as_root;
use crate::node::{config, key, secret};
use crate::pair;

/// Whose key node 2 takes.
const NEW: u8 = 4;

#[test]
fn the_key_before_opens_nothing_and_device_and_port_stay() {
    as_root(
        "rekey::the_key_before_opens_nothing_and_device_and_port_stay",
        || {
            let (left, right, one, mut two) = pair(Roaming::Told);
            left.ping("100.64.0.2");
            let link = |device: &str| right.ip(&format!("-o link show dev {device}"));
            let routes = || right.ip("route show");
            let (device, port) = (two.tunnel.device().to_owned(), two.tunnel.port());
            let before = (link(&device), routes());
            two.tunnel.rekey(&secret(NEW)).unwrap();
            two.meet(1, Roaming::Told);
            two.path(1, Some(one.at("192.0.2.1")));
            assert_eq!((two.tunnel.device(), two.tunnel.port()), (&*device, port));
            assert_eq!((link(&device), routes()), before);

            // Sessions and handshakes of the key before are a stranger's.
            let unauthentic = two.tunnel.losses().unauthentic;
            let (answered, _) = left.try_sh("ping -n -c 3 -i 0.1 -w 1 100.64.0.2");
            assert!(!answered);
            assert!(two.tunnel.losses().unauthentic >= unauthentic + 3);
            one.tunnel.apply(PeerChange::Remove(key(2)));
            one.meet(2, Roaming::Told);
            one.path(2, Some(two.at("192.0.2.2")));
            let unauthentic = two.tunnel.losses().unauthentic;
            let (answered, _) = left.try_sh("ping -n -c 3 -i 0.1 -w 1 100.64.0.2");
            assert!(!answered, "a new handshake with the key before");
            assert!(two.tunnel.losses().unauthentic > unauthentic);

            // Under the new key everything is as it was, in both directions.
            one.tunnel.apply(PeerChange::Remove(key(2)));
            let known = PeerConfig {
                key: key(NEW),
                ..config(2, Roaming::Told)
            };
            one.tunnel.apply(PeerChange::Set(known));
            let path = Some(two.at("192.0.2.2"));
            one.tunnel.apply(PeerChange::Path(key(NEW), path));
            left.ping("100.64.0.2");
            left.ping("fd77::2");
            right.ping("100.64.0.1");
        },
    );
}
