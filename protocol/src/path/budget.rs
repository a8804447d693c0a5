//! How much may be sent to addresses that never answered: whoever names an address, and however many name it, it gets
//! no more than this. So no set of members can turn the others against a stranger.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::address::is_local;

/// Ladders that an address which never answered gets at first.
const BURSTS_MAX: u8 = 3;
/// After which one more is allowed.
const BURST_REFILL_MS: u64 = 20 * 60 * 1000;
/// Addresses that are kept account of; beyond that no new one is probed until an old one may be forgotten.
const ADDRESSES_MAX: usize = 8192;
/// Probes a second to addresses that did not answer lately, of all peers together.
const PROBES_PER_S: u64 = 100;
/// So many may go at once: after a start, everybody is looked for.
const PROBES_AT_ONCE: u64 = 1000;
/// What is kept of them for peers that somebody wants.
const PROBES_KEPT: u64 = 400;

/// Why an address is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Because it is time to.
    Search,
    /// Because the peer showed a sign of life, or this node is somewhere else: what is kept for that may be used up.
    Life,
}

#[derive(Debug)]
struct Spent {
    left: u8,
    refill_ms: u64,
}

/// Whose account it is: an address's, whoever names it. A local one means another machine in every network, so that
/// each peer that names it has an account of its own.
type Account = (SocketAddr, Option<[u8; 8]>);

fn account(address: SocketAddr, peer: [u8; 8]) -> Account {
    (address, is_local(&address).then_some(peer))
}

/// What is left of everything.
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: BTreeMap<Account, Spent>,
    /// Probes that were taken and are not given back yet, in thousandths.
    taken: u64,
    taken_ms: u64,
}

impl Budget {
    /// Takes one ladder for an address that never answered.
    pub(super) fn take_burst(
        &mut self,
        address: SocketAddr,
        peer: [u8; 8],
        cause: Cause,
        at: u64,
    ) -> bool {
        let account = account(address, peer);
        if !self.spent.contains_key(&account) && self.spent.len() >= ADDRESSES_MAX {
            let full = u64::from(BURSTS_MAX) * BURST_REFILL_MS;
            self.spent.retain(|_, spent| spent.refill_ms + full > at);
            if self.spent.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let spent = self.spent.entry(account).or_insert(Spent {
            left: BURSTS_MAX,
            refill_ms: at,
        });
        let refills = at.saturating_sub(spent.refill_ms) / BURST_REFILL_MS;
        spent.left = u8::try_from(refills.saturating_add(u64::from(spent.left)))
            .map_or(BURSTS_MAX, |left| left.min(BURSTS_MAX));
        spent.refill_ms += refills * BURST_REFILL_MS;
        let kept = match cause {
            Cause::Search => 1,
            Cause::Life => 0,
        };
        if spent.left <= kept {
            return false;
        }
        if spent.left == BURSTS_MAX {
            spent.refill_ms = at;
        }
        spent.left -= 1;
        true
    }

    /// An address answered: it owes nothing.
    pub(super) fn answered(&mut self, address: SocketAddr, peer: [u8; 8]) {
        self.spent.remove(&account(address, peer));
    }

    /// Takes one probe to an address that did not answer lately.
    pub(super) fn take_probe(&mut self, wanted: bool, at: u64) -> bool {
        let passed = at.saturating_sub(self.taken_ms);
        self.taken_ms = at;
        self.taken = self.taken.saturating_sub(passed * PROBES_PER_S);
        let most = if wanted {
            PROBES_AT_ONCE
        } else {
            PROBES_AT_ONCE - PROBES_KEPT
        };
        let free = self.taken + 1000 <= most * 1000;
        self.taken += u64::from(free) * 1000;
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u16) -> SocketAddr {
        ([198, 51, 100, 1], number).into()
    }

    #[test]
    fn an_address_that_never_answered_gets_three_ladders_the_last_for_a_sign_of_life() {
        let mut budget = Budget::default();
        let mut take = |cause, at| budget.take_burst(address(1024), [1; 8], cause, at);
        assert_eq!([take(Cause::Search, 5), take(Cause::Search, 6)], [true; 2]);
        assert!(!take(Cause::Search, 7));
        assert_eq!([take(Cause::Life, 8), take(Cause::Life, 9)], [true, false]);
        let (one, two) = (5 + BURST_REFILL_MS, 5 + 2 * BURST_REFILL_MS);
        assert!(!take(Cause::Search, one) && take(Cause::Life, one));
        assert!(!take(Cause::Life, two - 1) && take(Cause::Life, two));
        // However long it rests, there are never more than at first.
        let long = 100 * BURST_REFILL_MS;
        let taken = (0..9).filter(|_| take(Cause::Life, long)).count();
        assert_eq!(taken, usize::from(BURSTS_MAX));
    }

    #[test]
    fn one_address_has_one_account_whoever_names_it_unless_it_is_local() {
        let mut budget = Budget::default();
        let mut take = |address, peer| budget.take_burst(address, [peer; 8], Cause::Life, 5);
        let outside = (0..9).filter(|peer| take(address(1024), *peer)).count();
        let local = SocketAddr::from(([192, 168, 1, 2], 41_641));
        let inside = (0..9).filter(|peer| take(local, *peer)).count();
        assert_eq!((outside, inside), (3, 9));
    }

    #[test]
    fn who_answered_owes_nothing() {
        let mut budget = Budget::default();
        for _ in 0..3 {
            assert!(budget.take_burst(address(1024), [1; 8], Cause::Life, 5));
        }
        budget.answered(address(1024), [2; 8]);
        assert!(budget.take_burst(address(1024), [1; 8], Cause::Search, 6));
    }

    #[test]
    fn addresses_without_end_are_not_probed() {
        let mut budget = Budget::default();
        let named = (0..).map(|n: u32| SocketAddr::from((n.to_be_bytes(), 1024)));
        let probed = named.take(2 * ADDRESSES_MAX);
        let mut take = |address: &SocketAddr| budget.take_burst(*address, [1; 8], Cause::Search, 5);
        let probed = probed.filter(|address| take(address));
        assert_eq!(probed.count(), ADDRESSES_MAX);
        let later = 5 + 4 * BURST_REFILL_MS;
        assert!(budget.take_burst(address(9), [1; 8], Cause::Search, later));
    }

    #[test]
    fn probes_of_idle_peers_leave_room_for_those_that_are_wanted() {
        let mut budget = Budget::default();
        let idle = (0..2000).filter(|_| budget.take_probe(false, 5)).count();
        let wanted = (0..2000).filter(|_| budget.take_probe(true, 5)).count();
        assert_eq!((idle, wanted), (600, 400));
        let second = (0..1000).filter(|_| budget.take_probe(true, 1005)).count();
        assert_eq!(second as u64, PROBES_PER_S);
    }
}
