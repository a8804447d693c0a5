//! The rooms of the packet engine that take packets of strangers apart, without the engine around them.

/// As the engine has them.
#[path = "../../../src/tunnel"]
#[allow(dead_code, reason = "the engine around them uses the rest")]
mod tunnel {
    /// Where the engine opens its device.
    pub(crate) mod device {
        /// As the engine's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Offloads {
            All,
            Tcp,
            None,
        }
    }
    mod merge;
    mod offload;
    mod packet;
    #[path = "../../tests/fuzz/src/packets.rs"]
    pub mod packets;
    mod split;
    mod sum;
    mod transport;
}

pub use tunnel::packets::{cut, merge};
