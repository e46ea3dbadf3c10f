//! The source ports of probes, handed out in turn, so that the last packets of one probe do not meet the next.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::packet::probe::PORTS;

/// A port of one protocol and destination.
type Key = (u8, SocketAddr, u16);

/// The ports in use.
#[derive(Default)]
pub(super) struct Ports(Mutex<State>);

#[derive(Default)]
struct State {
    taken: HashSet<Key>,
    /// How many ports after the first of the range the search begins.
    next: u16,
}

/// A port as long as this exists.
pub(super) struct Lease {
    ports: Arc<Ports>,
    key: Key,
}

impl Ports {
    /// Ports that a probe tries if other programs have them.
    pub(super) const TRIES: usize = 16;

    /// The next port that is free for this protocol and destination; `None` if none is.
    pub(super) fn take(self: &Arc<Ports>, number: u8, to: SocketAddr) -> Option<Lease> {
        let count = PORTS.end() - PORTS.start() + 1;
        let mut state = self.lock();
        for step in 0..count {
            let offset = (state.next + step) % count;
            let key = (number, to, PORTS.start() + offset);
            if state.taken.insert(key) {
                state.next = (offset + 1) % count;
                return Some(Lease { ports: self.clone(), key });
            }
        }
        None
    }

    /// No code that holds the lock can panic half way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn port(&self) -> u16 {
        self.key.2
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ports.lock().taken.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = 6;

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([172, 25, 3, 100], port))
    }

    #[test]
    fn ports_are_handed_out_in_turn_and_none_twice_at_once_for_one_destination() {
        let ports = Arc::new(Ports::default());
        let taken: Vec<Lease> = (0..2000).map(|_| ports.take(TCP, to(80)).unwrap()).collect();
        assert!(taken.iter().map(Lease::port).eq(61_000..=62_999));
        assert!(ports.take(TCP, to(80)).is_none(), "the range is used up");
        assert_eq!(ports.take(TCP, to(81)).unwrap().port(), 61_000, "another destination");
        assert_eq!(ports.take(17, to(80)).unwrap().port(), 61_001, "another protocol");
        drop(taken);
        assert_eq!(ports.take(TCP, to(80)).unwrap().port(), 61_002, "each port rests as long as possible");
        assert!(ports.lock().taken.is_empty());
    }

    #[test]
    fn a_port_that_is_given_back_can_be_taken_again() {
        let ports = Arc::new(Ports::default());
        let mut taken: Vec<Lease> = (0..2000).map(|_| ports.take(TCP, to(80)).unwrap()).collect();
        assert_eq!(taken.remove(500).port(), 61_500);
        assert_eq!(ports.take(TCP, to(80)).map(|lease| lease.port()), Some(61_500));
    }
}
