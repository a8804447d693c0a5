//! Whether datagrams of a socket may be cut on their way: an option that no library wraps.

use std::net::UdpSocket;

use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// `IP_MTU_DISCOVER`.
    DiscoverV4,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    i32
);
sockopt_impl!(
    /// `IPV6_MTU_DISCOVER`, whose values are the same.
    DiscoverV6,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    i32
);

/// Forbids it, also where the host has learned that they are too long; or leaves it to the host again.
pub(super) fn set(socket: &UdpSocket, v6: bool, uncut: bool) -> nix::Result<()> {
    let how = if uncut {
        libc::IP_PMTUDISC_PROBE
    } else {
        libc::IP_PMTUDISC_WANT
    };
    if v6 {
        setsockopt(socket, DiscoverV6, &how)
    } else {
        setsockopt(socket, DiscoverV4, &how)
    }
}
