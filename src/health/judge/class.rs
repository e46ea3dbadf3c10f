//! What makes one probe more urgent than another.

/// What a probe is likely to find, and how much depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Up without a doubt.
    Up,
    /// The next outcomes decide, or someone has requested it.
    Open,
    /// Down for certain.
    Down,
}

impl Class {
    /// In this order.
    pub(super) const ALL: [Class; 3] = [Class::Up, Class::Open, Class::Down];

    /// Of so many places, those that probes of this class and the following ones may have together.
    pub(super) const fn ceiling(self, places: usize) -> usize {
        places - places * self as usize / 4
    }
}
