//! Who has how many callers at the socket at one time, so that nobody's fill it for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::Uid;

use super::super::{CALLS_GUEST_MAX, CALLS_MAX, Rights};

/// Callers that are served now, by whose they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    by_user: HashMap<Uid, usize>,
    /// Of all who may not administer.
    guests: usize,
}

/// One caller's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    uid: Uid,
    guest: bool,
}

impl Places {
    /// A place for one more caller of a user, if there is one: who may administer has [`CALLS_MAX`] of his own;
    /// others have [`CALLS_GUEST_MAX`] each, and [`CALLS_MAX`] together.
    pub(super) fn take(&self, uid: Uid, rights: Rights) -> Option<Place> {
        let guest = rights < Rights::Administer;
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_user.get(&uid).copied().unwrap_or_default();
        let room = if guest {
            own < CALLS_GUEST_MAX && taken.guests < CALLS_MAX
        } else {
            own < CALLS_MAX
        };
        if !room {
            return None;
        }
        taken.by_user.insert(uid, own + 1);
        taken.guests += usize::from(guest);
        Some(Place {
            places: self.clone(),
            uid,
            guest,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = self.places.0.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        taken.guests -= usize::from(self.guest);
        if let Some(own) = taken.by_user.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.by_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(places: &Places, uid: u32, rights: Rights) -> Vec<Place> {
        std::iter::from_fn(|| places.take(Uid::from_raw(uid), rights)).collect()
    }

    #[test]
    fn nobody_takes_the_places_of_who_administers() {
        let places = Places::default();
        let one = fill(&places, 1001, Rights::Look);
        assert_eq!(one.len(), CALLS_GUEST_MAX);
        let others: Vec<_> = (1002..1100)
            .map(|uid| fill(&places, uid, Rights::Use))
            .collect();
        assert_eq!(
            one.len() + others.iter().map(Vec::len).sum::<usize>(),
            CALLS_MAX
        );
        let operator = fill(&places, 1000, Rights::Administer);
        assert_eq!(operator.len(), CALLS_MAX);
        assert!(places.take(Uid::from_raw(0), Rights::Administer).is_some());
    }

    #[test]
    fn a_place_that_was_given_back_is_free() {
        let places = Places::default();
        let mut all = fill(&places, 1001, Rights::Look);
        all.pop();
        let again = places.take(Uid::from_raw(1001), Rights::Look);
        assert!(again.is_some());
        drop((all, again));
        let taken = places.0.lock().unwrap();
        assert!(taken.by_user.is_empty());
        assert_eq!(taken.guests, 0);
    }
}
