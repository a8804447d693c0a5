//! What is wanted of each pair of NATs.

use crate::internet::plan::Nat;

/// Which path a cell is to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Direct,
    Relay,
    /// Nobody cares.
    Any,
}

impl Path {
    /// Whether a tier of `status` is of this kind.
    pub(crate) fn takes(self, tier: &str) -> bool {
        match self {
            Self::Direct => matches!(tier, "lan" | "direct"),
            Self::Relay => matches!(tier, "udp-relay" | "circuit" | "relay"),
            Self::Any => true,
        }
    }
}

/// What is wanted of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) first_ms: u64,
    /// Nothing: by relay for ever.
    pub(crate) direct_ms: Option<u64>,
    pub(crate) path: Path,
}

impl Target {
    pub(crate) const fn direct(first_ms: u64, direct_ms: u64) -> Self {
        Self {
            first_ms,
            direct_ms: Some(direct_ms),
            path: Path::Direct,
        }
    }

    pub(crate) const fn relay(first_ms: u64) -> Self {
        Self {
            first_ms,
            direct_ms: None,
            path: Path::Relay,
        }
    }

    /// Of cells that measure something else.
    pub(crate) const fn other(path: Path) -> Self {
        Self {
            first_ms: 0,
            direct_ms: None,
            path,
        }
    }
}

/// By which means a pair can get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// Both write to the address that others see.
    Plain,
    /// The next ports of a router that counts are foreseen.
    Foreseen,
    /// Many sockets meet many ports.
    Birthday,
    /// None: two NATs that choose ports nobody foresees.
    None,
}

/// Physics, not the product: what pairs of routers let through at all.
pub(crate) fn means(one: Nat, other: Nat) -> Means {
    use Nat::{Addr, FullCone, Public, Sym, SymAddr, SymSeq};
    let pair = [one, other];
    let symmetric = |nat: &Nat| matches!(nat, Sym | SymAddr | SymSeq);
    if pair
        .iter()
        .any(|nat| matches!(nat, Public | FullCone | Addr))
        || !pair.iter().any(symmetric)
    {
        return Means::Plain;
    }
    if pair == [SymSeq; 2] {
        return Means::Foreseen;
    }
    match (pair.iter().all(symmetric), pair.contains(&SymSeq)) {
        (true, _) => Means::None,
        (false, true) => Means::Foreseen,
        (false, false) => Means::Birthday,
    }
}

/// How soon.
pub(crate) fn target(one: Nat, other: Nat) -> Target {
    match means(one, other) {
        Means::Plain => Target::direct(500, 1_000),
        Means::Foreseen => Target::direct(500, 1_500),
        Means::Birthday => Target::direct(500, 5_000),
        Means::None => Target::relay(500),
    }
}

/// All unordered pairs.
pub(crate) fn pairs() -> impl Iterator<Item = (Nat, Nat)> {
    let all = Nat::ALL;
    all.into_iter()
        .enumerate()
        .flat_map(move |(at, one)| all.into_iter().skip(at).map(move |other| (one, other)))
}
