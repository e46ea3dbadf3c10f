//! How long a removed real server is expected back: until then its connections wait.
//!
//! `ipvsadm -C` and a later `ipvsadm -R`, or `-d` and `-a`, take a moment, in which the connections have no real server.

use std::collections::HashMap;
use std::time::Duration;

use super::Cluster;
use crate::director::real_server::{Slot, SlotSet};
use crate::time::Moment;

/// Longer than a script needs to clear the table and to fill it again, shorter than it takes to move a VIP to another
/// host.
pub const GRACE: Duration = Duration::from_secs(10);

/// When each awaited real server is given up.
#[derive(Debug, Default)]
pub struct Grace(HashMap<Slot, Moment>);

impl Grace {
    /// Notes what a snapshot awaits, from now on if it is new.
    pub fn follow(&mut self, cluster: &Cluster, now: Moment) {
        let before = std::mem::take(&mut self.0);
        let deadline = |slot: &Slot| before.get(slot).copied().unwrap_or(now.after(GRACE));
        self.0 = cluster.awaited().iter().map(|slot| (*slot, deadline(slot))).collect();
    }

    /// Whether nothing is awaited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The real servers that are no longer awaited, for [`Cluster::end_grace`]; `None` if there is nothing.
    pub fn over(&self, now: Moment) -> Option<SlotSet> {
        let due = self.0.iter().filter(|(_, deadline)| **deadline <= now).map(|(slot, _)| *slot);
        let due: Vec<Slot> = due.collect();
        (!due.is_empty()).then(|| due.into_iter().collect())
    }
}
