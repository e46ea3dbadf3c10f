//! The changes of the connection table, as one stream.
//!
//! A subscriber that applies the changes of a flow in their order has what the table has, except timers.

use super::{Entry, State};
use crate::packet::Flow;
use crate::time::Moment;

/// A change of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first packet of a flow made an entry.
    Added {
        /// Has no other entry.
        flow: Flow,
        /// As it is after that packet.
        entry: Entry,
    },
    /// A packet moved it to another state.
    Moved {
        /// The entry's key, which no packet changes.
        flow: Flow,
        /// Its state before the packet.
        from: State,
        /// As it is after the packet.
        entry: Entry,
    },
    /// `ended` is when it expired, possibly a while ago.
    Removed {
        /// May get a new entry from now on.
        flow: Flow,
        /// As it was last.
        entry: Entry,
        /// The deadline, or the time of the removal if that came first.
        ended: Moment,
    },
}

/// Receives the changes of a table.
///
/// A table calls it with the lock of the connection's shard held, so that the changes of one flow arrive in their
/// order. It therefore must not wait, and must not use the table. A subscriber that has more to do puts the change
/// into a bounded queue, and counts what does not fit.
pub trait Subscriber<C = Change> {
    /// Must return soon: all packets of the shard wait for it.
    fn on_change(&self, change: &C);
}

#[cfg(test)]
pub(in crate::director) mod record {
    use std::cell::RefCell;

    use super::Subscriber;

    /// Records every change.
    pub(in crate::director) struct Record<C>(RefCell<Vec<C>>);

    impl<C> Record<C> {
        pub(in crate::director) fn new() -> Record<C> {
            Record(RefCell::new(Vec::new()))
        }

        /// The changes since the last call.
        pub(in crate::director) fn take(&self) -> Vec<C> {
            self.0.take()
        }
    }

    impl<C: Clone> Subscriber<C> for Record<C> {
        fn on_change(&self, change: &C) {
            self.0.borrow_mut().push(change.clone());
        }
    }
}
