//! A value that remembers that somebody may have changed it: what follows from it need not be computed at every packet.

use std::ops::{Deref, DerefMut};

/// A value, and whether it was lent for changing.
#[derive(Debug, Default)]
pub(in crate::node) struct Watched<T> {
    value: T,
    touched: bool,
}

impl<T> Watched<T> {
    /// Whether it may have changed since [`Self::settle`].
    pub(super) const fn is_touched(&self) -> bool {
        self.touched
    }

    /// Lends it for a change from which nothing follows that is kept in mind.
    pub(in crate::node) const fn quietly(&mut self) -> &mut T {
        &mut self.value
    }

    /// What follows from it was computed.
    pub(super) const fn settle(&mut self) {
        self.touched = false;
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Watched<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        &mut self.value
    }
}
