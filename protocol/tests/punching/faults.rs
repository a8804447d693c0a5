//! What is not as one would wish.

/// What goes wrong on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss_permille: u32,
    /// So much later a packet may be, so that packets overtake one another.
    pub(crate) late_us: u64,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        loss_permille: 0,
        late_us: 0,
    };
}

/// Who tells the nodes where they are seen, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) tellers: usize,
    /// So long after the nodes are there does the last of them begin.
    pub(crate) late_ms: u64,
}

impl Sight {
    /// Two, before the nodes meet.
    pub(crate) const FULL: Self = Self {
        tellers: 2,
        late_ms: 0,
    };
}
