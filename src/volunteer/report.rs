//! How a relay does, as it travels to its operator.

use serde::{Deserialize, Serialize};

/// How a relay does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its key, printed.
    pub(crate) key: String,
    /// Under which name or address others reach it, if it was told.
    pub(crate) public: Option<String>,
    pub(crate) port: u16,
    pub(crate) uptime_s: u64,
    /// The wall clock of the report.
    pub(crate) now_ms: u64,
    /// Peers that can be reached by it.
    pub(crate) clients: usize,
    /// Circuits that stand.
    pub(crate) circuits: usize,
    /// What comes, over the last seconds.
    pub(crate) rate_bps: u64,
    /// What came in this month.
    pub(crate) month_bytes: u64,
    /// Pairs that were slowed within the last hour.
    pub(crate) slowed: usize,
    pub(crate) introduces_only: bool,
    pub(crate) budget: Budget,
    /// The pairs by UDP, the fastest first.
    pub(crate) pairs: Vec<Pair>,
}

/// Two clients between which datagrams pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pair {
    /// A short name, the same at every look.
    pub(crate) id: String,
    pub(crate) since_s: u64,
    pub(crate) rate_bps: u64,
    /// Bytes of one of the two.
    pub(crate) rx_bytes: u64,
    /// Bytes of the other.
    pub(crate) tx_bytes: u64,
    /// Whether it was slowed within the last minute.
    pub(crate) limited: bool,
}

/// What a relay may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) rate_bps: u64,
    pub(crate) pair_bps: u64,
    pub(crate) month_bytes: u64,
    pub(crate) pairs: usize,
}

impl Report {
    /// What networks add the relay with: the first symbols of its key, where it is, and the port.
    pub(crate) fn address(&self) -> String {
        address(&self.key, self.public.as_deref(), self.port)
    }
}

/// The address of a relay for people; `HOST` stands for what it was not told.
pub(crate) fn address(key: &str, public: Option<&str>, port: u16) -> String {
    let front: String = key.chars().take(KEY_SYMBOLS).collect();
    format!("{front}@{}:{port}", public.unwrap_or("HOST"))
}

/// Symbols of a relay's key that an address shows: 50 bits.
pub(crate) const KEY_SYMBOLS: usize = 10;
