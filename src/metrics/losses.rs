//! Packets that the kernel lost around the daemon: totals from counters that others reset.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::label::labels;

labels! {
    /// Where the kernel dropped a packet.
    pub enum LossCause {
        /// The device's queue was full, because its reader was too slow: `tx_dropped` of the link.
        Transmit = "transmit",
        /// The host's stack had no room for a packet from the device: `rx_dropped` of the link.
        Receive = "receive",
        /// The queueing discipline of the device was full.
        Qdisc = "qdisc",
        /// The receive buffer of the daemon's socket was full.
        SocketBuffer = "socket_buffer",
    }
}

/// One counter of the kernel, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The device's name, or that of the socket.
    pub device: String,
    /// Distinguishes the counters of one device.
    pub cause: LossCause,
    /// As the kernel counts.
    pub count: u64,
    /// The kernel has counted since before the daemon started: what it shows first does not count.
    pub is_older: bool,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    last: u64,
    total: u64,
}

/// The losses since the daemon started. They never decrease, although a device that is created again starts at 0.
#[derive(Debug, Default)]
pub struct Losses(Mutex<BTreeMap<(String, LossCause), Account>>);

impl Losses {
    /// Adds what was lost since the last look.
    pub fn observe(&self, observed: impl IntoIterator<Item = Observed>) {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Observed { device, cause, count, is_older } in observed {
            let first = Account { last: if is_older { count } else { 0 }, total: 0 };
            let account = accounts.entry((device, cause)).or_insert(first);
            let since = count.checked_sub(account.last).unwrap_or(count);
            *account = Account { last: count, total: account.total + since };
        }
    }

    /// Every counter that was ever observed: device, cause and packets.
    pub fn read(&self) -> Vec<(String, LossCause, u64)> {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().map(|((device, cause), account)| (device.clone(), *cause, account.total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_continues_when_the_device_begins_again_and_never_decreases() {
        for (is_older, expected) in [(false, [5, 7, 7, 8, 10]), (true, [0, 2, 2, 3, 5])] {
            let losses = Losses::default();
            let totals = [5, 7, 7, 1, 3].map(|count| {
                let device = "lvsd0".to_owned();
                losses.observe([Observed { device, cause: LossCause::Transmit, count, is_older }]);
                losses.read()[0].2
            });
            assert_eq!(totals, expected);
        }
    }

    #[test]
    fn each_device_and_cause_has_a_total_of_its_own() {
        let losses = Losses::default();
        let of = |device: &str, cause, count| Observed {
            device: device.to_owned(),
            cause,
            count,
            is_older: false,
        };
        losses.observe([
            of("lvsd0", LossCause::Transmit, 1),
            of("lvsd0", LossCause::Qdisc, 2),
            of("eth0", LossCause::Qdisc, 3),
        ]);
        let read: Vec<_> =
            losses.read().into_iter().map(|(device, cause, total)| (device, cause.label(), total)).collect();
        let row = |device: &str, cause, total| (device.to_owned(), cause, total);
        assert_eq!(read, [row("eth0", "qdisc", 3), row("lvsd0", "transmit", 1), row("lvsd0", "qdisc", 2)]);
    }
}
